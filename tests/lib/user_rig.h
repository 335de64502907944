/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rig with a program at CPL 3 and a kernel for it: the first 2 MiB are at UPPER once more, where
 * the kernel runs; two pages are the user's; a TSS has the stacks.
 */
#ifndef VIREO_TESTS_USER_RIG_H
#define VIREO_TESTS_USER_RIG_H

#include "engine/soft/dbt_priv.h"
#include "engine/soft/soft_priv.h"
#include "soft_rig.h"

#define USER		0x30000
#define USER_STACK	0x32000	/* grows down from here, in a page of the user's */
#define KERNEL		0x34000
#define UPPER		0xffffff8000000000ULL	/* all once more */
#define TSS_AT		0x1f0000
#define STAR		(0x10ULL << 48 | 0x8ULL << 32)
#define USER_SS		0x00cff3000000ffffULL	/* descriptors 3 and 4 */
#define USER_CS		0x00affb000000ffffULL

static inline struct rig *user_rig(enum translator_choice translate, enum window_choice windows,
				   uint32_t without)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = translate, .translate_at = 1, .cache_bytes = 1 << 20,
		.windows = windows, .translator_no = without });
	struct vcpu *v = r->v;

	((uint64_t *)(r->ram + RIG_TABLES))[511] = (RIG_TABLES + 0x1000) | PTE_P | PTE_W | PTE_U;
	for (gva_t gva = 0; gva < 2 << 20; gva += GUEST_PAGE_SIZE)
		*rig_pte(r, gva) |= PTE_G | PTE_A | PTE_D;
	*rig_pte(r, USER) |= PTE_U;
	*rig_pte(r, USER_STACK - 8) |= PTE_U;
	rig_code(r, TSS_AT + 4, &(uint64_t){ RIG_STACK }, 8);
	v->tr = (struct segment){ .sel = 0x28, .attr = 0x8b, .limit = 103, .base = TSS_AT };
	v->cr4 |= CR4_PGE;
	v->star = STAR;
	v->lstar = UPPER + KERNEL;
	v->sfmask = 0x257fd5;
	vcpu_update_mode(v);
	PUT(r, KERNEL + 0xf00, 0x48, 0x0f, 0x07);	/* sysretq */
	return r;
}

/* From the kernel's first SYSRET to an exception: its vector. */
static inline int run_user(struct rig *r, uint64_t flags)
{
	r->v->gpr[REG_RCX] = USER;
	r->v->gpr[REG_R11] = flags;
	return rig_run(r, UPPER + KERNEL + 0xf00);
}

static inline const struct dbt_stats *rig_stats(const struct rig *r)
{
	const struct soft_vcpu *sv = r->v->engine;

	return dbt_get_stats(sv->dbt);
}

static inline uint64_t steps_of(const struct rig *r, unsigned int id)
{
	return rig_stats(r)->stepped[id];
}

#endif
