// SPDX-License-Identifier: GPL-2.0
/*
 * The next kernel's side: retrieve a device's file, and finish
 */
#include <linux/kexec_handover.h>
#include <linux/liveupdate.h>
#include <linux/pci.h>

#include "keep.h"
#include "liveupdate.h"

/* Whoever has it, or NULL; the caller puts it. */
static struct pci_dev *device_at(u32 domain, u16 bdf)
{
	return pci_get_domain_bus_and_slot(domain, PCI_BUS_NUM(bdf), bdf & 0xff);
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
	if (lu->state != LU_INCOMING) {
		pci_err(pdev, "live update: it was given up, and is not what was handed over any more\n");
		return -ENODEV;
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

	pdev = device_at(domain, bdf);
	if (!pdev)
		return;
	if (!pdev->driver && lu_list_incoming(pdev) &&
	    !device_set_driver_override(&pdev->dev, "vfio-pci-liveupdate") &&
	    device_attach(&pdev->dev) != 1)
		pci_err(pdev, "live update: it could not be bound\n");
	pci_dev_put(pdev);
}

/**
 * lu_retrieve - give a device's file back
 * @args: the orchestrator's
 *
 * Return: 0 or -errno, which the orchestrator keeps.
 */
int lu_retrieve(struct liveupdate_file_op_args *args)
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
	lu = lu_find(state->domain, state->bdf);
	if (!lu) {
		struct pci_dev *pdev;

		pdev = device_at(state->domain, state->bdf);
		ret = pdev && pdev->driver ? -EBUSY : -ENODEV;
		pr_err("vfio-pci-liveupdate: %04x:%02x:%02x.%u was handed over, but %s\n",
		       state->domain, PCI_BUS_NUM(state->bdf),
		       PCI_SLOT(state->bdf), PCI_FUNC(state->bdf),
		       !pdev ? "is not there" : pdev->driver ?
		       "another driver took it first" : "is not bound to this driver");
		pci_dev_put(pdev);
		return ret;
	}
	lu_lock(lu);
	ret = retrieve(lu, state, &args->file);
	lu_unlock(lu);

	return ret;
}

/* Does the device that nobody claims still write into handed over memory? */
static bool at_rest(u32 domain, u16 bdf)
{
	struct pci_dev *pdev;
	u16 command;
	bool rests;

	pdev = device_at(domain, bdf);
	/* That nobody sees it is no rest; that we stopped it is. */
	if (!pdev)
		return lu_list_finished(domain, bdf);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	/* No answer is no rest either, unless the device was pulled out. */
	rests = PCI_POSSIBLE_ERROR(command) ? pci_dev_is_disconnected(pdev) :
		!(command & PCI_COMMAND_MASTER);
	pci_dev_put(pdev);

	return rests;
}

/**
 * lu_can_finish - may the memory beside the device be freed?
 * @args: the orchestrator's
 *
 * Return: true when it is attached again, or was given up and does nothing.
 */
bool lu_can_finish(struct liveupdate_file_op_args *args)
{
	const struct liveupdate_vfio_pci_state *state;
	struct lu_device *lu;
	bool may;

	state = phys_to_virt(args->serialized_data);
	guard(mutex)(&lu_devices_lock);
	lu = lu_find(state->domain, state->bdf);
	/* Given up, or never ours: it is enough that it does nothing. */
	if (!lu || !lu_is_incoming(lu))
		return at_rest(state->domain, state->bdf);
	mutex_lock(&lu->lock);
	may = lu->state == LU_ATTACHED ||
	      (lu->given_up && at_rest(state->domain, state->bdf));
	mutex_unlock(&lu->lock);

	return may;
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
	WRITE_ONCE(core->keep_running, false);
	if (core->vdev.open_count)
		core->reset_works = core->pdev->reset_methods[0];
	vfio_device_set_handed_over(&core->vdev, false);
	WRITE_ONCE(lu->state, LU_IDLE);
}

/**
 * lu_finish - the update of a device is over
 * @args: the orchestrator's
 */
void lu_finish(struct liveupdate_file_op_args *args)
{
	struct liveupdate_vfio_pci_state *state;
	struct pci_dev *pdev;
	struct lu_device *lu;

	state = phys_to_virt(args->serialized_data);
	guard(mutex)(&lu_devices_lock);
	/* Also of a device that is nobody's any more. */
	pdev = device_at(state->domain, state->bdf);
	if (pdev)
		lu_keep_finish(pdev);
	pci_dev_put(pdev);
	lu_list_finish(state->domain, state->bdf);
	lu = lu_find(state->domain, state->bdf);
	if (lu && lu_is_incoming(lu)) {
		lu_lock(lu);
		finish(lu);
		lu_unlock(lu);
	}
	kho_restore_free(state);
}
