/* SPDX-License-Identifier: Apache-2.0 */
/* Within the sandbox of `vireo run`; for its files only. */
#ifndef VIREO_MGMT_SANDBOX_PRIV_H
#define VIREO_MGMT_SANDBOX_PRIV_H

#include "base/confine.h"

/* What a VM does later, beside running its guest with what is open. */
struct sandbox_needs {
	bool kvm;		/* ioctls of KVM */
	bool shares;		/* a guest's deeds in shared directories */
	bool names;		/* opens files by name: disks that are added */
	bool removal;		/* removes its sockets at the end */
	bool sockets;		/* connects to Unix sockets */
	bool rings;		/* submits to a disk's io_uring, which is there already */
};

void sandbox_allow_calls(struct confine *c, const struct sandbox_needs *n);

#endif
