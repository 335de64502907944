/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM whose guest begins with vireo's own program (src/guest): --root, `vireo run IMAGE`,
 * `vireo kernel`.  It finds its root in a directory of the host over 9p, or on a disk, and serves
 * commands at ports of the virtio console (base/session_wire.h).
 */
#ifndef VIREO_MGMT_RUN_ROOT_H
#define VIREO_MGMT_RUN_ROOT_H

#include "mgmt/run_options.h"

#include <stddef.h>

/* What the options were made to name; lives as long as they do. */
struct run_root {
	char *texts[16];
	unsigned int count;
	int initramfs;			/* its descriptor; 0: none */
	struct err err;			/* the first */
};

/*
 * Adds to @o what --root asks for: kernel, initramfs, root, ports.  Those for `vireo exec` are
 * sockets in the current folder if the VM is kept, else beside its control socket if it has a name.
 */
int run_root_prepare(struct run_root *r, struct run_options *o, struct err *e);
void run_root_free(struct run_root *r);

/* The name of exec socket @i: in a kept VM's directory, and behind another's name. */
#define RUN_ROOT_SOCKET		"exec%u.sock"
#define RUN_ROOT_NAMED		".exec%u"

/* guest_init.c */
const char *guest_init(size_t *size);

#endif
