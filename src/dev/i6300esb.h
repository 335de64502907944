/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog timer of Intel's 6300ESB I/O controller, a PCI function.
 */
#ifndef VIREO_DEV_I6300ESB_H
#define VIREO_DEV_I6300ESB_H

#include "dev/pci.h"

/* What happens to a machine that does not answer any more. */
struct watchdog_wire {
	void (*bite)(void *sink);
	void *sink;
};

/* Into slot @devfn of @host.  Its pin is @w's INTx. */
int i6300esb_create(struct device **out, struct device *host, unsigned int devfn,
		    const struct pci_wires *w, struct clock *clock,
		    const struct watchdog_wire *bite, struct err *e);

#endif
