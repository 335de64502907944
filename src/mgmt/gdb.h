/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vireo run --gdb`: a server of gdb's remote serial protocol, on the VM's loop; one client at a
 * time.  The VM stands still from a client's connection until it continues or goes away.
 */
#ifndef VIREO_MGMT_GDB_H
#define VIREO_MGMT_GDB_H

#include "base/err.h"

#include <stdbool.h>

struct gdb;
struct vm;

/*
 * @where: [tcp:][HOST:]PORT or unix:PATH; HOST is an address in numbers, else 127.0.0.1.
 * @wait: the VM does not begin before a client says so.
 */
int gdb_create(struct gdb **out, struct vm *vm, const char *where, bool wait, struct err *e);
void gdb_destroy(struct gdb *g);

#endif
