/* SPDX-License-Identifier: Apache-2.0 */
/* The devices that the options of `vireo run` ask for. */
#ifndef VIREO_MGMT_RUN_DEVICES_H
#define VIREO_MGMT_RUN_DEVICES_H

#include "machine/vm.h"
#include "mgmt/run_options.h"

/*
 * --console: WHERE[,name=NAME].  Makes one virtio-console with a port for each.  What is wrong
 * with the text, or with the files it names, is one sentence.
 */
int run_add_consoles(struct vm *vm, const struct run_options *o, struct err *e);

/* --net and --publish: reads the texts without doing anything. */
int run_net_check(const struct run_options *o, struct err *e);
/* Starts their back ends and plugs a virtio-net in for each. */
int run_add_nets(struct vm *vm, const struct run_options *o, struct err *e);

#endif
