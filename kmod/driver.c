// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-pci-liveupdate: vfio-pci for devices that go on over a kexec
 *
 * A thin variant driver. It binds what is meant for it by driver_override, and
 * at load what the former kernel handed over. All that makes live update is in
 * the other files, which know only vfio_pci_core_device.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>

#include "liveupdate.h"

#define DRIVER_NAME "vfio-pci-liveupdate"

bool lu_enable;
module_param_named(enable, lu_enable, bool, 0444);
MODULE_PARM_DESC(enable,
		 "EXPERIMENTAL: hand devices over at a kexec, and take those that the former kernel handed over (default: N)");

static int abi_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", LIVEUPDATE_VFIO_PCI_COMPATIBLE);
}

static const struct kernel_param_ops abi_ops = { .get = abi_get };
module_param_cb(abi, &abi_ops, NULL, 0444);
MODULE_PARM_DESC(abi, "The form in which devices are handed over (read-only)");

/**
 * struct variant_device - a device of this driver
 * @core: VFIO's part; the driver's data points here, as vfio-pci-core wants it
 * @lu: live update's part
 */
struct variant_device {
	struct vfio_pci_core_device core;
	struct lu_device lu;
};

struct lu_device *lu_from_core(struct vfio_pci_core_device *core)
{
	return &container_of(core, struct variant_device, core)->lu;
}

static struct lu_device *lu_from_vdev(struct vfio_device *vdev)
{
	return lu_from_core(container_of(vdev, struct vfio_pci_core_device,
					 vdev));
}

static int variant_open_device(struct vfio_device *vdev)
{
	struct lu_device *lu = lu_from_vdev(vdev);
	int ret;

	ret = lu_device_may_open(lu);
	if (ret)
		return ret;
	ret = vfio_pci_core_enable(lu->core);
	if (ret) {
		lu_device_not_opened(lu);
		return ret;
	}
	lu_device_opened(lu);
	vfio_pci_core_finish_enable(lu->core);

	return 0;
}

static void variant_close_device(struct vfio_device *vdev)
{
	vfio_pci_core_close_device(vdev);
	lu_device_closed(lu_from_vdev(vdev));
}

static int variant_attach_ioas(struct vfio_device *vdev, u32 *pt_id)
{
	int ret;

	ret = vfio_iommufd_physical_attach_ioas(vdev, pt_id);
	if (!ret)
		lu_device_attached(lu_from_vdev(vdev));

	return ret;
}

static void variant_detach_ioas(struct vfio_device *vdev)
{
	vfio_iommufd_physical_detach_ioas(vdev);
	lu_device_detached(lu_from_vdev(vdev));
}

static int variant_init_dev(struct vfio_device *vdev)
{
	struct vfio_pci_core_device *core =
		container_of(vdev, struct vfio_pci_core_device, vdev);
	struct pci_dev *pdev = to_pci_dev(vdev->dev);
	bool incoming = lu_enable && lu_list_incoming(pdev);
	int ret;

	ret = vfio_pci_core_init_dev(vdev);
	if (ret)
		return ret;
	/* Idle it is, but not asleep: it runs. */
	core->disable_idle_d3 = incoming;
	lu_device_init(lu_from_core(core), core, incoming);

	return 0;
}

static void variant_release_dev(struct vfio_device *vdev)
{
	lu_device_destroy(lu_from_vdev(vdev));
	vfio_pci_core_release_dev(vdev);
}

static long variant_ioctl(struct vfio_device *vdev, unsigned int cmd,
			  unsigned long arg)
{
	return lu_ioctl(lu_from_vdev(vdev), cmd, arg);
}

static int variant_ioctl_feature(struct vfio_device *vdev, u32 flags,
				 void __user *arg, size_t argsz)
{
	int ret;

	ret = lu_guard_feature(lu_from_vdev(vdev), flags);
	if (ret)
		return ret;

	return vfio_pci_core_ioctl_feature(vdev, flags, arg, argsz);
}

static ssize_t variant_write(struct vfio_device *vdev, const char __user *buf,
			     size_t count, loff_t *ppos)
{
	return lu_write(lu_from_vdev(vdev), buf, count, ppos);
}

static const struct vfio_device_ops variant_ops = {
	.name		= DRIVER_NAME,
	.init		= variant_init_dev,
	.release	= variant_release_dev,
	.open_device	= variant_open_device,
	.close_device	= variant_close_device,
	.ioctl		= variant_ioctl,
	.get_region_info_caps = vfio_pci_ioctl_get_region_info,
	.device_feature	= variant_ioctl_feature,
	.read		= vfio_pci_core_read,
	.write		= variant_write,
	.mmap		= vfio_pci_core_mmap,
	.request	= vfio_pci_core_request,
	.match		= vfio_pci_core_match,
	.match_token_uuid = vfio_pci_core_match_token_uuid,
	.bind_iommufd	= vfio_iommufd_physical_bind,
	.unbind_iommufd	= vfio_iommufd_physical_unbind,
	.attach_ioas	= variant_attach_ioas,
	.detach_ioas	= variant_detach_ioas,
	.pasid_attach_ioas = vfio_iommufd_physical_pasid_attach_ioas,
	.pasid_detach_ioas = vfio_iommufd_physical_pasid_detach_ioas,
};

static const struct vfio_pci_device_ops variant_pci_ops = {
	.get_dmabuf_phys = vfio_pci_core_get_dmabuf_phys,
};

static int variant_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct variant_device *variant;
	int ret;

	variant = vfio_alloc_device(variant_device, core.vdev, &pdev->dev,
				    &variant_ops);
	if (IS_ERR(variant))
		return PTR_ERR(variant);

	dev_set_drvdata(&pdev->dev, &variant->core);
	variant->core.pci_ops = &variant_pci_ops;
	ret = vfio_pci_core_register_device(&variant->core);
	if (ret) {
		if (lu_is_incoming(&variant->lu))
			pci_err(pdev, "live update: handed over, but VFIO does not take it (%d); is there an IOMMU, or vfio.enable_unsafe_noiommu_mode?\n",
				ret);
		vfio_put_device(&variant->core.vdev);
		return ret;
	}
	lu_device_add(&variant->lu);

	return 0;
}

static void variant_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	lu_device_leave(lu_from_core(core));
	/* Waits until the last file is closed, also one that is handed over. */
	vfio_pci_core_unregister_device(core);
	lu_device_remove(lu_from_core(core));
	vfio_put_device(&core->vdev);
}

static void variant_reset_done(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	lu_device_was_reset(lu_from_core(core));
}

static pci_ers_result_t variant_slot_reset(struct pci_dev *pdev)
{
	variant_reset_done(pdev);

	/* No opinion on what comes of it, like vfio-pci. */
	return PCI_ERS_RESULT_NONE;
}

static const struct pci_error_handlers variant_err_handlers = {
	.error_detected	= vfio_pci_core_aer_err_detected,
	.slot_reset	= variant_slot_reset,
	.reset_done	= variant_reset_done,
};

static const struct pci_device_id variant_table[] = {
	/* Any device, but only by driver_override. */
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, variant_table);

static struct pci_driver variant_driver = {
	.name			= DRIVER_NAME,
	.id_table		= variant_table,
	.probe			= variant_probe,
	.remove			= variant_remove,
	.err_handler		= &variant_err_handlers,
	.dev_groups		= lu_groups,
	.driver_managed_dma	= true,
};

static bool registered;

static int __init variant_init(void)
{
	int ret;

	/* First, so that the orchestrator finds us however early it is opened. */
	ret = lu_handler_register();
	if (ret == -EOPNOTSUPP)
		pr_warn(DRIVER_NAME ": live update is off in this kernel (boot with liveupdate=on kho=on); devices are served as by vfio-pci\n");
	else if (ret)
		return ret;
	registered = !ret;
	if (lu_enable && registered)
		lu_list_claim(DRIVER_NAME);
	ret = pci_register_driver(&variant_driver);
	if (ret && registered)
		lu_handler_unregister();

	return ret;
}
module_init(variant_init);

static void __exit variant_exit(void)
{
	pci_unregister_driver(&variant_driver);
	if (registered)
		lu_handler_unregister();
	lu_list_remove();
}
module_exit(variant_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The liveupdate authors");
MODULE_DESCRIPTION("VFIO PCI devices over a kexec (EXPERIMENTAL)");
