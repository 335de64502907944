/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that the host's processor executes for the guest: x87, MMX, SSE, AVX, bit
 * manipulation.  See host.c.
 */
#ifndef VIREO_ENGINE_SOFT_HOST_H
#define VIREO_ENGINE_SOFT_HOST_H

#include "engine/soft/exec.h"

struct soft_vcpu;

/* The handler of a decoded HOW_HOST instruction; may fill @i->host. */
exec_fn host_select(struct soft_vcpu *sv, struct insn *i);

#endif
