/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VFIO_PCI_LIVEUPDATE_H
#define VFIO_PCI_LIVEUPDATE_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/vfio_pci_core.h>

#include "liveupdate_vfio_pci.h"

/**
 * enum lu_state - how far a device is on its way
 * @LU_IDLE:		not on its way, or arrived and finished
 * @LU_PRESERVED:	to be handed over at the next kexec
 * @LU_FROZEN:		masked and recorded, the jump is next
 * @LU_INCOMING:	handed over by the former kernel, its file not asked for
 * @LU_RETRIEVED:	its file is out, not yet attached to an IOAS
 * @LU_ATTACHED:	back in use, not yet finished
 */
enum lu_state {
	LU_IDLE,
	LU_PRESERVED,
	LU_FROZEN,
	LU_INCOMING,
	LU_RETRIEVED,
	LU_ATTACHED,
};

/* liveupdate_vfio_pci_state.flags: which canaries were laid */
#define LU_CANARIES	(LIVEUPDATE_VFIO_PCI_CANARY_CACHE_LINE | \
			 LIVEUPDATE_VFIO_PCI_CANARY_MSIX)

/** enum lu_same - what a comparison with the moment of freeze says */
enum lu_same {
	LU_UNKNOWN,
	LU_SAME,
	LU_CHANGED,
};

/**
 * struct lu_device - a VFIO PCI device that can be handed over
 * @node:		in the list of all, under lu_devices_lock
 * @core:		the device
 * @lock:		protects all below; inside of the device set's lock
 * @state:		how far it is
 * @outgoing:		its state in memory that the next kernel finds
 * @frozen:		its state at freeze, kept for reading
 * @retrieved:		facts at retrieve
 * @arrived:		what the list of the former kernel says of it
 * @arrived_bridges:	and of the bridges above it, as frozen.facts.bridges
 * @has_arrived:	@arrived is set
 * @arrived_bridge_known: one bit per bridge
 * @has_retrieved:	@retrieved is set
 * @attached_counter:	the counter when it was attached
 * @config:		identity compared with that at freeze
 * @canary_broken:	a canary was seen changed
 * @master_lost:	a checkpoint after retrieve saw Bus Master off
 * @enabled:		enabled by us until VFIO's own enabling has gone through
 * @msix_armed:		MSI-X vectors were given away again: no canary any more
 * @msix_entry:		mapping of the MSI-X canary, while preserved
 * @canary_seen:	a canary was compared, and was as it was laid
 * @leaving:		it is being taken from this driver
 * @given_up:		taken while nobody was back at it: stopped, and not to be opened
 * @resets:		resets since freeze
 * @undo:		what unfreeze() puts back
 */
struct lu_device {
	struct list_head node;
	struct vfio_pci_core_device *core;
	struct mutex lock;	/* all below */
	enum lu_state state;
	struct liveupdate_vfio_pci_state *outgoing;
	struct liveupdate_vfio_pci_state *frozen;
	struct liveupdate_vfio_pci_facts retrieved;
	struct liveupdate_vfio_pci_entry arrived;
	u16 arrived_bridges[LIVEUPDATE_VFIO_PCI_BRIDGES];
	bool has_arrived;
	u32 arrived_bridge_known;
	bool has_retrieved;
	u64 attached_counter;
	enum lu_same config;
	bool canary_broken;
	bool canary_seen;
	bool leaving;
	bool given_up;
	bool master_lost;
	bool enabled;
	bool msix_armed;
	void __iomem *msix_entry;
	atomic_t resets;
	struct {
		u16 command;
		u16 msix_flags;
		u32 msix_data;
	} undo;
};

extern struct list_head lu_devices;
extern struct mutex lu_devices_lock;
extern bool lu_enable;

struct liveupdate_file_op_args;

/* handler.c: the Live Update Orchestrator's side */
int lu_handler_register(void);
void lu_handler_unregister(void);

/* incoming.c: its callbacks in the next kernel */
int lu_retrieve(struct liveupdate_file_op_args *args);
bool lu_can_finish(struct liveupdate_file_op_args *args);
void lu_finish(struct liveupdate_file_op_args *args);

/* device.c: a device from probe to removal */
struct lu_device *lu_find(u32 domain, u16 bdf);
struct lu_device *lu_find_file(struct file *file);
void lu_lock(struct lu_device *lu);
int lu_lock_soon(struct lu_device *lu);
void lu_unlock(struct lu_device *lu);
void lu_device_init(struct lu_device *lu, struct vfio_pci_core_device *core,
		    bool incoming);
void lu_device_add(struct lu_device *lu);
void lu_device_leave(struct lu_device *lu);
void lu_device_remove(struct lu_device *lu);
void lu_device_destroy(struct lu_device *lu);
int lu_device_may_open(struct lu_device *lu);
void lu_device_opened(struct lu_device *lu);
void lu_device_not_opened(struct lu_device *lu);
void lu_device_closed(struct lu_device *lu);
void lu_device_attached(struct lu_device *lu);
void lu_device_detached(struct lu_device *lu);
void lu_device_was_reset(struct lu_device *lu);
bool lu_is_incoming(struct lu_device *lu);
bool lu_any_leaves(void);
bool lu_keeps_bus_master(struct lu_device *lu);

/* freeze.c: the last moment in one kernel, and its undoing */
int lu_freeze(struct lu_device *lu);
void lu_unfreeze(struct lu_device *lu);
int lu_map_canary(struct lu_device *lu);
void lu_unmap_canary(struct lu_device *lu);

/* guard.c: what a user must not do on the way */
long lu_ioctl(struct lu_device *lu, unsigned int cmd, unsigned long arg);
int lu_guard_feature(struct lu_device *lu, u32 flags);
ssize_t lu_write(struct lu_device *lu, const char __user *buf, size_t count,
		 loff_t *ppos);

/* evidence.c: reads the device, decides nothing */
void lu_read_facts(struct pci_dev *pdev, struct liveupdate_vfio_pci_facts *facts);
int lu_read_identity(struct pci_dev *pdev,
		     struct liveupdate_vfio_pci_identity *identity);
int lu_count_bridges(struct pci_dev *pdev);
enum lu_same lu_compare_config(struct lu_device *lu);
enum lu_same lu_compare_canary(struct lu_device *lu);
enum lu_same lu_bus_master(struct lu_device *lu);
void __iomem *lu_map_msix_entry(struct pci_dev *pdev, u16 *entry);

/* list.c: what the next kernel reads before anything else */
int lu_list_update(void);
void lu_list_remove(void);
bool lu_list_incoming(struct pci_dev *pdev);
bool lu_list_arrived(u32 domain, u16 bdf, struct liveupdate_vfio_pci_entry *entry);
void lu_list_finish(u32 domain, u16 bdf);
bool lu_list_finished(u32 domain, u16 bdf);
void lu_list_claim(const char *driver);

/* driver.c: whoever owns the VFIO device knows where its lu_device is */
struct lu_device *lu_from_core(struct vfio_pci_core_device *core);

/* sysfs.c */
extern const struct attribute_group *lu_groups[];

#endif
