// SPDX-License-Identifier: GPL-2.0
/*
 * Freeze: the last moment of a device in one kernel
 *
 * The device is recorded, its interrupts are masked so that none reaches the
 * next kernel, whose vectors are other ones, and canaries are laid that a reset
 * would take away. A device whose DMA no IOMMU translates goes on with it. Any
 * other is stopped here: the IOMMU's shutdown, soon after, would turn the
 * addresses that it uses into physical ones.
 */
#include <linux/io.h>
#include <linux/pci.h>

#include "keep.h"
#include "liveupdate.h"

#define CANARY_CACHE_LINE	0x5a
#define CANARY_CACHE_LINE_ALT	0xa4
#define CANARY_MSIX_DATA	0x4c55

/* VFIO's map of configuration space marks with these what belongs to nothing. */
#define CONFIG_MAP_INVALID	0xfe

/**
 * lu_map_canary - map what freeze will write, while there is time
 * @lu: the device, locked
 *
 * Return: 0 or -ENOMEM. A device without MSI-X has one canary less.
 */
int lu_map_canary(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;

	if (!pdev->msix_cap)
		return 0;
	lu->msix_entry = lu_map_msix_entry(pdev, &lu->outgoing->canary_msix_entry);

	return lu->msix_entry ? 0 : -ENOMEM;
}

/**
 * lu_unmap_canary - undo lu_map_canary()
 * @lu: the device, locked
 */
void lu_unmap_canary(struct lu_device *lu)
{
	if (lu->msix_entry)
		iounmap(lu->msix_entry);
	lu->msix_entry = NULL;
}

/* Nothing that the guest or VFIO may do with the device must be in the way. */
static int check(struct lu_device *lu)
{
	struct vfio_pci_core_device *core = lu->core;
	struct pci_dev *pdev = core->pdev;

	/* It, or another: the shutdown would wait for that for ever. */
	if (lu_any_leaves()) {
		pci_err(pdev, "live update: %s being taken from its driver\n",
			lu->leaving ? "it is" : "another device is");
		return -EBUSY;
	}
	if (!core->vdev.cdev_opened) {
		pci_err(pdev, "live update: nobody has it open any more; it was reset when it was closed\n");
		return -ENODEV;
	}
	if (pdev->current_state != PCI_D0 || core->pm_runtime_engaged) {
		pci_err(pdev, "live update: not in D0; wake it before the update\n");
		return -EINVAL;
	}
	if (core->irq_type != VFIO_PCI_NUM_IRQS) {
		pci_err(pdev, "live update: interrupts are still on; its holder has to turn them off (VFIO_DEVICE_SET_IRQS)\n");
		return -EBUSY;
	}

	return 0;
}

static void record(struct lu_device *lu)
{
	struct vfio_pci_core_device *core = lu->core;
	struct liveupdate_vfio_pci_state *state = lu->outgoing;
	int i;

	lu_read_facts(core->pdev, &state->facts);
	state->config_size = min_t(u32, core->pdev->cfg_size,
				   LIVEUPDATE_VFIO_PCI_CONFIG_SIZE);
	memcpy(state->config_map, core->pci_config_map, state->config_size);
	for (i = 0; i < state->config_size; i++)
		/* What is mapped to nothing was never written: kernel memory. */
		state->config[i] = state->config_map[i] < CONFIG_MAP_INVALID ?
				   core->vconfig[i] : 0;
	for (i = 0; i < ARRAY_SIZE(state->rbar); i++)
		state->rbar[i] = core->rbar[i];
}

static int mask_interrupts(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;
	u16 command, flags = PCI_MSIX_FLAGS_MASKALL;

	pci_read_config_word(pdev, PCI_COMMAND, &lu->undo.command);
	if (pdev->msix_cap) {
		pci_read_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS,
				     &lu->undo.msix_flags);
		pci_write_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS,
				      lu->undo.msix_flags |
				      PCI_MSIX_FLAGS_MASKALL);
	}
	pci_write_config_word(pdev, PCI_COMMAND, lu->undo.command |
			      PCI_COMMAND_INTX_DISABLE);
	/* In the next kernel nobody would answer. */
	if (pdev->msix_cap)
		pci_read_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS, &flags);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	if (!(flags & PCI_MSIX_FLAGS_MASKALL) ||
	    (pdev->pin && !(command & PCI_COMMAND_INTX_DISABLE))) {
		pci_err(pdev, "live update: its interrupts cannot be masked\n");
		return -EIO;
	}

	return 0;
}

static void lay_canaries(struct lu_device *lu)
{
	struct liveupdate_vfio_pci_state *state = lu->outgoing;
	struct pci_dev *pdev = lu->core->pdev;
	u8 canary, back;

	pci_read_config_byte(pdev, PCI_CACHE_LINE_SIZE, &state->former_cache_line);
	canary = state->former_cache_line == CANARY_CACHE_LINE ?
		 CANARY_CACHE_LINE_ALT : CANARY_CACHE_LINE;
	pci_write_config_byte(pdev, PCI_CACHE_LINE_SIZE, canary);
	pci_read_config_byte(pdev, PCI_CACHE_LINE_SIZE, &back);
	/* Hard-wired to 0 in some devices: then it tells nothing. */
	if (back == canary) {
		state->canary_cache_line = canary;
		state->flags |= LIVEUPDATE_VFIO_PCI_CANARY_CACHE_LINE;
	}

	/* The table answers only with memory decode on, which a guest may turn off. */
	if (!lu->msix_entry || !(lu->undo.command & PCI_COMMAND_MEMORY))
		return;
	lu->undo.msix_data = readl(lu->msix_entry + PCI_MSIX_ENTRY_DATA);
	writel(CANARY_MSIX_DATA ^ pci_dev_id(pdev),
	       lu->msix_entry + PCI_MSIX_ENTRY_DATA);
	if (readl(lu->msix_entry + PCI_MSIX_ENTRY_DATA) ==
	    (CANARY_MSIX_DATA ^ pci_dev_id(pdev))) {
		state->canary_msix_data = CANARY_MSIX_DATA ^ pci_dev_id(pdev);
		state->flags |= LIVEUPDATE_VFIO_PCI_CANARY_MSIX;
	}
}

static void take_canaries(struct lu_device *lu)
{
	struct liveupdate_vfio_pci_state *state = lu->outgoing;

	pci_write_config_byte(lu->core->pdev, PCI_CACHE_LINE_SIZE,
			      state->former_cache_line);
	if (state->flags & LIVEUPDATE_VFIO_PCI_CANARY_MSIX)
		writel(lu->undo.msix_data, lu->msix_entry + PCI_MSIX_ENTRY_DATA);
	state->flags &= ~LU_CANARIES;
}

static void unmask_interrupts(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;

	if (pdev->msix_cap)
		pci_write_config_word(pdev, pdev->msix_cap + PCI_MSIX_FLAGS,
				      lu->undo.msix_flags);
	/* With Bus Master, where it was taken. */
	pci_write_config_word(pdev, PCI_COMMAND, lu->undo.command);
}

static int stop_dma(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;

	pci_clear_master(pdev);
	if (!pci_wait_for_pending_transaction(pdev)) {
		pci_err(pdev, "live update: transactions are still pending long after Bus Master was turned off\n");
		return -ETIMEDOUT;
	}

	return 0;
}

/**
 * lu_freeze - record, mask, and stop what cannot go on
 * @lu: the device, locked, preserved
 *
 * Return: 0, or -errno with everything as before.
 */
int lu_freeze(struct lu_device *lu)
{
	struct vfio_pci_core_device *core = lu->core;
	struct pci_dev *pdev = core->pdev;
	int ret;

	/* In this order: VFIO takes the second while it holds the first. */
	mutex_lock(&core->igate);
	down_write(&core->memory_lock);
	ret = check(lu);
	if (ret)
		goto out;
	ret = lu_read_identity(pdev, &lu->outgoing->identity);
	if (ret) {
		pci_err(pdev, "live update: it has more capabilities than can be handed over\n");
		goto out;
	}

	lu->outgoing->flags = 0;
	lu->canary_seen = false;
	lu->canary_broken = false;
	record(lu);
	ret = mask_interrupts(lu);
	if (ret) {
		unmask_interrupts(lu);
		goto out;
	}
	lay_canaries(lu);
	if (lu_keeps_bus_master(lu)) {
		lu_keep_freeze(pdev);
		lu->outgoing->flags |= LIVEUPDATE_VFIO_PCI_KEEPS_BUS_MASTER;
	} else {
		ret = stop_dma(lu);
		if (ret) {
			take_canaries(lu);
			unmask_interrupts(lu);
			goto out;
		}
	}
	lu->outgoing->flags |= LIVEUPDATE_VFIO_PCI_FROZEN;
	memcpy(lu->frozen, lu->outgoing, sizeof(*lu->frozen));
	atomic_set(&lu->resets, 0);
	WRITE_ONCE(lu->state, LU_FROZEN);
out:
	up_write(&core->memory_lock);
	mutex_unlock(&core->igate);

	return ret;
}

/**
 * lu_unfreeze - let a device go on in this kernel
 * @lu: the device, locked, frozen
 */
void lu_unfreeze(struct lu_device *lu)
{
	/* First: see lu_device_was_reset(). */
	WRITE_ONCE(lu->state, LU_PRESERVED);
	down_write(&lu->core->memory_lock);
	if (lu->outgoing->flags & LIVEUPDATE_VFIO_PCI_KEEPS_BUS_MASTER)
		lu_keep_unfreeze(lu->core->pdev);
	take_canaries(lu);
	unmask_interrupts(lu);
	up_write(&lu->core->memory_lock);
	lu->outgoing->flags = 0;
}
