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
 *   open any more (ENODEV), is being unbound or in a call that does not end
 *   (EBUSY), has interrupts that cannot be masked (EIO), or does not come to
 *   rest (ETIMEDOUT): reboot(2) fails, every file that was frozen is unfrozen, the devices go on.
 * - The session is closed before the kexec: unpreserve, the devices go on.
 * - In the next kernel, this module comes after the first open of
 *   /dev/liveupdate: the orchestrator finds no handler and fails until the next
 *   boot. Another driver took the device first: EBUSY at retrieve. The device
 *   is gone, or another is at its place: ENODEV. The orchestrator keeps these
 *   errors; the memory stays reserved.
 * - Nobody asks for the file, or nobody attaches it: finish is refused (EBUSY),
 *   because to finish frees memory and the device may write to it. To give up a
 *   device, unbind it from this driver: that stops it, after which finish is
 *   allowed, and resets it, once no file of it is open. Who asks for it later
 *   gets ENODEV.
 * - It is reset all the same, through sysfs or by an error: that is counted,
 *   and the canaries tell of what was not seen.
 */

#include <linux/kexec_handover.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "keep.h"
#include "liveupdate.h"

static bool lu_can_preserve(struct liveupdate_file_handler *handler,
			    struct file *file)
{
	struct lu_device *lu;

	if (!lu_enable)
		return false;
	guard(mutex)(&lu_devices_lock);
	lu = lu_find_file(file);

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
	lu->canary_seen = false;
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
	ret = lu_keep_preserve(lu->core->pdev);
	if (ret)
		goto err_unmap_canary;
	ret = lu_list_update();
	if (ret)
		goto err_unpreserve;

	forget(lu);
	lu->frozen = frozen;
	WRITE_ONCE(lu->state, LU_PRESERVED);

	return 0;

err_unpreserve:
	lu_keep_unpreserve(lu->core->pdev);
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
	lu = lu_find_file(args->file);
	if (!lu)
		return -ENODEV;
	lu_lock(lu);
	ret = preserve(lu);
	lu_unlock(lu);
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
	lu_lock(lu);
	outgoing = lu->outgoing;
	lu_keep_unpreserve(lu->core->pdev);
	lu_unmap_canary(lu);
	lu->outgoing = NULL;
	WRITE_ONCE(lu->state, LU_IDLE);
	/* One device fewer: the list shrinks, which cannot fail. */
	lu_list_update();
	lu_unlock(lu);
	kho_unpreserve_free(outgoing);
}

static int lu_freeze_file(struct liveupdate_file_op_args *args)
{
	struct lu_device *lu = args->private_data;
	int ret;

	ret = lu_lock_soon(lu);
	if (ret)
		return ret;
	ret = lu_freeze(lu);
	lu_unlock(lu);

	return ret;
}

static void lu_unfreeze_file(struct liveupdate_file_op_args *args)
{
	struct lu_device *lu = args->private_data;

	/*
	 * Not the device set's: a call of some holder may sit on that, and all
	 * guests stand still. Nobody waits for anything under ours while frozen.
	 */
	guard(mutex)(&lu->lock);
	lu_unfreeze(lu);
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
	int ret;

	ret = liveupdate_register_file_handler(&lu_handler);
	if (ret)
		return ret;
	ret = lu_keep_register(&lu_handler);
	if (ret)
		liveupdate_unregister_file_handler(&lu_handler);

	return ret;
}

/** lu_handler_unregister - undo lu_handler_register() */
void lu_handler_unregister(void)
{
	lu_keep_unregister(&lu_handler);
	liveupdate_unregister_file_handler(&lu_handler);
}
