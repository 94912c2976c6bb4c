/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What vfio-pci-liveupdate hands over to the next kernel
 *
 * Two things, each versioned by its name: one state per device, which the Live
 * Update Orchestrator carries as the data of the device's file, and one list of
 * the devices and the bridges above them, a KHO subtree of its own that is
 * readable from the first moment of the next kernel. Numbers are of the
 * machine's own byte order: both kernels run on it. Whatever changes here
 * changes the name, and a kernel with another name takes nothing over.
 *
 * The licence allows programs outside the kernel to mirror this.
 */
#ifndef LIVEUPDATE_VFIO_PCI_H
#define LIVEUPDATE_VFIO_PCI_H

/* Plain C where it differs from the kernel's style: programs outside of it may include this. */
#include <linux/types.h>

#define LIVEUPDATE_VFIO_PCI_COMPATIBLE		"liveupdate.dev/vfio-pci-v1"
#define LIVEUPDATE_VFIO_PCI_SUBTREE		"vfio-pci-liveupdate"
#define LIVEUPDATE_VFIO_PCI_LIST_COMPATIBLE	"liveupdate.dev/vfio-pci-list-v1"

/* The limits of what is handed over: a device beyond them is refused. */
#define LIVEUPDATE_VFIO_PCI_BRIDGES		16
#define LIVEUPDATE_VFIO_PCI_CAPS		96
#define LIVEUPDATE_VFIO_PCI_CONFIG_SIZE		4096

/**
 * struct liveupdate_vfio_pci_bridge - a bridge above a device
 * @domain:	PCI domain
 * @bdf:	bus << 8 | devfn
 * @command:	its PCI_COMMAND
 */
struct liveupdate_vfio_pci_bridge {
	__u32 domain;
	__u16 bdf;
	__u16 command;
} __attribute__((packed));

/* liveupdate_vfio_pci_facts.valid: which facts the device has at all */
#define LIVEUPDATE_VFIO_PCI_FACT_LINK		(1u << 0)
#define LIVEUPDATE_VFIO_PCI_FACT_AER		(1u << 1)
#define LIVEUPDATE_VFIO_PCI_FACT_NVME		(1u << 2)
#define LIVEUPDATE_VFIO_PCI_FACT_BRIDGES	(1u << 3)

/**
 * struct liveupdate_vfio_pci_facts - a device as it was at one moment
 * @counter:		the processor's counter (TSC), 0 where there is none
 * @valid:		LIVEUPDATE_VFIO_PCI_FACT_*
 * @command:		PCI_COMMAND before anything was written
 * @link:		PCI_EXP_LNKSTA
 * @aer_uncor:		uncorrectable error status
 * @aer_cor:		correctable error status
 * @nvme_cc:		NVMe controller configuration
 * @nvme_csts:		NVMe controller status
 * @nvme_aqa:		NVMe admin queue attributes
 * @nvme_asq:		NVMe admin submission queue base address
 * @bridge_count:	how many of @bridges are set
 * @bridges:		bridges above the device, the root port first
 */
struct liveupdate_vfio_pci_facts {
	__u64 counter;
	__u32 valid;
	__u16 command;
	__u16 link;
	__u32 aer_uncor;
	__u32 aer_cor;
	__u32 nvme_cc;
	__u32 nvme_csts;
	__u64 nvme_asq;
	__u32 nvme_aqa;
	__u32 bridge_count;
	struct liveupdate_vfio_pci_bridge bridges[LIVEUPDATE_VFIO_PCI_BRIDGES];
} __attribute__((packed));

/**
 * struct liveupdate_vfio_pci_cap - one capability in configuration space
 * @offset:	where
 * @id:		its id; extended ones lie at 256 and above
 */
struct liveupdate_vfio_pci_cap {
	__u16 offset;
	__u16 id;
} __attribute__((packed));

/**
 * struct liveupdate_vfio_pci_identity - what makes a device the same device
 * @vendor:		PCI_VENDOR_ID
 * @device:		PCI_DEVICE_ID
 * @subsystem_vendor:	PCI_SUBSYSTEM_VENDOR_ID
 * @subsystem:		PCI_SUBSYSTEM_ID
 * @class_revision:	PCI_CLASS_REVISION
 * @header_type:	PCI_HEADER_TYPE
 * @reserved:		0
 * @cap_count:		how many of @caps are set
 * @bars:		base address registers as they read
 * @caps:		capabilities in the order of their lists
 */
struct liveupdate_vfio_pci_identity {
	__u16 vendor;
	__u16 device;
	__u16 subsystem_vendor;
	__u16 subsystem;
	__u32 class_revision;
	__u8 header_type;
	__u8 reserved;
	__u16 cap_count;
	__u32 bars[6];
	struct liveupdate_vfio_pci_cap caps[LIVEUPDATE_VFIO_PCI_CAPS];
} __attribute__((packed));

/* liveupdate_vfio_pci_state.flags */
#define LIVEUPDATE_VFIO_PCI_FROZEN		(1u << 0)
#define LIVEUPDATE_VFIO_PCI_KEEPS_BUS_MASTER	(1u << 1)
#define LIVEUPDATE_VFIO_PCI_CANARY_CACHE_LINE	(1u << 2)
#define LIVEUPDATE_VFIO_PCI_CANARY_MSIX		(1u << 3)

/**
 * struct liveupdate_vfio_pci_state - a device that is handed over
 * @size:		of this structure
 * @flags:		LIVEUPDATE_VFIO_PCI_*
 * @domain:		PCI domain
 * @bdf:		bus << 8 | devfn
 * @canary_msix_entry:	the MSI-X vector whose data word is a canary
 * @canary_msix_data:	that word
 * @canary_cache_line:	PCI_CACHE_LINE_SIZE, the other canary
 * @former_cache_line:	what it was before
 * @reserved:		0
 * @facts:		the device at freeze
 * @identity:		the device at freeze
 * @config_size:	how much of @config_map and @config is set
 * @rbar:		VFIO's real BARs and ROM BAR
 * @config_map:		VFIO's map of configuration space
 * @config:		VFIO's virtual configuration space where mapped, else 0
 */
struct liveupdate_vfio_pci_state {
	__u32 size;
	__u32 flags;
	__u32 domain;
	__u16 bdf;
	__u16 canary_msix_entry;
	__u32 canary_msix_data;
	__u8 canary_cache_line;
	__u8 former_cache_line;
	__u8 reserved[2];
	struct liveupdate_vfio_pci_facts facts;
	struct liveupdate_vfio_pci_identity identity;
	__u32 config_size;
	__u32 rbar[7];
	__u8 config_map[LIVEUPDATE_VFIO_PCI_CONFIG_SIZE];
	__u8 config[LIVEUPDATE_VFIO_PCI_CONFIG_SIZE];
} __attribute__((packed));

/* liveupdate_vfio_pci_entry.flags */
#define LIVEUPDATE_VFIO_PCI_ENTRY_DEVICE	(1u << 0)
#define LIVEUPDATE_VFIO_PCI_ENTRY_BRIDGE	(1u << 1)
#define LIVEUPDATE_VFIO_PCI_ENTRY_ARRIVED	(1u << 2)
#define LIVEUPDATE_VFIO_PCI_ENTRY_FINISHED	(1u << 3)

/**
 * struct liveupdate_vfio_pci_entry - one device or bridge in the list
 * @domain:		PCI domain
 * @bdf:		bus << 8 | devfn
 * @flags:		LIVEUPDATE_VFIO_PCI_ENTRY_*
 * @arrived_command:	PCI_COMMAND at first touch in the next kernel, written
 *			there by an early fixup (ARRIVED)
 * @reserved:		0
 * @arrived_counter:	the processor's counter then
 */
struct liveupdate_vfio_pci_entry {
	__u32 domain;
	__u16 bdf;
	__u16 flags;
	__u16 arrived_command;
	__u16 reserved[3];
	__u64 arrived_counter;
} __attribute__((packed));

/**
 * struct liveupdate_vfio_pci_list - what is handed over, in the KHO subtree
 * @compatible:	LIVEUPDATE_VFIO_PCI_LIST_COMPATIBLE
 * @count:	how many entries follow
 * @reserved:	0
 * @entries:	devices and bridges, each once
 */
struct liveupdate_vfio_pci_list {
	char compatible[48];
	__u32 count;
	__u32 reserved[3];
	struct liveupdate_vfio_pci_entry entries[];
} __attribute__((packed));

#endif
