/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stands in for a header that no released kernel has: what upstream's PCI live
 * update (posted, version 9) offers to drivers. lint.sh compiles against it.
 */
#ifndef PCI_LIVEUPDATE_STAND_IN_H
#define PCI_LIVEUPDATE_STAND_IN_H

#include <linux/types.h>

struct liveupdate_file_handler;
struct pci_dev;

int pci_liveupdate_register_flb(struct liveupdate_file_handler *fh);
void pci_liveupdate_unregister_flb(struct liveupdate_file_handler *fh);
int pci_liveupdate_preserve(struct pci_dev *dev);
void pci_liveupdate_unpreserve(struct pci_dev *dev);
void pci_liveupdate_finish(struct pci_dev *dev);
bool pci_liveupdate_is_incoming(struct pci_dev *dev);

#endif
