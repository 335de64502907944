/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of a kernel's addresses, from a System.map, a copy of /proc/kallsyms, or an ELF file
 * with a symbol table (vmlinux).
 */
#ifndef VIREO_MGMT_SYMBOLS_H
#define VIREO_MGMT_SYMBOLS_H

#include "base/err.h"
#include "base/types.h"

struct symbols;

int symbols_read(struct symbols **out, const char *path, struct err *e);
void symbols_free(struct symbols *s);
/* The address of @name, or false. */
bool symbols_find(const struct symbols *s, const char *name, uint64_t *addr);
/* The last symbol at or below @addr and how far below, or NULL. */
const char *symbols_name(const struct symbols *s, uint64_t addr, uint64_t *off);

#endif
