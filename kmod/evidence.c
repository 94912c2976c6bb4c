// SPDX-License-Identifier: GPL-2.0
/*
 * Evidence: what a device says of itself, and what that means beside what it
 * said at freeze. Reads only; what cannot be read is unknown, never assumed.
 */
#include <linux/aer.h>
#include <linux/io.h>
#include <linux/pci.h>
#include <linux/timex.h>

#include "liveupdate.h"

#define NVME_REG_CC	0x14
#define NVME_REG_CSTS	0x1c
#define NVME_REG_AQA	0x24
#define NVME_REG_ASQ	0x28
#define NVME_REG_END	0x30

/* Registers answer only in D0 and with memory decode on. */
static bool registers_answer(struct pci_dev *pdev)
{
	u16 command;

	if (pdev->current_state != PCI_D0)
		return false;
	pci_read_config_word(pdev, PCI_COMMAND, &command);

	return command != 0xffff && (command & PCI_COMMAND_MEMORY);
}

static void read_nvme(struct pci_dev *pdev,
		      struct liveupdate_vfio_pci_facts *facts)
{
	void __iomem *bar;

	if (pdev->class != PCI_CLASS_STORAGE_EXPRESS || !registers_answer(pdev) ||
	    pci_resource_len(pdev, 0) < NVME_REG_END)
		return;

	bar = ioremap(pci_resource_start(pdev, 0), NVME_REG_END);
	if (!bar)
		return;
	facts->nvme_cc = readl(bar + NVME_REG_CC);
	facts->nvme_csts = readl(bar + NVME_REG_CSTS);
	facts->nvme_aqa = readl(bar + NVME_REG_AQA);
	facts->nvme_asq = readl(bar + NVME_REG_ASQ) |
			  (u64)readl(bar + NVME_REG_ASQ + 4) << 32;
	iounmap(bar);
	facts->valid |= LIVEUPDATE_VFIO_PCI_FACT_NVME;
}

/**
 * lu_count_bridges - how many bridges lie between a device and its root bus
 * @pdev: the device
 *
 * Return: their number.
 */
int lu_count_bridges(struct pci_dev *pdev)
{
	int count = 0;

	while ((pdev = pci_upstream_bridge(pdev)))
		count++;

	return count;
}

static void read_bridges(struct pci_dev *pdev,
			 struct liveupdate_vfio_pci_facts *facts)
{
	int i = lu_count_bridges(pdev);

	if (i > LIVEUPDATE_VFIO_PCI_BRIDGES)
		return;
	facts->bridge_count = i;
	while ((pdev = pci_upstream_bridge(pdev))) {
		struct liveupdate_vfio_pci_bridge *bridge = &facts->bridges[--i];

		bridge->domain = pci_domain_nr(pdev->bus);
		bridge->bdf = pci_dev_id(pdev);
		pci_read_config_word(pdev, PCI_COMMAND, &bridge->command);
	}
	facts->valid |= LIVEUPDATE_VFIO_PCI_FACT_BRIDGES;
}

/**
 * lu_read_facts - a device as it is now
 * @pdev: the device
 * @facts: filled
 */
void lu_read_facts(struct pci_dev *pdev, struct liveupdate_vfio_pci_facts *facts)
{
	u16 aer = pci_find_ext_capability(pdev, PCI_EXT_CAP_ID_ERR);

	memset(facts, 0, sizeof(*facts));
	facts->counter = get_cycles();
	pci_read_config_word(pdev, PCI_COMMAND, &facts->command);
	read_bridges(pdev, facts);
	if (pci_is_pcie(pdev) &&
	    !pcie_capability_read_word(pdev, PCI_EXP_LNKSTA, &facts->link))
		facts->valid |= LIVEUPDATE_VFIO_PCI_FACT_LINK;
	if (aer) {
		pci_read_config_dword(pdev, aer + PCI_ERR_UNCOR_STATUS,
				      &facts->aer_uncor);
		pci_read_config_dword(pdev, aer + PCI_ERR_COR_STATUS,
				      &facts->aer_cor);
		facts->valid |= LIVEUPDATE_VFIO_PCI_FACT_AER;
	}
	read_nvme(pdev, facts);
}

static bool add_cap(struct liveupdate_vfio_pci_identity *identity, u16 offset,
		    u16 id)
{
	if (identity->cap_count == LIVEUPDATE_VFIO_PCI_CAPS)
		return false;
	identity->caps[identity->cap_count].offset = offset;
	identity->caps[identity->cap_count++].id = id;

	return true;
}

static bool read_caps(struct pci_dev *pdev,
		      struct liveupdate_vfio_pci_identity *identity)
{
	int budget = LIVEUPDATE_VFIO_PCI_CAPS;
	u16 status;
	u32 header;
	u16 offset;
	u8 at, id;

	pci_read_config_word(pdev, PCI_STATUS, &status);
	if (status & PCI_STATUS_CAP_LIST) {
		pci_read_config_byte(pdev, PCI_CAPABILITY_LIST, &at);
		for (at &= ~3; at >= PCI_STD_HEADER_SIZEOF && budget; budget--) {
			pci_read_config_byte(pdev, at + PCI_CAP_LIST_ID, &id);
			if (!add_cap(identity, at, id))
				return false;
			pci_read_config_byte(pdev, at + PCI_CAP_LIST_NEXT, &at);
			at &= ~3;
		}
	}
	if (pdev->cfg_size <= PCI_CFG_SPACE_SIZE)
		return budget;
	for (offset = PCI_CFG_SPACE_SIZE;
	     offset >= PCI_CFG_SPACE_SIZE && budget; budget--) {
		pci_read_config_dword(pdev, offset, &header);
		if (!header || header == ~0u)
			break;
		if (!add_cap(identity, offset, PCI_EXT_CAP_ID(header)))
			return false;
		offset = PCI_EXT_CAP_NEXT(header);
	}

	return budget;
}

/**
 * lu_read_identity - what makes a device the same device
 * @pdev: the device
 * @identity: filled
 *
 * Return: 0, or -E2BIG for more capabilities than the format holds.
 */
int lu_read_identity(struct pci_dev *pdev,
		     struct liveupdate_vfio_pci_identity *identity)
{
	int i;

	memset(identity, 0, sizeof(*identity));
	pci_read_config_word(pdev, PCI_VENDOR_ID, &identity->vendor);
	pci_read_config_word(pdev, PCI_DEVICE_ID, &identity->device);
	pci_read_config_word(pdev, PCI_SUBSYSTEM_VENDOR_ID,
			     &identity->subsystem_vendor);
	pci_read_config_word(pdev, PCI_SUBSYSTEM_ID, &identity->subsystem);
	pci_read_config_dword(pdev, PCI_CLASS_REVISION,
			      &identity->class_revision);
	pci_read_config_byte(pdev, PCI_HEADER_TYPE, &identity->header_type);
	for (i = 0; i < ARRAY_SIZE(identity->bars); i++)
		pci_read_config_dword(pdev, PCI_BASE_ADDRESS_0 + 4 * i,
				      &identity->bars[i]);

	return read_caps(pdev, identity) ? 0 : -E2BIG;
}

/**
 * lu_compare_config - is it the same device, at the same addresses?
 * @lu: the device, locked
 *
 * Return: LU_UNKNOWN when nothing is known of the freeze.
 */
enum lu_same lu_compare_config(struct lu_device *lu)
{
	struct liveupdate_vfio_pci_identity *now;
	enum lu_same same = LU_UNKNOWN;

	if (!lu->frozen || !(lu->frozen->flags & LIVEUPDATE_VFIO_PCI_FROZEN))
		return LU_UNKNOWN;
	now = kzalloc_obj(*now);
	if (!now)
		return LU_UNKNOWN;
	if (!lu_read_identity(lu->core->pdev, now))
		same = memcmp(now, &lu->frozen->identity, sizeof(*now)) ?
		       LU_CHANGED : LU_SAME;
	kfree(now);

	return same;
}

/**
 * lu_map_msix_entry - map the MSI-X vector that is least likely to be in use
 * @pdev: the device
 * @entry: its number
 *
 * Return: the last entry of the table, or NULL when there is none to be had.
 */
void __iomem *lu_map_msix_entry(struct pci_dev *pdev, u16 *entry)
{
	resource_size_t offset;
	u32 table;
	u16 flags;
	u8 bar;

	if (!pdev->msix_cap)
		return NULL;
	pci_read_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS, &flags);
	pci_read_config_dword(pdev, pdev->msix_cap + PCI_MSIX_TABLE, &table);
	*entry = flags & PCI_MSIX_FLAGS_QSIZE;
	bar = table & PCI_MSIX_TABLE_BIR;
	offset = (table & PCI_MSIX_TABLE_OFFSET) +
		 (resource_size_t)*entry * PCI_MSIX_ENTRY_SIZE;
	if (bar >= PCI_STD_NUM_BARS ||
	    !(pci_resource_flags(pdev, bar) & IORESOURCE_MEM) ||
	    offset + PCI_MSIX_ENTRY_SIZE > pci_resource_len(pdev, bar))
		return NULL;

	return ioremap(pci_resource_start(pdev, bar) + offset,
		       PCI_MSIX_ENTRY_SIZE);
}

static bool msix_canary_changed(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;
	void __iomem *at;
	u16 entry;
	u32 data;

	at = lu_map_msix_entry(pdev, &entry);
	if (!at)
		return true;
	data = readl(at + PCI_MSIX_ENTRY_DATA);
	iounmap(at);

	return entry != lu->frozen->canary_msix_entry ||
	       data != lu->frozen->canary_msix_data;
}

/**
 * lu_compare_canary - was the device reset since freeze?
 * @lu: the device, locked
 *
 * A change is remembered: what was reset once stays so. The MSI-X canary counts
 * until vectors are given away again, both until the update is finished.
 *
 * Return: LU_UNKNOWN when no canary could be laid, or the update is not there yet.
 */
enum lu_same lu_compare_canary(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;
	u8 cache_line;

	if (!lu->frozen || !(lu->frozen->flags & LU_CANARIES))
		return LU_UNKNOWN;
	if (lu->canary_broken)
		return LU_CHANGED;
	if (lu->state < LU_FROZEN)
		return lu->has_retrieved && lu->canary_seen ? LU_SAME :
							       LU_UNKNOWN;

	if (lu->frozen->flags & LIVEUPDATE_VFIO_PCI_CANARY_CACHE_LINE) {
		pci_read_config_byte(pdev, PCI_CACHE_LINE_SIZE, &cache_line);
		lu->canary_seen = true;
		if (cache_line != lu->frozen->canary_cache_line)
			lu->canary_broken = true;
	}
	if (lu->frozen->flags & LIVEUPDATE_VFIO_PCI_CANARY_MSIX &&
	    !lu->msix_armed && registers_answer(pdev)) {
		lu->canary_seen = true;
		if (msix_canary_changed(lu))
			lu->canary_broken = true;
	}
	if (lu->canary_broken)
		return LU_CHANGED;

	return lu->canary_seen ? LU_SAME : LU_UNKNOWN;
}

/**
 * lu_bus_master - did Bus Master stay on, here and above, since freeze?
 * @lu: the device, locked
 *
 * Return: LU_SAME when every checkpoint saw it on, LU_CHANGED when one saw it
 * off or we turned it off, LU_UNKNOWN when one is missing.
 */
enum lu_same lu_bus_master(struct lu_device *lu)
{
	const struct liveupdate_vfio_pci_state *frozen = lu->frozen;
	bool missing = false;
	u32 i;

	if (!frozen || !(frozen->flags & LIVEUPDATE_VFIO_PCI_FROZEN))
		return LU_UNKNOWN;
	if (!(frozen->flags & LIVEUPDATE_VFIO_PCI_KEEPS_BUS_MASTER) ||
	    lu->master_lost)
		return LU_CHANGED;
	/* A device that mastered nothing at freeze proves nothing. */
	if (!(frozen->facts.command & PCI_COMMAND_MASTER) ||
	    !(frozen->facts.valid & LIVEUPDATE_VFIO_PCI_FACT_BRIDGES))
		return LU_UNKNOWN;

	if (!lu->has_arrived)
		missing = true;
	else if (!(lu->arrived.arrived_command & PCI_COMMAND_MASTER))
		return LU_CHANGED;
	for (i = 0; i < frozen->facts.bridge_count; i++) {
		if (!(lu->arrived_bridge_known & BIT(i)))
			missing = true;
		else if (!(lu->arrived_bridges[i] & PCI_COMMAND_MASTER))
			return LU_CHANGED;
	}
	if (!lu->has_retrieved ||
	    !(lu->retrieved.valid & LIVEUPDATE_VFIO_PCI_FACT_BRIDGES))
		return LU_UNKNOWN;
	if (!(lu->retrieved.command & PCI_COMMAND_MASTER))
		return LU_CHANGED;
	for (i = 0; i < lu->retrieved.bridge_count; i++)
		if (!(lu->retrieved.bridges[i].command & PCI_COMMAND_MASTER))
			return LU_CHANGED;
	/* Until it is open, it may still be cleared. */
	if (lu->state == LU_RETRIEVED)
		missing = true;

	return missing ? LU_UNKNOWN : LU_SAME;
}
