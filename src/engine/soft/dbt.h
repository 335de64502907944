/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator of one vCPU: hot 64- and 32-bit guest code to x86-64, run in place of the
 * interpreter.  Guest registers live in host registers, flags in flags, SIMD state is
 * the host's; memory operands go through the TLB's tables; whatever is sensitive, and
 * every case that the fast path does not decide, is handed to the interpreter one
 * instruction at a time, so that a meaning stands once.
 */
#ifndef VIREO_ENGINE_SOFT_DBT_H
#define VIREO_ENGINE_SOFT_DBT_H

#include "cpu/except.h"
#include "cpu/vcpu.h"
#include "engine/config.h"
#include "x86/decode.h"

#include <stdio.h>

struct dbt;
struct tblock;
struct trap_region;

struct dbt_config {
	/* Does the user code of v, whose space has a cell, run elsewhere? */
	bool (*elsewhere)(void *arg, struct vcpu *v);
	/* Now and then, while translated code runs; true: user code of the present space is not for windows. */
	bool (*sample)(void *arg, struct vcpu *v);
	uint64_t cache_bytes;
	FILE *perf_map;			/* write the names of translations there; NULL: not */
	enum lockstep_choice lockstep;	/* compare with the interpreter? */
	const struct engine_trace *trace;	/* or NULL */
	uint32_t no;			/* bits of enum translator_opt: without these */
	enum window_choice windows;
	/* Interprets the one instruction at v->rip, delivering its fault if it has one. */
	enum exec_status (*step)(void *arg, struct vcpu *v);
	/* Chooses the interpreter's handler for @i, all flags computed; false: it is #UD. */
	bool (*bind)(void *arg, struct vcpu *v, struct insn *i);
	/* The translation at v->rip; NULL: there is none, and it is not to be made yet. */
	struct tblock *(*find)(void *arg, struct vcpu *v);
	/* Takes an interrupt, if that is all that somebody wants; EXEC_EXIT: as dbt_run(). */
	enum exec_status (*interrupt)(void *arg, struct vcpu *v);
	/* How often the code at @gpa has been interpreted, as far as that is known. */
	unsigned int (*heat)(void *arg, struct vcpu *v, gpa_t gpa);
	/* The translation of the code at @gpa was given up for others. */
	void (*evicted)(void *arg, gpa_t gpa);
	/* Does code of the page of @gpa change now and then? */
	bool (*changes)(void *arg, gpa_t gpa);
	/* Decodes as the guest's CPU model has it; @avail bytes, 15 are enough. */
	enum decode_result (*decode)(void *arg, struct vcpu *v, struct insn *out, const uint8_t *bytes,
				     unsigned int avail, enum code_size code_size);
	/* May the guest's CPU model execute @i?  (Else it stays with the interpreter.) */
	bool (*allowed)(void *arg, const struct vcpu *v, const struct insn *i);
	/*
	 * Called for a page before code of it is translated: its bytes, whose changes are noticed
	 * from now on; NULL: do not translate it now.
	 */
	const uint8_t *(*open)(void *arg, struct vcpu *v, gpa_t page);
	/*
	 * Called after that for each block, of @len bytes at @gpa, those beyond the page in the
	 * page at @second; @made false: none came of it.  False: the bytes were changed
	 * meanwhile.
	 */
	bool (*keep)(void *arg, struct vcpu *v, bool made, gpa_t gpa, gpa_t second,
		     unsigned int len);
	void *arg;
};

/* Why translated code came back. */
enum dbt_reason {
	REASON_CHAIN,	/* a direct jump without a translation yet: arg is the slot */
	REASON_INDIRECT, /* hot.target is not in the jump cache */
	REASON_STEP,	/* interpret the instruction: arg is block << 8 | index */
	REASON_POLL,	/* not calm before an indirect jump to hot.target */
	REASON_SIGNAL,	/* a host fault at hot.fault_pc */
	REASON_STEP_HERE, /* becomes REASON_STEP: the instruction's index is at hot.fault_pc */
	REASON_SEEN_TO,	/* dbt_event() has done what is to be done: hot.status */
	DBT_REASONS
};

struct dbt_stats {
	uint64_t blocks, bytes, flushes, invalidated, moved, woken;
	uint64_t chains, lookups, steps, entries;
	uint64_t events;	/* seen to without leaving the code cache */
	uint64_t windows, window_faults, window_fills;
	uint64_t exits[DBT_REASONS];
	uint64_t stepped[INSN_ID_COUNT];	/* of the steps, by instruction */
	/* Lockstep: instructions and entries compared; entries that went further than that. */
	uint64_t compared, compared_runs, beyond;
};

/* -ENOTSUP where the host lacks BMI2; -ENOMEM. */
int dbt_create(struct dbt **out, struct gpa_space *s, const struct dbt_config *c, struct err *e);
void dbt_destroy(struct dbt *d);
int dbt_vcpu_init(struct dbt *d, struct vcpu *v, struct err *e);
void dbt_vcpu_destroy(struct dbt *d, struct vcpu *v);

/* Host exceptions in translated code go here: for trap_enter's list. */
struct trap_region *dbt_trap_region(struct dbt *d);

/* Is the code of the present mode translated?  Then v->rip is a linear address. */
bool dbt_translates(const struct dbt *d, const struct vcpu *v);

/* What was found for v->rip and the present mode before, or NULL. */
struct tblock *dbt_recall(struct dbt *d, struct vcpu *v);
/*
 * Finds the translation of the code at v->rip, whose bytes are at @gpa; or makes it, if
 * the code has one for another kind of memory access.
 */
struct tblock *dbt_known(struct dbt *d, struct vcpu *v, gpa_t gpa);
/* Finds or makes the translation of the code at v->rip, whose bytes are at @gpa; or NULL. */
struct tblock *dbt_get(struct dbt *d, struct vcpu *v, gpa_t gpa);

/*
 * Runs translated code from @b, found for v->rip just now, for as long as there is some.
 * Called where dbt_translates(), with nothing pending.  Comes back with
 *   EXEC_OK	v->rip has no translation, or something wants attention: interpret;
 *   EXEC_EXIT	as from the interpreter.
 */
enum exec_status dbt_run(struct dbt *d, struct vcpu *v, struct tblock *b);

/* Guest code in [gpa, gpa+len) has changed. */
void dbt_invalidate(struct dbt *d, gpa_t gpa, uint64_t len);

/* The code of @page, unchanged, is not to run for a while. */
void dbt_suspend(struct dbt *d, gpa_t page);

/* Sets the bits of the bytes (64 a word) of the page that translations were made from. */
void dbt_cover(struct dbt *d, gpa_t page, uint64_t bytes[GUEST_PAGE_SIZE / 64]);

/* @on: dbt_run comes back after each instruction that is not translated. */
void dbt_watch(struct vcpu *v, bool on);

/* The names of translations for perf(1): opens /tmp/perf-PID.map, -errno. */
int dbt_perf_open(FILE **f, struct err *e);

/* Drops every translation; the vCPU is not in translated code. */
void dbt_flush(struct dbt *d);

/* Bytes that translations take now, of dbt_config.cache_bytes. */
uint64_t dbt_memory(const struct dbt *d);

/* dbt_config.step ran instruction @i, or tried to. */
void dbt_count_step(struct dbt *d, const struct insn *i);

const struct dbt_stats *dbt_get_stats(const struct dbt *d);

#endif
