/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of vireo's program in the guest; see init.c. */
#ifndef VIREO_GUEST_GUEST_H
#define VIREO_GUEST_GUEST_H

#include "base/session_wire.h"

#include <stddef.h>

/* A line on the console. */
void guest_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void guest_sleep_ms(unsigned int ms);
void guest_make_folders(const char *path);

/*
 * modules.c: loads the module @name with those that it needs, from the initramfs or the root.
 * 0: it is nowhere, or refused; it may still be part of the kernel.
 */
int guest_load(const char *name);
/* The root at @root may have the kernel's modules. */
void guest_root_modules(const char *root);

/* net.c: the first card as vireo's user network wants it. */
void guest_network(void);

/* power.c: where the kernel tells of the power button, -1: nowhere; returns when it was pressed. */
int guest_power_open(void);
void guest_power_wait(int fd);

/* serve.c: the port of session @i; -1: it has not come in @wait_ms. */
int guest_open_port(int i, unsigned int wait_ms);
/* Runs what comes at @port; for @i 0 once. */
void guest_serve(int port, int i);

#endif
