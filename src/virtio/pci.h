/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device in a PCI slot.
 */
#ifndef VIREO_VIRTIO_PCI_H
#define VIREO_VIRTIO_PCI_H

#include "dev/pci.h"
#include "virtio/virtio.h"

/*
 * Puts @d into slot @devfn of @host and starts it.  Takes @d over, also where it fails.
 * The machine resets and destroys it through *out, with no vCPU running.
 */
int virtio_pci_create(struct device **out, struct virtio_device *d, struct device *host,
		      unsigned int devfn, const struct pci_wires *w, struct err *e);

#endif
