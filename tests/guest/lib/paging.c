// SPDX-License-Identifier: Apache-2.0
/* See paging.h. */
#include "paging.h"

extern uint64_t boot_pd[512];
static ulong next_page = 0x1000000;	/* 16 MiB */

void *page_alloc(void)
{
	void *p = (void *)next_page;

	next_page += 4096;
	return memset(p, 0, 4096);
}

uint64_t *page_entry(uint64_t root, ulong va, unsigned int level)
{
	uint64_t *table = (uint64_t *)(ulong)(root & P_ADDR);
	unsigned int l;

	for (l = 4; l > level; l--) {
		uint64_t *e = &table[va >> (12 + 9 * (l - 1)) & 511];

		if (!(*e & P_P))
			*e = (ulong)page_alloc() | P_P | P_W | P_U;
		table = (uint64_t *)(ulong)(*e & P_ADDR);
	}
	return &table[va >> (12 + 9 * (level - 1)) & 511];
}

void page_map(ulong va, uint64_t pa, uint64_t flags)
{
	*page_entry(read_cr3(), va, 1) = pa | flags;
	invlpg((void *)va);
}

/* The image lies below 4 MiB. */
void paging_init(void)
{
	unsigned int i, j;

	for (i = 0; i < 2; i++) {
		uint64_t *pt = page_alloc();

		for (j = 0; j < 512; j++) {
			ulong at = (i * 512 + j) * 4096UL;
			bool user = at >= (ulong)user_start && at < (ulong)user_end;

			pt[j] = at | P_P | P_W | (user ? P_U : 0);
		}
		boot_pd[i] = (ulong)pt | P_P | P_W | P_U;
	}
	write_cr3(read_cr3());
}
