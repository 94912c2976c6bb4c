// SPDX-License-Identifier: GPL-2.0
/*
 * The list of what is handed over: a KHO subtree of our own
 *
 * The Live Update Orchestrator's data is for whoever opens /dev/liveupdate, and
 * comes when he does. Whose a device is has to be known before any driver is
 * bound to it, and how it arrived before anything is written to it.
 */
#include <linux/kexec_handover.h>
#include <linux/pci.h>

#include "liveupdate.h"

#define LIST_SIZE	SZ_16K
#define LIST_ENTRIES	((LIST_SIZE - sizeof(struct liveupdate_vfio_pci_list)) / \
			 sizeof(struct liveupdate_vfio_pci_entry))

static_assert(sizeof(struct liveupdate_vfio_pci_list) == 64);
static_assert(sizeof(struct liveupdate_vfio_pci_entry) == 24);

/* Ours for the next kernel, under lu_devices_lock. */
static struct liveupdate_vfio_pci_list *outgoing;

static int add_entry(u32 *count, struct pci_dev *pdev, u16 flags)
{
	struct liveupdate_vfio_pci_entry entry = {
		.domain = pci_domain_nr(pdev->bus),
		.bdf = pci_dev_id(pdev),
		.flags = flags,
	};
	u32 i;

	for (i = 0; i < *count; i++)
		if (outgoing->entries[i].domain == entry.domain &&
		    outgoing->entries[i].bdf == entry.bdf)
			return 0;
	if (*count == LIST_ENTRIES)
		return -E2BIG;
	outgoing->entries[(*count)++] = entry;

	return 0;
}

static int create_outgoing(void)
{
	struct liveupdate_vfio_pci_list *list;
	int ret;

	list = kho_alloc_preserve(LIST_SIZE);
	if (IS_ERR(list))
		return PTR_ERR(list);
	strscpy(list->compatible, LIVEUPDATE_VFIO_PCI_LIST_COMPATIBLE,
		sizeof(list->compatible));
	ret = kho_add_subtree(LIVEUPDATE_VFIO_PCI_SUBTREE, list, LIST_SIZE);
	if (ret) {
		kho_unpreserve_free(list);
		return ret;
	}
	outgoing = list;

	return 0;
}

/**
 * lu_list_update - list all devices that are preserved, and the bridges above
 *
 * The caller holds lu_devices_lock and has set lu_device.outgoing of those that
 * are. A kexec cannot come between: it waits for the orchestrator's locks.
 *
 * Return: 0 or -errno, and then the list is as incomplete as it says.
 */
int lu_list_update(void)
{
	struct lu_device *lu;
	struct pci_dev *pdev;
	u32 count = 0;
	int ret = 0;

	lockdep_assert_held(&lu_devices_lock);
	if (!outgoing) {
		ret = create_outgoing();
		if (ret)
			return ret;
	}
	list_for_each_entry(lu, &lu_devices, node) {
		if (!lu->outgoing)
			continue;
		pdev = lu->core->pdev;
		ret = add_entry(&count, pdev, LIVEUPDATE_VFIO_PCI_ENTRY_DEVICE);
		while (!ret && (pdev = pci_upstream_bridge(pdev)))
			ret = add_entry(&count, pdev,
					LIVEUPDATE_VFIO_PCI_ENTRY_BRIDGE);
		if (ret)
			break;
	}
	outgoing->count = count;

	return ret;
}

/** lu_list_remove - hand no list over; for the module's end */
void lu_list_remove(void)
{
	if (!outgoing)
		return;
	kho_remove_subtree(outgoing);
	kho_unpreserve_free(outgoing);
	outgoing = NULL;
}

/*
 * The former kernel's list. It stays where it is, so that the module may be
 * loaded again before all is finished; its pages are not handed over twice.
 */
static struct liveupdate_vfio_pci_list *incoming(u32 *count)
{
	struct liveupdate_vfio_pci_list *list;
	phys_addr_t phys;
	size_t size;

	if (!is_kho_boot() ||
	    kho_retrieve_subtree(LIVEUPDATE_VFIO_PCI_SUBTREE, &phys, &size) ||
	    size < sizeof(*list))
		return NULL;
	list = phys_to_virt(phys);
	if (strncmp(list->compatible, LIVEUPDATE_VFIO_PCI_LIST_COMPATIBLE,
		    sizeof(list->compatible)))
		return NULL;
	*count = min_t(size_t, list->count,
		       (size - sizeof(*list)) / sizeof(list->entries[0]));

	return list;
}

static struct liveupdate_vfio_pci_entry *incoming_entry(u32 domain, u16 bdf)
{
	struct liveupdate_vfio_pci_list *list;
	u32 count, i;

	list = incoming(&count);
	for (i = 0; list && i < count; i++)
		if (list->entries[i].domain == domain &&
		    list->entries[i].bdf == bdf)
			return &list->entries[i];

	return NULL;
}

static bool waits(const struct liveupdate_vfio_pci_entry *entry)
{
	return entry && entry->flags & LIVEUPDATE_VFIO_PCI_ENTRY_DEVICE &&
	       !(entry->flags & LIVEUPDATE_VFIO_PCI_ENTRY_FINISHED);
}

/**
 * lu_list_incoming - was this device handed over and is not finished?
 * @pdev: the device
 *
 * Return: true if so.
 */
bool lu_list_incoming(struct pci_dev *pdev)
{
	return waits(incoming_entry(pci_domain_nr(pdev->bus), pci_dev_id(pdev)));
}

/**
 * lu_list_arrived - how a device or bridge was found at first touch
 * @domain: PCI domain
 * @bdf: bus << 8 | devfn
 * @entry: filled
 *
 * Return: true when the early fixup noted it.
 */
bool lu_list_arrived(u32 domain, u16 bdf, struct liveupdate_vfio_pci_entry *entry)
{
	struct liveupdate_vfio_pci_entry *found = incoming_entry(domain, bdf);

	if (!found || !(found->flags & LIVEUPDATE_VFIO_PCI_ENTRY_ARRIVED))
		return false;
	*entry = *found;

	return true;
}

/**
 * lu_list_finish - a device is no longer what was handed over
 * @domain: PCI domain
 * @bdf: bus << 8 | devfn
 */
void lu_list_finish(u32 domain, u16 bdf)
{
	struct liveupdate_vfio_pci_entry *entry = incoming_entry(domain, bdf);

	if (entry)
		entry->flags |= LIVEUPDATE_VFIO_PCI_ENTRY_FINISHED;
}

/**
 * lu_list_finished - was it said that a device is no longer what was handed over?
 * @domain: PCI domain
 * @bdf: bus << 8 | devfn
 *
 * Return: true if so; not to know the device is no such word.
 */
bool lu_list_finished(u32 domain, u16 bdf)
{
	const struct liveupdate_vfio_pci_entry *entry;

	entry = incoming_entry(domain, bdf);

	return entry && entry->flags & LIVEUPDATE_VFIO_PCI_ENTRY_FINISHED;
}

/**
 * lu_list_claim - make handed over devices wait for a driver
 * @driver: its name; any other, loaded later, then leaves them alone
 */
void lu_list_claim(const char *driver)
{
	struct liveupdate_vfio_pci_list *list;
	struct pci_dev *pdev;
	u32 count, i;
	int ret;

	list = incoming(&count);
	for (i = 0; list && i < count; i++) {
		const struct liveupdate_vfio_pci_entry *entry = &list->entries[i];

		if (!waits(entry))
			continue;
		pdev = pci_get_domain_bus_and_slot(entry->domain,
						   PCI_BUS_NUM(entry->bdf),
						   entry->bdf & 0xff);
		if (!pdev) {
			pr_err("vfio-pci-liveupdate: %04x:%02x:%02x.%u was handed over and is not there\n",
			       entry->domain, PCI_BUS_NUM(entry->bdf),
			       PCI_SLOT(entry->bdf), PCI_FUNC(entry->bdf));
			continue;
		}
		if (pdev->driver)
			pci_err(pdev, "handed over, but %s took it first; load vfio-pci-liveupdate earlier\n",
				dev_driver_string(&pdev->dev));
		ret = device_set_driver_override(&pdev->dev, driver);
		if (ret)
			pci_err(pdev, "handed over, but no driver_override could be set: %d\n",
				ret);
		pci_dev_put(pdev);
	}
}
