/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page tables of 64-bit images: the first gigabyte is mapped one to one for the
 * supervisor (the .user section also for ring 3); tests map what they like elsewhere.
 */
#ifndef VIREO_GUEST_PAGING_H
#define VIREO_GUEST_PAGING_H

#include "guest.h"

#define P_P	BIT(0)
#define P_W	BIT(1)
#define P_U	BIT(2)
#define P_A	BIT(5)
#define P_D	BIT(6)
#define P_PS	BIT(7)
#define P_G	BIT(8)
#define P_NX	BIT(63)
#define P_ADDR	0x000ffffffffff000ULL

/* A zeroed page of RAM. */
void *page_alloc(void);
/* The entry for @va at @level (1: PTE, 2: PDE, ...); tables on the way are made, user, writable. */
uint64_t *page_entry(uint64_t root, ulong va, unsigned int level);
void page_map(ulong va, uint64_t pa, uint64_t flags);
/* Splits the image's own pages so that .user belongs to ring 3. */
void paging_init(void);

#endif
