// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO PCI devices as files that live over a kexec
 */

/**
 * DOC: VFIO PCI devices over a kexec
 *
 * A VFIO device file that is bound to an iommufd can be given to a session of
 * the Live Update Orchestrator. At the kexec the device is not reset: it keeps
 * its registers, and where no IOMMU translates its DMA it goes on with it, into
 * memory that is handed over beside it.
 *
 * The way when all is well:
 *
 * ============  =============================================================
 * preserve      the device is put on the list for the next kernel; it runs on
 * freeze        recorded and masked; DMA goes on, or is stopped (see freeze.c)
 * the jump      bridges and device keep Bus Master, if it was let on
 * first touch   the next kernel's early fixup notes how it arrived
 * bind          this driver takes it from the list, before native drivers
 * retrieve      a new file of the same device; other opens are refused
 * bind, attach  without a reset; VFIO's virtual configuration is put back
 * finish        the device is a common one again
 * ============  =============================================================
 *
 * And when it is not:
 *
 * - The module's parameter "enable" is off: nothing is preserved (ENOENT from
 *   the orchestrator), and nothing that comes is taken (EPERM at retrieve).
 * - The file is not bound to an iommufd, or of another driver: ENOENT.
 * - A virtual function, or too many bridges above: EOPNOTSUPP. A physical one
 *   with virtual functions enabled: EBUSY.
 * - At freeze interrupts are on (EBUSY), the device is not in D0 (EINVAL), not
 *   open any more (ENODEV), or does not come to rest (ETIMEDOUT): reboot(2)
 *   fails, every file that was frozen is unfrozen, the devices go on.
 * - The session is closed before the kexec: unpreserve, the devices go on.
 * - In the next kernel, this module comes after the first open of
 *   /dev/liveupdate: the orchestrator finds no handler and fails until the next
 *   boot. Another driver took the device first: EBUSY at retrieve. The device
 *   is gone, or another is at its place: ENODEV. The orchestrator keeps these
 *   errors; the memory stays reserved.
 * - Nobody asks for the file, or nobody attaches it: finish is refused (EBUSY)
 *   as long as the device may do DMA, because to finish frees memory. To give
 *   up a device, unbind it from this driver: that stops and resets it.
 * - It is reset all the same, through sysfs or by an error: that is counted,
 *   and the canaries tell of what was not seen.
 */

#include <linux/kexec_handover.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/timex.h>
#include <linux/unaligned.h>

#include "liveupdate.h"

LIST_HEAD(lu_devices);
/* Outside of the device sets' locks and of lu_device.lock. */
DEFINE_MUTEX(lu_devices_lock);

#define CONFIG_MAP_INVALID	0xfe

static struct lu_device *find(u32 domain, u16 bdf)
{
	struct lu_device *lu;

	lockdep_assert_held(&lu_devices_lock);
	list_for_each_entry(lu, &lu_devices, node)
		if (pci_domain_nr(lu->core->pdev->bus) == domain &&
		    pci_dev_id(lu->core->pdev) == bdf)
			return lu;

	return NULL;
}

static struct lu_device *find_file(struct file *file)
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

/* Both locks, the order of which never varies. */
static void lock_device(struct lu_device *lu)
{
	mutex_lock(&lu->core->vdev.dev_set->lock);
	mutex_lock(&lu->lock);
}

static void unlock_device(struct lu_device *lu)
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
	return lu->core->vdev.cdev_opened && lu->core->vdev.noiommu;
}

static bool lu_can_preserve(struct liveupdate_file_handler *handler,
			    struct file *file)
{
	struct lu_device *lu;

	if (!lu_enable)
		return false;
	guard(mutex)(&lu_devices_lock);
	lu = find_file(file);

	return lu && lu->core->vdev.cdev_opened;
}

static unsigned long lu_get_id(struct file *file)
{
	/* A device, not a file: it goes over once. */
	return (unsigned long)vfio_device_from_file(file);
}

static int check_preservable(struct lu_device *lu)
{
	struct pci_dev *pdev = lu->core->pdev;

	if (pdev->is_virtfn) {
		pci_err(pdev, "live update: virtual functions cannot be handed over\n");
		return -EOPNOTSUPP;
	}
	if (pci_num_vf(pdev)) {
		pci_err(pdev, "live update: its virtual functions are enabled; disable them\n");
		return -EBUSY;
	}
	if (lu_count_bridges(pdev) > LIVEUPDATE_VFIO_PCI_BRIDGES) {
		pci_err(pdev, "live update: there are more than %u bridges above it\n",
			LIVEUPDATE_VFIO_PCI_BRIDGES);
		return -EOPNOTSUPP;
	}
	if (lu->state != LU_IDLE) {
		pci_err(pdev, "live update: it is being handed over already; finish that first\n");
		return -EBUSY;
	}

	return 0;
}

/* What is known of an earlier update ends where the next one begins. */
static void forget(struct lu_device *lu)
{
	lu->has_arrived = false;
	lu->arrived_bridge_known = 0;
	lu->has_retrieved = false;
	lu->attached_counter = 0;
	lu->config = LU_UNKNOWN;
	lu->canary_broken = false;
	lu->master_lost = false;
	lu->msix_armed = false;
	atomic_set(&lu->resets, 0);
	kvfree(lu->frozen);
	lu->frozen = NULL;
}

static int preserve(struct lu_device *lu)
{
	struct liveupdate_vfio_pci_state *frozen, *outgoing;
	int ret;

	ret = check_preservable(lu);
	if (ret)
		return ret;

	frozen = kvzalloc_obj(*frozen);
	if (!frozen)
		return -ENOMEM;
	outgoing = kho_alloc_preserve(sizeof(*outgoing));
	if (IS_ERR(outgoing)) {
		ret = PTR_ERR(outgoing);
		goto err_free_frozen;
	}
	outgoing->size = sizeof(*outgoing);
	outgoing->domain = pci_domain_nr(lu->core->pdev->bus);
	outgoing->bdf = pci_dev_id(lu->core->pdev);
	lu->outgoing = outgoing;
	ret = lu_map_canary(lu);
	if (ret)
		goto err_free_outgoing;
	ret = lu_list_update();
	if (ret)
		goto err_unmap_canary;

	forget(lu);
	lu->frozen = frozen;
	WRITE_ONCE(lu->state, LU_PRESERVED);

	return 0;

err_unmap_canary:
	lu_unmap_canary(lu);
err_free_outgoing:
	lu->outgoing = NULL;
	lu_list_update();
	kho_unpreserve_free(outgoing);
err_free_frozen:
	kvfree(frozen);

	return ret;
}

static int lu_preserve(struct liveupdate_file_op_args *args)
{
	struct lu_device *lu;
	int ret;

	guard(mutex)(&lu_devices_lock);
	lu = find_file(args->file);
	if (!lu)
		return -ENODEV;
	lock_device(lu);
	ret = preserve(lu);
	unlock_device(lu);
	if (ret)
		return ret;
	args->private_data = lu;
	args->serialized_data = virt_to_phys(lu->outgoing);

	return 0;
}

static void lu_unpreserve(struct liveupdate_file_op_args *args)
{
	struct liveupdate_vfio_pci_state *outgoing;
	struct lu_device *lu = args->private_data;

	guard(mutex)(&lu_devices_lock);
	lock_device(lu);
	outgoing = lu->outgoing;
	lu_unmap_canary(lu);
	lu->outgoing = NULL;
	WRITE_ONCE(lu->state, LU_IDLE);
	/* One device fewer: the list shrinks, which cannot fail. */
	lu_list_update();
	unlock_device(lu);
	kho_unpreserve_free(outgoing);
}

static int lu_freeze_file(struct liveupdate_file_op_args *args)
{
	struct lu_device *lu = args->private_data;
	int ret;

	lock_device(lu);
	ret = lu_freeze(lu);
	unlock_device(lu);

	return ret;
}

static void lu_unfreeze_file(struct liveupdate_file_op_args *args)
{
	struct lu_device *lu = args->private_data;

	lock_device(lu);
	lu_unfreeze(lu);
	unlock_device(lu);
}

/* The state is from another kernel: nothing in it is believed before this. */
static int check_state(const struct liveupdate_vfio_pci_state *state)
{
	if (state->size != sizeof(*state) ||
	    !(state->flags & LIVEUPDATE_VFIO_PCI_FROZEN) ||
	    state->facts.bridge_count > LIVEUPDATE_VFIO_PCI_BRIDGES ||
	    state->identity.cap_count > LIVEUPDATE_VFIO_PCI_CAPS ||
	    state->config_size > LIVEUPDATE_VFIO_PCI_CONFIG_SIZE) {
		pr_err("vfio-pci-liveupdate: the former kernel handed over a device in a form that this one does not read\n");
		return -EINVAL;
	}

	return 0;
}

static void read_arrival(struct lu_device *lu)
{
	const struct liveupdate_vfio_pci_facts *facts = &lu->frozen->facts;
	struct liveupdate_vfio_pci_entry entry;
	u32 i;

	for (i = 0; i < facts->bridge_count; i++) {
		if (!lu_list_arrived(facts->bridges[i].domain,
				     facts->bridges[i].bdf, &entry))
			continue;
		lu->arrived_bridges[i] = entry.arrived_command;
		lu->arrived_bridge_known |= BIT(i);
	}
}

static int retrieve(struct lu_device *lu,
		    const struct liveupdate_vfio_pci_state *state,
		    struct file **file)
{
	struct vfio_pci_core_device *core = lu->core;
	struct pci_dev *pdev = core->pdev;
	struct file *opened;

	if (pdev->vendor != state->identity.vendor ||
	    pdev->device != state->identity.device) {
		pci_err(pdev, "live update: %04x:%04x was handed over, but %04x:%04x is here\n",
			state->identity.vendor, state->identity.device,
			pdev->vendor, pdev->device);
		return -ENODEV;
	}
	if (core->vdev.open_count || lu->outgoing) {
		pci_err(pdev, "live update: it is in use before it was asked for\n");
		return -EBUSY;
	}

	lu->frozen = kvmemdup(state, sizeof(*state), GFP_KERNEL);
	if (!lu->frozen)
		return -ENOMEM;
	vfio_device_set_handed_over(&core->vdev, true);
	opened = vfio_device_open_handed_over(&core->vdev);
	if (IS_ERR(opened)) {
		pci_err(pdev, "live update: it could not be opened: %ld\n",
			PTR_ERR(opened));
		kvfree(lu->frozen);
		lu->frozen = NULL;
		return PTR_ERR(opened);
	}

	read_arrival(lu);
	lu_read_facts(pdev, &lu->retrieved);
	lu->has_retrieved = true;
	lu->config = lu_compare_config(lu);
	WRITE_ONCE(lu->state, LU_RETRIEVED);
	lu_compare_canary(lu);
	*file = opened;

	return 0;
}

/*
 * A device that is there and has no driver yet: it was on the list, but came
 * after this module.
 */
static void bind_late(u32 domain, u16 bdf)
{
	struct pci_dev *pdev;

	pdev = pci_get_domain_bus_and_slot(domain, PCI_BUS_NUM(bdf), bdf & 0xff);
	if (!pdev)
		return;
	if (!pdev->driver && lu_list_incoming(pdev) &&
	    !device_set_driver_override(&pdev->dev, "vfio-pci-liveupdate") &&
	    device_attach(&pdev->dev) != 1)
		pci_err(pdev, "live update: it could not be bound\n");
	pci_dev_put(pdev);
}

static int lu_retrieve(struct liveupdate_file_op_args *args)
{
	const struct liveupdate_vfio_pci_state *state;
	struct lu_device *lu;
	int ret;

	if (!lu_enable) {
		pr_err("vfio-pci-liveupdate: a device was handed over, but the module's parameter \"enable\" is off\n");
		return -EPERM;
	}
	state = phys_to_virt(args->serialized_data);
	ret = check_state(state);
	if (ret)
		return ret;

	bind_late(state->domain, state->bdf);
	guard(mutex)(&lu_devices_lock);
	lu = find(state->domain, state->bdf);
	if (!lu) {
		struct pci_dev *pdev;

		pdev = pci_get_domain_bus_and_slot(state->domain,
						   PCI_BUS_NUM(state->bdf),
						   state->bdf & 0xff);
		ret = pdev && pdev->driver ? -EBUSY : -ENODEV;
		pr_err("vfio-pci-liveupdate: %04x:%02x:%02x.%u was handed over, but %s\n",
		       state->domain, PCI_BUS_NUM(state->bdf),
		       PCI_SLOT(state->bdf), PCI_FUNC(state->bdf),
		       !pdev ? "is not there" : pdev->driver ?
		       "another driver took it first" : "is not bound to this driver");
		pci_dev_put(pdev);
		return ret;
	}
	lock_device(lu);
	ret = retrieve(lu, state, &args->file);
	unlock_device(lu);

	return ret;
}

/* Does the device that nobody claims still write into handed over memory? */
static bool at_rest(u32 domain, u16 bdf)
{
	struct pci_dev *pdev;
	u16 command = 0;

	pdev = pci_get_domain_bus_and_slot(domain, PCI_BUS_NUM(bdf), bdf & 0xff);
	if (pdev)
		pci_read_config_word(pdev, PCI_COMMAND, &command);
	pci_dev_put(pdev);

	return command == 0xffff || !(command & PCI_COMMAND_MASTER);
}

static bool lu_can_finish(struct liveupdate_file_op_args *args)
{
	const struct liveupdate_vfio_pci_state *state;
	struct lu_device *lu;
	bool attached;

	state = phys_to_virt(args->serialized_data);
	if (args->retrieve_status <= 0)
		return at_rest(state->domain, state->bdf);

	guard(mutex)(&lu_devices_lock);
	lu = find_file(args->file);
	if (!lu)
		return true;
	mutex_lock(&lu->lock);
	attached = lu->state == LU_ATTACHED;
	mutex_unlock(&lu->lock);

	return attached;
}

/* From here on it may be reset, opened and closed like any other. */
static void finish(struct lu_device *lu)
{
	struct vfio_pci_core_device *core = lu->core;

	lu_compare_canary(lu);
	if (lu->frozen &&
	    lu->frozen->flags & LIVEUPDATE_VFIO_PCI_CANARY_CACHE_LINE &&
	    !lu->canary_broken)
		pci_write_config_byte(core->pdev, PCI_CACHE_LINE_SIZE,
				      lu->frozen->former_cache_line);
	core->keep_running = false;
	if (core->vdev.open_count)
		core->reset_works = core->pdev->reset_methods[0];
	vfio_device_set_handed_over(&core->vdev, false);
	WRITE_ONCE(lu->state, LU_IDLE);
}

static void lu_finish(struct liveupdate_file_op_args *args)
{
	struct liveupdate_vfio_pci_state *state;
	struct lu_device *lu;

	state = phys_to_virt(args->serialized_data);
	guard(mutex)(&lu_devices_lock);
	lu_list_finish(state->domain, state->bdf);
	lu = find(state->domain, state->bdf);
	if (lu && lu_is_incoming(lu)) {
		lock_device(lu);
		finish(lu);
		unlock_device(lu);
	}
	kho_restore_free(state);
}

static const struct liveupdate_file_ops lu_file_ops = {
	.can_preserve	= lu_can_preserve,
	.preserve	= lu_preserve,
	.unpreserve	= lu_unpreserve,
	.freeze		= lu_freeze_file,
	.unfreeze	= lu_unfreeze_file,
	.retrieve	= lu_retrieve,
	.can_finish	= lu_can_finish,
	.finish		= lu_finish,
	.get_id		= lu_get_id,
	.owner		= THIS_MODULE,
};

static struct liveupdate_file_handler lu_handler = {
	.ops		= &lu_file_ops,
	.compatible	= LIVEUPDATE_VFIO_PCI_COMPATIBLE,
};

/** lu_handler_register - serve the orchestrator from now on */
int lu_handler_register(void)
{
	return liveupdate_register_file_handler(&lu_handler);
}

/** lu_handler_unregister - undo lu_handler_register() */
void lu_handler_unregister(void)
{
	liveupdate_unregister_file_handler(&lu_handler);
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

/**
 * lu_device_remove - undo lu_device_add(), and stop what nobody asked for
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
	if (!lu_is_incoming(lu))
		return;
	pci_warn(pdev, "live update: given up; it is stopped and reset\n");
	pci_clear_master(pdev);
	__pci_reset_function_locked(pdev);
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
 * Return: 0, or -EBUSY for a device whose file was not asked for.
 */
int lu_device_may_open(struct lu_device *lu)
{
	guard(mutex)(&lu->lock);
	if (lu->state == LU_INCOMING)
		return -EBUSY;
	lu->core->keep_running = lu->state == LU_RETRIEVED;

	return 0;
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
	for (i = 0; i < ARRAY_SIZE(frozen->rbar); i++)
		core->rbar[i] = frozen->rbar[i];
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
	/* Whom it would interrupt has not armed anything yet. */
	pci_intx(pdev, 0);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	if (lu->frozen->flags & LIVEUPDATE_VFIO_PCI_KEEPS_BUS_MASTER) {
		if (!(command & PCI_COMMAND_MASTER))
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
 * lu_device_was_reset - count a reset, on the way only
 * @lu: the device
 */
void lu_device_was_reset(struct lu_device *lu)
{
	if (READ_ONCE(lu->state) >= LU_FROZEN)
		atomic_inc(&lu->resets);
}
