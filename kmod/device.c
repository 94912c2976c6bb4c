// SPDX-License-Identifier: GPL-2.0
/*
 * A device from probe to removal, and what its opens and closes mean on the way
 */
#include <linux/delay.h>
#include <linux/pci.h>
#include <linux/timex.h>
#include <linux/unaligned.h>

#include "liveupdate.h"

#define CONFIG_MAP_INVALID	0xfe
/* How long freeze waits for a call of the holder to end. */
#define LOCK_TRIES		1000

LIST_HEAD(lu_devices);
/* Outside of the device sets' locks and of lu_device.lock. */
DEFINE_MUTEX(lu_devices_lock);
/* How many are being taken from this driver, and may wait for long. */
static atomic_t leaves;

/**
 * lu_find - a device by its address
 * @domain: PCI domain
 * @bdf: bus << 8 | devfn
 *
 * Return: the device, under lu_devices_lock, or NULL.
 */
struct lu_device *lu_find(u32 domain, u16 bdf)
{
	struct lu_device *lu;

	lockdep_assert_held(&lu_devices_lock);
	list_for_each_entry(lu, &lu_devices, node)
		if (pci_domain_nr(lu->core->pdev->bus) == domain &&
		    pci_dev_id(lu->core->pdev) == bdf)
			return lu;

	return NULL;
}

/**
 * lu_find_file - a device by a file of it
 * @file: any file
 *
 * Return: the device, under lu_devices_lock, or NULL for any other file.
 */
struct lu_device *lu_find_file(struct file *file)
{
	struct vfio_device *vdev = vfio_device_from_file(file);
	struct lu_device *lu;

	lockdep_assert_held(&lu_devices_lock);
	if (!vdev)
		return NULL;
	list_for_each_entry(lu, &lu_devices, node)
		if (&lu->core->vdev == vdev)
			return lu;

	return NULL;
}

/**
 * lu_lock - lock a device's set and its state, in the order that never varies
 * @lu: the device
 */
void lu_lock(struct lu_device *lu)
{
	mutex_lock(&lu->core->vdev.dev_set->lock);
	mutex_lock(&lu->lock);
}

/**
 * lu_lock_soon - lu_lock() for where all guests of the machine stand still
 * @lu: the device
 *
 * A call holds these locks while it reads its caller's memory, which may be
 * served by whoever likes to be late.
 *
 * Return: 0, or -EBUSY after a second.
 */
int lu_lock_soon(struct lu_device *lu)
{
	struct mutex *set = &lu->core->vdev.dev_set->lock;
	int tries;

	for (tries = 0; tries < LOCK_TRIES; tries++) {
		if (mutex_trylock(set)) {
			if (mutex_trylock(&lu->lock))
				return 0;
			mutex_unlock(set);
		}
		usleep_range(1000, 1100);
	}
	pci_err(lu->core->pdev, "live update: a call of its holder does not end\n");

	return -EBUSY;
}

/**
 * lu_unlock - undo lu_lock()
 * @lu: the device
 */
void lu_unlock(struct lu_device *lu)
{
	mutex_unlock(&lu->lock);
	mutex_unlock(&lu->core->vdev.dev_set->lock);
}

/**
 * lu_is_incoming - is the device on its way out of a kexec?
 * @lu: the device
 *
 * Return: true until the orchestrator finishes it.
 */
bool lu_is_incoming(struct lu_device *lu)
{
	return READ_ONCE(lu->state) >= LU_INCOMING;
}

/**
 * lu_any_leaves - is any device being taken from this driver?
 *
 * Whoever does that has the device's own lock, which the shutdown takes, and
 * waits for the last file: also for one of a session that nobody finishes.
 *
 * Return: true if so.
 */
bool lu_any_leaves(void)
{
	return atomic_read(&leaves);
}

/**
 * lu_keeps_bus_master - would a jump now leave its DMA on?
 * @lu: the device
 *
 * Only where no IOMMU translates: else the next kernel, or already the shutdown
 * of this one, turns the addresses that it uses into others.
 *
 * Return: true if so.
 */
bool lu_keeps_bus_master(struct lu_device *lu)
{
	return lu_enable && lu->core->vdev.cdev_opened && lu->core->vdev.noiommu;
}

/**
 * lu_device_init - begin with a device, before VFIO registers it
 * @lu: zeroed
 * @core: the device
 * @incoming: it is on the former kernel's list
 */
void lu_device_init(struct lu_device *lu, struct vfio_pci_core_device *core,
		    bool incoming)
{
	struct pci_dev *pdev = core->pdev;

	INIT_LIST_HEAD(&lu->node);
	mutex_init(&lu->lock);
	lu->core = core;
	if (!incoming)
		return;
	lu->state = LU_INCOMING;
	lu->has_arrived = lu_list_arrived(pci_domain_nr(pdev->bus),
					  pci_dev_id(pdev), &lu->arrived);
	/* Before VFIO puts it among those that are reset together. */
	WRITE_ONCE(core->keep_running, true);
	vfio_device_set_handed_over(&core->vdev, true);
}

/**
 * lu_device_add - let the orchestrator find a device that VFIO has registered
 * @lu: the device
 */
void lu_device_add(struct lu_device *lu)
{
	guard(mutex)(&lu_devices_lock);
	list_add_tail(&lu->node, &lu_devices);
}

/* Undo of what lu_device_may_open() did first; alone, it stops the device. */
static void release_enabling(struct lu_device *lu)
{
	if (!lu->enabled)
		return;
	lu->enabled = false;
	pci_disable_device(lu->core->pdev);
}

/* Nobody is back at it: it stops. */
static void give_up(struct lu_device *lu)
{
	lu->given_up = true;
	lu->master_lost = true;
	WRITE_ONCE(lu->core->keep_running, false);
	pci_clear_master(lu->core->pdev);
}

/**
 * lu_device_leave - begin to take a device from this driver
 * @lu: the device, of which files may be open
 *
 * What nobody is back at stops now: whoever keeps its file may then finish it,
 * and that is what its removal waits for.
 */
void lu_device_leave(struct lu_device *lu)
{
	atomic_inc(&leaves);
	guard(mutex)(&lu->lock);
	lu->leaving = true;
	if (lu->state == LU_INCOMING || lu->state == LU_RETRIEVED)
		give_up(lu);
}

/**
 * lu_device_remove - undo lu_device_add(), and reset what was given up
 * @lu: the device, no file of which is open
 *
 * The caller holds the PCI device's lock.
 */
void lu_device_remove(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;

	mutex_lock(&lu_devices_lock);
	list_del_init(&lu->node);
	mutex_unlock(&lu_devices_lock);
	atomic_dec(&leaves);
	if (!lu_is_incoming(lu) && !lu->given_up)
		return;
	pci_warn(pdev, "live update: given up; it is stopped and reset\n");
	pci_clear_master(pdev);
	release_enabling(lu);
	/* The canary is not to be carried over what it would tell of. */
	pci_write_config_byte(pdev, PCI_CACHE_LINE_SIZE, 0);
	pci_reset_function_locked(pdev);
	lu_list_finish(pci_domain_nr(pdev->bus), pci_dev_id(pdev));
}

/**
 * lu_device_destroy - undo lu_device_init()
 * @lu: the device
 */
void lu_device_destroy(struct lu_device *lu)
{
	kvfree(lu->frozen);
	mutex_destroy(&lu->lock);
}

/**
 * lu_device_may_open - prepare VFIO's first open
 * @lu: the device, its device set locked
 *
 * Return: 0, -EBUSY for a device whose file was not asked for, -ENODEV for one
 * that was given up, or the PCI core's error.
 */
int lu_device_may_open(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;
	int ret;

	guard(mutex)(&lu->lock);
	if (lu->state == LU_INCOMING)
		return -EBUSY;
	if (lu->given_up)
		return -ENODEV;
	if (lu->state != LU_RETRIEVED || lu->enabled)
		return 0;
	/*
	 * VFIO takes its own enabling back where it fails half-way, and with
	 * the last one the PCI core stops a device.
	 */
	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	lu->enabled = true;
	/* Enabling lets it interrupt, and nobody listens yet. */
	pci_intx(pdev, 0);

	return 0;
}

/**
 * lu_device_not_opened - VFIO's first open has failed
 * @lu: the device, its device set locked
 *
 * VFIO lets a device interrupt half-way, and nobody listens.
 */
void lu_device_not_opened(struct lu_device *lu)
{
	guard(mutex)(&lu->lock);
	if (lu->enabled)
		pci_intx(lu->core->pdev, 0);
}

static void restore_config(struct lu_device *lu)
{
	const struct liveupdate_vfio_pci_state *frozen = lu->frozen;
	struct vfio_pci_core_device *core = lu->core;
	u32 size = min_t(u32, core->pdev->cfg_size, frozen->config_size);
	u32 i;

	for (i = 0; i < size; i++)
		if (core->pci_config_map[i] == frozen->config_map[i] &&
		    core->pci_config_map[i] < CONFIG_MAP_INVALID)
			core->vconfig[i] = frozen->config[i];
	/* Not frozen->rbar: the device is where this kernel says it is. */
	core->virq_disabled = get_unaligned_le16(core->vconfig + PCI_COMMAND) &
			      PCI_COMMAND_INTX_DISABLE;
}

/**
 * lu_device_opened - finish VFIO's first open
 * @lu: the device, its device set locked
 */
void lu_device_opened(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;
	u16 command;

	guard(mutex)(&lu->lock);
	if (lu->state != LU_RETRIEVED)
		return;
	release_enabling(lu);
	/*
	 * Whom it would interrupt has not armed anything yet. Where VFIO does
	 * not mask at the device, arming would not turn it on again either.
	 */
	pci_intx(pdev, !lu->core->pci_2_3 && !lu->core->nointx);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	if (lu->frozen->flags & LIVEUPDATE_VFIO_PCI_KEEPS_BUS_MASTER) {
		/* Behind an IOMMU it has reached nothing since, whatever it says. */
		if (!(command & PCI_COMMAND_MASTER) || !lu->core->vdev.noiommu)
			lu->master_lost = true;
		else
			/* Writes nothing; the PCI core knows it, too, now. */
			pci_set_master(pdev);
	}
	restore_config(lu);
	/* A VMM that sees a way to reset the device takes it. */
	lu->core->reset_works = false;
}

/**
 * lu_device_closed - after VFIO's last close
 * @lu: the device, its device set locked
 *
 * Before finish that happens only where binding fails half-way.
 */
void lu_device_closed(struct lu_device *lu)
{
	guard(mutex)(&lu->lock);
	if (!lu_is_incoming(lu))
		return;
	lu->master_lost = true;
	WRITE_ONCE(lu->state, LU_RETRIEVED);
}

/**
 * lu_device_attached - the device is on an IOAS
 * @lu: the device, its device set locked
 */
void lu_device_attached(struct lu_device *lu)
{
	guard(mutex)(&lu->lock);
	if (lu->state != LU_RETRIEVED)
		return;
	lu->attached_counter = get_cycles();
	WRITE_ONCE(lu->state, LU_ATTACHED);
}

/**
 * lu_device_detached - the device is on no IOAS any more
 * @lu: the device, its device set locked
 */
void lu_device_detached(struct lu_device *lu)
{
	guard(mutex)(&lu->lock);
	if (lu->state != LU_ATTACHED)
		return;
	WRITE_ONCE(lu->state, LU_RETRIEVED);
	/* Its holder was asked to let it go. */
	if (lu->leaving)
		give_up(lu);
}

/**
 * lu_device_was_reset - count a reset, on the way only
 * @lu: the device
 *
 * After freeze the next kernel has to know, and our count stays here. The PCI
 * core has put back what a canary is: none is left that would tell.
 */
void lu_device_was_reset(struct lu_device *lu)
{
	/* Before freeze the lock may be ours already. */
	if (READ_ONCE(lu->state) < LU_FROZEN)
		return;
	atomic_inc(&lu->resets);
	/*
	 * Tried, not taken: a hot reset comes with memory_lock, which unfreeze
	 * takes inside of ours. It says first that nothing is frozen any more.
	 */
	while (READ_ONCE(lu->state) == LU_FROZEN) {
		if (mutex_trylock(&lu->lock)) {
			if (lu->state == LU_FROZEN)
				lu->outgoing->flags &= ~LU_CANARIES;
			mutex_unlock(&lu->lock);
			return;
		}
		usleep_range(100, 200);
	}
}
