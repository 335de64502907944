/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine's own structures.  A block is a run of decoded instructions in one
 * guest-physical page (a page-crossing instruction is a block of its own), found by
 * guest-physical address and code size; each vCPU has a table in front of that, keyed
 * by linear address and TLB tag.
 *
 * Memory for blocks is one arena, filled from the bottom and dropped whole when it is
 * full.  An invalidated block stays where it is until then, its instructions replaced by
 * one that says so: whoever runs it, its own last instruction included, stops in time.
 */
#ifndef VIREO_ENGINE_SOFT_PRIV_H
#define VIREO_ENGINE_SOFT_PRIV_H

#include "cpu/cpuid.h"
#include "engine/engine.h"
#include "engine/soft/cache.h"
#include "engine/soft/dbt.h"
#include "engine/soft/exec.h"
#include "engine/soft/trap.h"

#include <stdatomic.h>

#define BLOCK_INSNS	64	/* at most, in a block */
#define LOOKUP_BITS	14
#define HASH_BITS	16
#define PAGE_HASH_BITS	14
#define SNIPPET_HASH_BITS 14

/* exec_status of the engine alone: the block was invalidated, this instruction not run. */
#define EXEC_STALE	3

struct block {
	gpa_t gpa;
	gpa_t second;		/* page of the last bytes, GPA_NONE: all in one page */
	uint16_t len;		/* bytes of code */
	uint16_t count;		/* instructions, at least 1 */
	uint8_t code_size;
	bool dead;
	uint8_t heat;		/* runs since it was last looked at for translation */
	struct dbt_ref translation;
	struct block *hash_next;
	struct block *page_next[2];	/* in the lists of the first and second page */
	struct insn insn[] __attribute__((aligned(64)));
};

/* A RAM page that blocks were made from. */
struct code_page {
	gpa_t base;
	uint64_t map;		/* bit n: bytes 64n..64n+63 belong to a block (or did) */
	struct block *blocks;
	unsigned int drops;	/* writes that hit a block, lately */
	unsigned int uncached;	/* instructions run from it without a block since */
	struct code_page *hash_next;
};

/* One entry of a vCPU's lookup table. */
struct lookup {
	gva_t linear;
	uint64_t key;		/* lookup_key(), never 0 */
	struct block *block;
};

#define MEMO_BITS	12

/* An instruction decoded before: memo.c. */
struct decode_memo {
	uint64_t low, high;	/* the 15 bytes, overlapping by one */
	unsigned int mode;	/* plus 1; 0: empty */
	enum decode_result result;
	struct insn insn;
};

struct soft_vcpu {
	struct lookup lookup[BIT(LOOKUP_BITS)];
	struct soft *engine;
	struct vcpu *v;
	struct insn scratch[BLOCK_INSNS];	/* a block being made */
	uint8_t isa_ok[256 / 8];	/* bit ZYDIS_ISA_SET_*: the model has it */
	unsigned int decode_mode;	/* DECODE_* for the model */
	struct decode_memo memo[BIT(MEMO_BITS)];
	/* A block of one instruction for code that is not worth keeping. */
	struct block *once;
	uint8_t trap_stack[TRAP_STACK_SIZE] __attribute__((aligned(64)));
};

struct soft {
	struct engine_config config;
	struct gpa_space *space;
	struct log *log;
	struct soft_vcpu *vcpu;		/* one for now */
	struct dbt *dbt;		/* the translator, NULL without */
	_Atomic bool lock;		/* (b) blocks: vCPUs, and devices that write to code */
	uint8_t *arena;			/* (b) */
	uint64_t arena_size, arena_used; /* (b) bytes */
	struct block *hash[BIT(HASH_BITS)];		/* (b) */
	struct code_page *pages[BIT(PAGE_HASH_BITS)];	/* (b) */
	struct code_cache snippets;
	struct trap_region region;	/* of snippets */
	struct snippet_slot {		/* snippets by content, open addressing */
		uint32_t hash, len;	/* len 0: free */
		const uint8_t *code;
	} snippet_slot[BIT(SNIPPET_HASH_BITS)];
	unsigned int snippet_count;	/* slots taken */
};

static inline void soft_lock(struct soft *s)
{
	/* Acquire: what the last holder did to the blocks is seen. */
	while (atomic_exchange_explicit(&s->lock, true, memory_order_acquire))
		__builtin_ia32_pause();
}

static inline void soft_unlock(struct soft *s)
{
	atomic_store_explicit(&s->lock, false, memory_order_release);	/* pairs with soft_lock */
}

/* memo.c: insn_decode() for the CPU model; puts SIMD state away where it must. */
enum decode_result memo_decode(struct soft_vcpu *sv, struct insn *out, const uint8_t *bytes,
			       unsigned int avail, unsigned int code_size);

/* build.c: gives the decoded @i its handler; false: that of #UD. */
bool insn_bind(struct soft_vcpu *sv, struct insn *i);
/* build.c: stores to the page of RAM at @gpa are seen from now on. */
void soft_mark_page(struct soft_vcpu *sv, gpa_t gpa);

/* features.c: what @v's model has, as a set of Zydis's instruction sets. */
void soft_features(struct soft_vcpu *sv);

/* counters.c: engine_ops.counters */
void soft_counters(struct engine *en, const struct vcpu *v, counter_fn *tell, void *arg);

/* block.c */
int blocks_init(struct soft *s, struct err *e);
void blocks_destroy(struct soft *s);
void blocks_flush(struct soft *s);
struct block *block_find(struct soft *s, gpa_t gpa, unsigned int code_size);
/* A copy of @sv->scratch[0..count) as a block, or NULL: not to be kept. */
struct block *block_insert(struct soft_vcpu *sv, gpa_t gpa, gpa_t second, unsigned int len,
			   unsigned int count);
/* False: code in this page changes so often that a block would not pay. */
bool block_worthwhile(struct soft_vcpu *sv, gpa_t gpa);
/* A block at @gpa ran often since it was made: what was dropped in its page is forgiven. */
void block_paid(struct soft *s, gpa_t gpa);
/* gpa_space.code_write: [gpa, gpa+len) is about to be written. */
void blocks_code_write(void *arg, gpa_t gpa, uint64_t len);

/* snippets.c: one copy of each snippet; NULL: full, see snippets_full(). */
int snippets_init(struct soft *s, struct err *e);
void snippets_destroy(struct soft *s);
void *snippet_store(struct soft *s, const uint8_t *code, unsigned int len);
/* True: there might not be room for a block's snippets. */
bool snippets_full(const struct soft *s);
/* Forgets them all, with the blocks that use them. */
void snippets_flush(struct soft *s);

/*
 * build.c: the block at linear address @linear, found or made.  EXEC_FAULT: the fetch
 * faulted, v->fault is filled.  EXEC_EXIT: the host failed.
 */
enum exec_status block_get(struct soft_vcpu *sv, gva_t linear, struct block **out);

#endif
