// SPDX-License-Identifier: GPL-2.0
/*
 * What a user of the device must not do on the way
 *
 * Frozen, nothing may change what was recorded or masked. Out of the kexec,
 * nothing may reset the device before its holder has taken it back: VMMs do so
 * by habit when they open one. Each way to a reset that VFIO offers is shut.
 */
#include <linux/pci.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "liveupdate.h"

static void note_armed(struct lu_device *lu, unsigned long arg)
{
	struct vfio_irq_set set;

	if (copy_from_user(&set, (void __user *)arg,
			   offsetofend(struct vfio_irq_set, count)))
		return;
	if (set.index != VFIO_PCI_MSIX_IRQ_INDEX || !set.count)
		return;
	/* The last look at the canary that is about to be overwritten. */
	lu_compare_canary(lu);
	lu->msix_armed = true;
}

/* A reset of the whole slot or bus hits all that are in one device set. */
static bool others_on_the_way(struct lu_device *lu)
{
	struct lu_device *other;

	guard(mutex)(&lu_devices_lock);
	list_for_each_entry(other, &lu_devices, node)
		if (other->core->vdev.dev_set == lu->core->vdev.dev_set &&
		    READ_ONCE(other->state) >= LU_FROZEN)
			return true;

	return false;
}

/**
 * lu_ioctl - vfio_pci_core_ioctl() for what may be done now
 * @lu: the device
 * @cmd: VFIO_DEVICE_*
 * @arg: its argument
 *
 * What touches interrupts or the function is over before freeze, or begins
 * after it and is refused. A reset of the whole slot takes the device set's
 * lock by itself, outside of ours: one that overtakes freeze is noted when it is
 * done (lu_device_was_reset()).
 *
 * Return: VFIO's answer, or -EBUSY.
 */
long lu_ioctl(struct lu_device *lu, unsigned int cmd, unsigned long arg)
{
	struct vfio_device *vdev = &lu->core->vdev;

	switch (cmd) {
	case VFIO_DEVICE_PCI_HOT_RESET:
		if (others_on_the_way(lu))
			return -EBUSY;
		break;
	case VFIO_DEVICE_RESET: {
		guard(mutex)(&lu->lock);
		if (lu->state >= LU_FROZEN)
			return -EBUSY;
		return vfio_pci_core_ioctl(vdev, cmd, arg);
	}
	case VFIO_DEVICE_SET_IRQS: {
		guard(mutex)(&lu->lock);
		if (lu->state == LU_FROZEN)
			return -EBUSY;
		if (lu_is_incoming(lu))
			note_armed(lu, arg);
		return vfio_pci_core_ioctl(vdev, cmd, arg);
	}
	}

	return vfio_pci_core_ioctl(vdev, cmd, arg);
}

/**
 * lu_guard_feature - may this feature be set now?
 * @lu: the device
 * @flags: VFIO_DEVICE_FEATURE_*
 *
 * Return: 0, or -EBUSY for a device that would go to sleep on the way.
 */
int lu_guard_feature(struct lu_device *lu, u32 flags)
{
	if (!(flags & VFIO_DEVICE_FEATURE_SET) ||
	    READ_ONCE(lu->state) == LU_IDLE)
		return 0;

	switch (flags & VFIO_DEVICE_FEATURE_MASK) {
	case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
	case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
		return -EBUSY;
	default:
		return 0;
	}
}

/* Is a bit of the register at @reg set by this write? */
static bool sets(const char __user *buf, size_t count, loff_t pos, u16 reg,
		 u16 bits)
{
	u8 byte;
	int i;

	for (i = 0; i < 2; i++) {
		u8 wanted = bits >> (8 * i);

		if (!wanted || reg + i < pos || reg + i >= pos + count)
			continue;
		if (get_user(byte, buf + (reg + i - pos)) || byte & wanted)
			return true;
	}

	return false;
}

static bool resets(struct pci_dev *pdev, const char __user *buf, size_t count,
		   loff_t pos)
{
	u8 af = pci_find_capability(pdev, PCI_CAP_ID_AF);

	return (pdev->pcie_cap &&
		sets(buf, count, pos, pdev->pcie_cap + PCI_EXP_DEVCTL,
		     PCI_EXP_DEVCTL_BCR_FLR)) ||
	       (af && sets(buf, count, pos, af + PCI_AF_CTRL, PCI_AF_CTRL_FLR)) ||
	       (pdev->pm_cap &&
		sets(buf, count, pos, pdev->pm_cap + PCI_PM_CTRL,
		     PCI_PM_CTRL_STATE_MASK));
}

/**
 * lu_write - vfio_pci_core_write() for what may be written now
 * @lu: the device
 * @buf: what
 * @count: how much
 * @ppos: where, region and all
 *
 * Return: VFIO's answer, or -EBUSY.
 */
ssize_t lu_write(struct lu_device *lu, const char __user *buf, size_t count,
		 loff_t *ppos)
{
	struct vfio_device *vdev = &lu->core->vdev;

	if (VFIO_PCI_OFFSET_TO_INDEX(*ppos) != VFIO_PCI_CONFIG_REGION_INDEX)
		return vfio_pci_core_write(vdev, buf, count, ppos);

	guard(mutex)(&lu->lock);
	/* What was given up stays stopped: its memory may be gone already. */
	if (lu->state == LU_FROZEN || lu->given_up)
		return -EBUSY;
	if (lu_is_incoming(lu) &&
	    resets(lu->core->pdev, buf, count, *ppos & VFIO_PCI_OFFSET_MASK))
		return -EBUSY;

	return vfio_pci_core_write(vdev, buf, count, ppos);
}
