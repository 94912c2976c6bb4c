/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who lets a device go on with DMA over a kexec
 *
 * A kernel with upstream's PCI live update does it for each device that it was
 * told of, and keeps bus numbers, ACS and ARI besides: it is told. Any other
 * needs our patch keep-bus-master, which is asked at freeze. Which it is, Kbuild
 * finds out when the driver is built. With upstream's this was compiled only and
 * never run: no kernel that was released has it.
 */
#ifndef VFIO_PCI_LIVEUPDATE_KEEP_H
#define VFIO_PCI_LIVEUPDATE_KEEP_H

#include <linux/liveupdate.h>
#include <linux/pci.h>

#ifdef LU_PCI_LIVEUPDATE
#include <linux/pci_liveupdate.h>

static inline int lu_keep_register(struct liveupdate_file_handler *handler)
{
	return pci_liveupdate_register_flb(handler);
}

static inline void lu_keep_unregister(struct liveupdate_file_handler *handler)
{
	pci_liveupdate_unregister_flb(handler);
}

static inline int lu_keep_preserve(struct pci_dev *pdev)
{
	return pci_liveupdate_preserve(pdev);
}

static inline void lu_keep_unpreserve(struct pci_dev *pdev)
{
	pci_liveupdate_unpreserve(pdev);
}

static inline void lu_keep_freeze(struct pci_dev *pdev)
{
}

static inline void lu_keep_unfreeze(struct pci_dev *pdev)
{
}

/* Who never says it makes that kernel panic at the next kexec. */
static inline void lu_keep_finish(struct pci_dev *pdev)
{
	if (pci_liveupdate_is_incoming(pdev))
		pci_liveupdate_finish(pdev);
}
#else
static inline int lu_keep_register(struct liveupdate_file_handler *handler)
{
	return 0;
}

static inline void lu_keep_unregister(struct liveupdate_file_handler *handler)
{
}

static inline int lu_keep_preserve(struct pci_dev *pdev)
{
	return 0;
}

static inline void lu_keep_unpreserve(struct pci_dev *pdev)
{
}

static inline void lu_keep_freeze(struct pci_dev *pdev)
{
	pci_keep_bus_master(pdev);
}

static inline void lu_keep_unfreeze(struct pci_dev *pdev)
{
	pci_drop_bus_master(pdev);
}

static inline void lu_keep_finish(struct pci_dev *pdev)
{
}
#endif

#endif
