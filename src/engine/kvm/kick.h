/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signal that interrupts KVM_RUN; apart from kvm_priv.h, since the C library's signal
 * headers have names of their own for the registers.
 */
#ifndef VIREO_ENGINE_KVM_KICK_H
#define VIREO_ENGINE_KVM_KICK_H

#include "base/err.h"

#include <pthread.h>

/* Once in a process or more often: the signal's handler does nothing. */
int kick_init(struct err *e);
/* The calling thread can be kicked from now on. */
void kick_accept(void);
void kick_send(pthread_t thread);

#endif
