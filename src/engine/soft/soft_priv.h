/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine's own structures.  A block is a run of decoded instructions in one
 * guest-physical page (a page-crossing instruction is a block of its own), found by
 * guest-physical address and code size; each vCPU has a table in front of that, keyed
 * by linear address and TLB tag.
 *
 * Each vCPU has blocks, translations and snippets of its own: nothing on a hot path is
 * shared, and nothing is patched under a vCPU that runs.  What crosses vCPUs is the news
 * that code has changed: code.c.
 *
 * Memory for blocks is one arena, dropped whole when it is full or translations need the room;
 * what is known of pages, and
 * how often code ran, outlives that.  An invalidated block stays where it is until then, its
 * instructions replaced by one that says so: whoever runs it, its own last instruction included,
 * stops in time.
 */
#ifndef VIREO_ENGINE_SOFT_PRIV_H
#define VIREO_ENGINE_SOFT_PRIV_H

#include "cpu/cpuid.h"
#include "engine/engine.h"
#include "engine/soft/cache.h"
#include "engine/soft/dbt.h"
#include "engine/soft/direct.h"
#include "engine/soft/exec.h"
#include "engine/soft/trap.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#define BLOCK_INSNS	64	/* at most, in a block */
#define ROOM_UNIT	64	/* blocks' sizes are multiples of it */
#define ROOM_SIZES	((sizeof(struct block) + BLOCK_INSNS * sizeof(struct insn)) / ROOM_UNIT + 1)
#define LOOKUP_BITS	14
#define HASH_BITS	15
#define HEAT_BITS	17
#define PAGE_HASH_BITS	14
#define SNIPPET_HASH_BITS 14
#define SOFT_VCPUS	64	/* as many as struct unsettled has bits for */
#define PAGE_LOCKS	64
#define UNSETTLED_MAX	32
#define PROTECT_MAX	64
#define LOCK_SPINS	256

/* exec_status of the engine alone: the block was invalidated, this instruction not run. */
#define EXEC_STALE	3

struct block {
	gpa_t gpa;
	gpa_t second;		/* page of the last bytes, GPA_NONE: all in one page */
	uint16_t len;		/* bytes of code */
	uint16_t count;		/* instructions, at least 1 */
	uint8_t code_size;
	uint8_t lists;		/* pages whose lists it is in */
	uint64_t serial;	/* unlike that of any other block; 0: dead */
	struct block *hash_next;
	struct block *page_next[2];	/* in the lists of the first and second page */
	struct insn insn[] __attribute__((aligned(64)));
};

/* A RAM page that blocks or translations were made from. */
struct code_page {
	gpa_t base;
	uint64_t chunks;	/* bit n: some of bytes 64n..64n+63 are code */
	uint64_t bytes[64];	/* bit m of word n: byte 64n + m is, or was lately */
	uint64_t asked;		/* chunks that others have changed: to be dropped */
	struct code_page *asked_next;
	struct block *blocks;
	unsigned int retired;	/* dead ones among them, whose room is to be had */
	unsigned int drops;	/* writes that hit a block, lately */
	unsigned int uncached;	/* instructions run from it without a block since */
	uint16_t stored_to;	/* offset behind the last store, ... */
	uint8_t in_row;		/* ... one of so many in a row: see fills() */
	bool changes;		/* its code has been written */
	struct code_page *hash_next;
};

/* One entry of a vCPU's lookup table. */
struct lookup {
	gva_t linear;
	uint64_t key;		/* lookup_key(), never 0 */
	struct block *block;
	uint64_t serial;	/* the block's: its room may be another's now */
};

#define MEMO_BITS	13

/* An instruction decoded before: memo.c. */
struct decode_memo {
	uint64_t low, high;	/* bytes 0-7, 7-14; of a shape its bytes, then zeros */
	unsigned int mode;	/* plus 1; 0: empty */
	uint8_t shape;		/* so many bytes decide; the displacement and the immediate may be any */
	uint8_t imm_extend;	/* the immediate is extended by its sign */
	uint8_t result;		/* enum decode_result */
	struct insn insn;
};

/* A page that blocks are made from while others may still be writing to it: see code.c. */
struct unsettled {
	gpa_t page;
	const uint64_t *hva;
	uint64_t waiting;		/* bit n: vCPU n has not answered yet ... */
	uint32_t ticket[SOFT_VCPUS];	/* ... to its request of this number */
	uint64_t copy[GUEST_PAGE_SIZE / 8]; /* what the blocks were made from */
};

/*
 * What vCPUs tell each other about code: code.c.  (b) Its owner changes it and others look
 * at it, or the other way round, under soft_vcpu.lock.
 */
struct code_news {
	struct code_page *asked;	/* (b) pages with code that others have changed */
	gpa_t reading[2];		/* (b) pages whose bytes are being decoded ... */
	unsigned int reading_count;	/* (b) */
	bool read_hit;			/* (b) ... and were written meanwhile */
	gpa_t protect[PROTECT_MAX];	/* (b) pages to go from the write tables */
	unsigned int protect_count;	/* (b) PROTECT_MAX + 1: all */
	uint32_t requests;		/* (b) to do that */
	_Atomic uint32_t answered;	/* of them */
	_Atomic bool running;		/* in the guest; who is not, answers before it is */
	unsigned int unsettled_count;	/* (b) */
	struct unsettled *unsettled;	/* UNSETTLED_MAX; the addresses of pages: (b) */
};

/*
 * (b) Under 'lock': the owner takes it to change them, others to look.  The rest is the
 * owner's, the vCPU's thread.
 */
struct soft_vcpu {
	struct lookup lookup[BIT(LOOKUP_BITS)];
	struct soft *engine;
	struct vcpu *v;
	struct dbt *dbt;		/* the translator, NULL without */
	struct direct *direct;		/* direct execution, NULL without */
	_Atomic bool lock;
	uint8_t *arena;
	uint64_t arena_size, arena_used; /* bytes */
	/* Of these the arena has at least so many, and more while translations take less. */
	uint64_t cache_bytes, arena_least;
	struct block *room[ROOM_SIZES];	/* in arena_used, of retired blocks: by size */
	uint64_t serial;		/* of the last block made */
	struct block *hash[BIT(HASH_BITS)];
	struct code_page *pages[BIT(PAGE_HASH_BITS)];	/* (b) */
	struct code_page *code_page;	/* their memory: so many, ... */
	unsigned int code_page_count, code_page_max; /* ... in use, and in all */
	struct heat { uint8_t tag, runs; } heat[BIT(HEAT_BITS)]; /* see code_heat() */
	struct code_news news;
	struct code_cache snippets;
	struct trap_region region;	/* of snippets */
	struct snippet_slot {		/* snippets by content, open addressing */
		uint32_t hash, len;	/* len 0: free */
		const uint8_t *code;
	} snippet_slot[BIT(SNIPPET_HASH_BITS)];
	unsigned int snippet_count;	/* slots taken */
	struct insn scratch[BLOCK_INSNS];	/* a block being made */
	uint8_t isa_ok[256 / 8];	/* bit ZYDIS_ISA_SET_*: the model has it */
	unsigned int decode_mode;	/* DECODE_* for the model */
	struct decode_memo memo[BIT(MEMO_BITS)];
	bool stepping;			/* keep nothing: memory changes unseen (vcpu_step) */
	/* A block of one instruction for code that is not worth keeping. */
	struct block *once;
	uint8_t trap_stack[TRAP_STACK_SIZE] __attribute__((aligned(64)));
};

struct soft {
	struct engine_config config;
	struct gpa_space *space;
	struct log *log;
	FILE *perf_map;			/* or NULL */
	struct soft_vcpu *vcpu[SOFT_VCPUS];	/* all there before one runs */
	unsigned int vcpu_count;
	_Atomic bool page_lock[PAGE_LOCKS];	/* by page; taken before a vCPU's lock */
};

static inline void soft_lock(_Atomic bool *lock)
{
	/* Acquire: what the last holder did is seen. */
	for (unsigned int n = 1; atomic_exchange_explicit(lock, true, memory_order_acquire); n++) {
		__builtin_ia32_pause();
		if (n % LOCK_SPINS == 0)	/* its thread may wait for this core */
			sched_yield();
	}
}

static inline void soft_unlock(_Atomic bool *lock)
{
	atomic_store_explicit(lock, false, memory_order_release);	/* pairs with soft_lock */
}

/*
 * How often the code at @gpa ran, since it was last looked at for translation or other code
 * took its place in the table.
 */
static inline uint8_t *code_heat(struct soft_vcpu *sv, gpa_t gpa)
{
	uint64_t h = gpa * 0x9e3779b97f4a7c15ULL;
	struct heat *heat = &sv->heat[h >> (64 - HEAT_BITS)];
	uint8_t tag = h >> (56 - HEAT_BITS);

	if (heat->tag != tag)
		*heat = (struct heat){ .tag = tag };
	return &heat->runs;
}

/* memo.c: insn_decode() for the CPU model; puts SIMD state away where it must. */
enum decode_result memo_decode(struct soft_vcpu *sv, struct insn *out, const uint8_t *bytes,
			       unsigned int avail, unsigned int code_size);

/* build.c: gives the decoded @i its handler; false: that of #UD. */
bool insn_bind(struct soft_vcpu *sv, struct insn *i);
/* features.c: what @v's model has, as a set of Zydis's instruction sets. */
void soft_features(struct soft_vcpu *sv);

/* counters.c: engine_ops.counters */
void soft_counters(struct engine *en, const struct vcpu *v, counter_fn *tell, void *arg);

/* block.c */
/* With @cache bytes for decoded and translated code. */
int blocks_init(struct soft_vcpu *sv, uint64_t cache, struct err *e);
void blocks_destroy(struct soft_vcpu *sv);
void blocks_flush(struct soft_vcpu *sv);
struct block *block_find(struct soft_vcpu *sv, gpa_t gpa, unsigned int code_size);
/*
 * A copy of @sv->scratch[0..count) as a block, or NULL: not to be kept.  Ends what
 * code_open() began.
 */
struct block *block_insert(struct soft_vcpu *sv, gpa_t gpa, gpa_t second, unsigned int len,
			   unsigned int count);
/* False: code in this page changes so often that a block would not pay. */
bool block_worthwhile(struct soft_vcpu *sv, gpa_t gpa);
/* Takes @b, which has been translated, out of the store; no block is running. */
void block_retire(struct soft_vcpu *sv, struct block *b);
/* A block at @gpa ran often since it was made: what was dropped in its page is forgiven. */
void block_paid(struct soft_vcpu *sv, gpa_t gpa);
/*
 * Notes that [gpa, gpa+len), of which what is beyond the page is in the one at @second, was
 * translated; false: it was written meanwhile, or there is no room.  Ends code_open().
 */
bool block_cover(struct soft_vcpu *sv, gpa_t gpa, gpa_t second, unsigned int len);
/* Under the lock: what is known of code in the page at @base; NULL: nothing. */
struct code_page *page_find_locked(const struct soft_vcpu *sv, gpa_t base);
/* Under the lock: is there code in bytes @first to @last of the page? */
bool page_covers(const struct code_page *p, unsigned int first, unsigned int last);
/* Under the lock, by its owner: drops the code there. */
void page_drop_locked(struct soft_vcpu *sv, struct code_page *p, unsigned int first,
		      unsigned int last);
/* The same: none of its code is to run for a while, but what runs again is as it was. */
void page_suspend_locked(struct soft_vcpu *sv, struct code_page *p);
/* The chunks of bytes @first to @last. */
uint64_t chunk_mask(unsigned int first, unsigned int last);

/* code.c */
int code_init(struct soft_vcpu *sv, struct err *e);
void code_destroy(struct soft_vcpu *sv);
/*
 * From now on no store to the RAM page at @page goes unseen; its bytes, to make a block
 * from.  NULL: not now, and nothing of it can be kept.  At most two pages, until
 * block_insert() or block_cover().
 */
const uint8_t *code_open(struct soft_vcpu *sv, gpa_t page);
/* No block comes of it after all. */
void code_close(struct soft_vcpu *sv);
/* gpa_space.code_written */
void code_written(void *arg, void *writer, gpa_t gpa, uint64_t len);
/* ATTN_ENGINE: does what others ask. */
void code_attend(struct soft_vcpu *sv);
/* While news.unsettled_count: compares, and sees who has answered. */
void code_settle(struct soft_vcpu *sv);
/* The vCPU begins and ends to run. */
void code_enter(struct soft_vcpu *sv);
void code_leave(struct soft_vcpu *sv);

/* snippets.c: one copy of each snippet; NULL: full, see snippets_full(). */
int snippets_init(struct soft_vcpu *sv, struct err *e);
void snippets_destroy(struct soft_vcpu *sv);
void *snippet_store(struct soft_vcpu *sv, const uint8_t *code, unsigned int len);
/* True: there might not be room for a block's snippets. */
bool snippets_full(const struct soft_vcpu *sv);
/* Forgets them all, with the blocks that use them. */
void snippets_flush(struct soft_vcpu *sv);

/*
 * build.c: the block at linear address @linear, whose bytes are at @gpa, found or made.
 * EXEC_FAULT: the fetch of what is in the next page faulted, v->fault is filled.
 * EXEC_EXIT: the host failed.
 */
enum exec_status block_at(struct soft_vcpu *sv, gva_t linear, gpa_t gpa, struct block **out);
/* The same, but for the address translation still to be done. */
enum exec_status block_get(struct soft_vcpu *sv, gva_t linear, struct block **out);

#endif
