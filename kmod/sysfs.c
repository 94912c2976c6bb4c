// SPDX-License-Identifier: GPL-2.0
/*
 * What is known of a device, in /sys/bus/pci/devices/<BDF>/liveupdate/
 *
 * One value per file; what is not known reads "unknown". abi-sysfs.md says what
 * each means.
 */
#include <linux/pci.h>
#include <linux/sysfs.h>

#include "liveupdate.h"

#define UNKNOWN "unknown\n"

static const char * const state_names[] = {
	[LU_IDLE]	= "idle",
	[LU_PRESERVED]	= "preserved",
	[LU_FROZEN]	= "frozen",
	[LU_INCOMING]	= "incoming",
	[LU_RETRIEVED]	= "retrieved",
	[LU_ATTACHED]	= "attached",
};

/* The driver's data: vfio-pci-core wants the core device, the first member. */
static struct lu_device *to_lu(struct device *dev)
{
	return lu_from_core(dev_get_drvdata(dev));
}

static const struct liveupdate_vfio_pci_facts *
frozen_facts(struct lu_device *lu)
{
	if (!lu->frozen || !(lu->frozen->flags & LIVEUPDATE_VFIO_PCI_FROZEN))
		return NULL;

	return &lu->frozen->facts;
}

static const struct liveupdate_vfio_pci_facts *
retrieved_facts(struct lu_device *lu)
{
	return lu->has_retrieved ? &lu->retrieved : NULL;
}

static ssize_t emit_counter(char *buf, u64 counter)
{
	return counter ? sysfs_emit(buf, "0x%llx\n", counter) :
			 sysfs_emit(buf, UNKNOWN);
}

static ssize_t emit_bridge(char *buf, int at,
			   const struct liveupdate_vfio_pci_bridge *bridge,
			   u16 command)
{
	return sysfs_emit_at(buf, at, "%s%04x:%02x:%02x.%u=0x%04x",
			     at ? " " : "", bridge->domain,
			     PCI_BUS_NUM(bridge->bdf), PCI_SLOT(bridge->bdf),
			     PCI_FUNC(bridge->bdf), command);
}

static ssize_t emit_bridges(char *buf,
			    const struct liveupdate_vfio_pci_facts *facts)
{
	int at = 0;
	u32 i;

	if (!facts || !(facts->valid & LIVEUPDATE_VFIO_PCI_FACT_BRIDGES))
		return sysfs_emit(buf, UNKNOWN);
	for (i = 0; i < facts->bridge_count; i++)
		at += emit_bridge(buf, at, &facts->bridges[i],
				  facts->bridges[i].command);

	return at + sysfs_emit_at(buf, at, "\n");
}

static ssize_t emit_link(char *buf, const struct liveupdate_vfio_pci_facts *facts)
{
	if (!facts || !(facts->valid & LIVEUPDATE_VFIO_PCI_FACT_LINK))
		return sysfs_emit(buf, UNKNOWN);

	return sysfs_emit(buf, "0x%04x\n", facts->link);
}

static ssize_t emit_aer(char *buf, const struct liveupdate_vfio_pci_facts *facts)
{
	if (!facts || !(facts->valid & LIVEUPDATE_VFIO_PCI_FACT_AER))
		return sysfs_emit(buf, UNKNOWN);

	return sysfs_emit(buf, "uncor=0x%08x cor=0x%08x\n", facts->aer_uncor,
			  facts->aer_cor);
}

static ssize_t emit_probe(char *buf, const struct liveupdate_vfio_pci_facts *facts)
{
	if (!facts || !(facts->valid & LIVEUPDATE_VFIO_PCI_FACT_NVME))
		return sysfs_emit(buf, UNKNOWN);

	return sysfs_emit(buf, "cc=0x%08x csts=0x%08x aqa=0x%08x asq=0x%016llx\n",
			  facts->nvme_cc, facts->nvme_csts, facts->nvme_aqa,
			  facts->nvme_asq);
}

static ssize_t emit_command(char *buf,
			    const struct liveupdate_vfio_pci_facts *facts)
{
	return facts ? sysfs_emit(buf, "0x%04x\n", facts->command) :
		       sysfs_emit(buf, UNKNOWN);
}

static ssize_t emit_facts_counter(char *buf,
				  const struct liveupdate_vfio_pci_facts *facts)
{
	return emit_counter(buf, facts ? facts->counter : 0);
}

/* A file that reads something of the facts at freeze or at retrieve. */
#define LU_FACTS_ATTR(moment, what, emit)				\
static ssize_t moment##_##what##_show(struct device *dev,		\
				      struct device_attribute *attr,	\
				      char *buf)			\
{									\
	struct lu_device *lu = to_lu(dev);				\
									\
	guard(mutex)(&lu->lock);					\
	return emit(buf, moment##_facts(lu));				\
}									\
static DEVICE_ATTR_RO(moment##_##what)

LU_FACTS_ATTR(frozen, command, emit_command);
LU_FACTS_ATTR(retrieved, command, emit_command);
LU_FACTS_ATTR(frozen, bridges, emit_bridges);
LU_FACTS_ATTR(retrieved, bridges, emit_bridges);
LU_FACTS_ATTR(frozen, counter, emit_facts_counter);
LU_FACTS_ATTR(retrieved, counter, emit_facts_counter);
LU_FACTS_ATTR(frozen, link, emit_link);
LU_FACTS_ATTR(retrieved, link, emit_link);
LU_FACTS_ATTR(frozen, aer, emit_aer);
LU_FACTS_ATTR(retrieved, aer, emit_aer);
LU_FACTS_ATTR(frozen, probe, emit_probe);
LU_FACTS_ATTR(retrieved, probe, emit_probe);

static ssize_t state_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%s\n", state_names[READ_ONCE(to_lu(dev)->state)]);
}
static DEVICE_ATTR_RO(state);

static ssize_t keeps_bus_master_show(struct device *dev,
				     struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", lu_keeps_bus_master(to_lu(dev)));
}
static DEVICE_ATTR_RO(keeps_bus_master);

static ssize_t arrived_command_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	struct lu_device *lu = to_lu(dev);

	guard(mutex)(&lu->lock);
	return lu->has_arrived ?
	       sysfs_emit(buf, "0x%04x\n", lu->arrived.arrived_command) :
	       sysfs_emit(buf, UNKNOWN);
}
static DEVICE_ATTR_RO(arrived_command);

static ssize_t arrived_counter_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	struct lu_device *lu = to_lu(dev);

	guard(mutex)(&lu->lock);
	return emit_counter(buf, lu->has_arrived ?
			    lu->arrived.arrived_counter : 0);
}
static DEVICE_ATTR_RO(arrived_counter);

static ssize_t arrived_bridges_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	struct lu_device *lu = to_lu(dev);
	const struct liveupdate_vfio_pci_facts *facts;
	int at = 0;
	u32 i;

	guard(mutex)(&lu->lock);
	facts = frozen_facts(lu);
	if (!lu->has_retrieved || !facts ||
	    !(facts->valid & LIVEUPDATE_VFIO_PCI_FACT_BRIDGES) ||
	    hweight32(lu->arrived_bridge_known) != facts->bridge_count)
		return sysfs_emit(buf, UNKNOWN);
	for (i = 0; i < facts->bridge_count; i++)
		at += emit_bridge(buf, at, &facts->bridges[i],
				  lu->arrived_bridges[i]);

	return at + sysfs_emit_at(buf, at, "\n");
}
static DEVICE_ATTR_RO(arrived_bridges);

static ssize_t attached_counter_show(struct device *dev,
				     struct device_attribute *attr, char *buf)
{
	struct lu_device *lu = to_lu(dev);

	guard(mutex)(&lu->lock);
	return emit_counter(buf, lu->attached_counter);
}
static DEVICE_ATTR_RO(attached_counter);

static ssize_t emit_same(char *buf, enum lu_same same, const char *yes,
			 const char *no)
{
	return sysfs_emit(buf, "%s\n", same == LU_SAME ? yes :
			  same == LU_CHANGED ? no : "unknown");
}

static ssize_t canary_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	struct lu_device *lu = to_lu(dev);

	guard(mutex)(&lu->lock);
	return emit_same(buf, lu_compare_canary(lu), "same", "changed");
}
static DEVICE_ATTR_RO(canary);

static ssize_t config_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	struct lu_device *lu = to_lu(dev);

	guard(mutex)(&lu->lock);
	return emit_same(buf, lu->config, "same", "changed");
}
static DEVICE_ATTR_RO(config);

static ssize_t bus_master_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	struct lu_device *lu = to_lu(dev);

	guard(mutex)(&lu->lock);
	return emit_same(buf, lu_bus_master(lu), "kept", "cleared");
}
static DEVICE_ATTR_RO(bus_master);

static ssize_t resets_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&to_lu(dev)->resets));
}
static DEVICE_ATTR_RO(resets);

static struct attribute *lu_attrs[] = {
	&dev_attr_state.attr,
	&dev_attr_keeps_bus_master.attr,
	&dev_attr_frozen_command.attr,
	&dev_attr_arrived_command.attr,
	&dev_attr_retrieved_command.attr,
	&dev_attr_frozen_bridges.attr,
	&dev_attr_arrived_bridges.attr,
	&dev_attr_retrieved_bridges.attr,
	&dev_attr_frozen_counter.attr,
	&dev_attr_arrived_counter.attr,
	&dev_attr_retrieved_counter.attr,
	&dev_attr_attached_counter.attr,
	&dev_attr_frozen_link.attr,
	&dev_attr_retrieved_link.attr,
	&dev_attr_frozen_aer.attr,
	&dev_attr_retrieved_aer.attr,
	&dev_attr_frozen_probe.attr,
	&dev_attr_retrieved_probe.attr,
	&dev_attr_canary.attr,
	&dev_attr_config.attr,
	&dev_attr_bus_master.attr,
	&dev_attr_resets.attr,
	NULL
};

static const struct attribute_group lu_group = {
	.name	= "liveupdate",
	.attrs	= lu_attrs,
};

const struct attribute_group *lu_groups[] = { &lu_group, NULL };
