// SPDX-License-Identifier: Apache-2.0
/*
 * The software engine: runs vCPUs block by block with the interpreter's handlers.
 *
 * Between blocks it looks at v->attention.  While TF, an interrupt shadow, RF or an
 * instruction breakpoint is there it runs one instruction at a time instead.  While a
 * debugger has break- or watchpoints nothing runs translated.
 *
 * Source: Intel SDM volume 3, "Debug, Branch Profile, TSC" (RF, TF, breakpoints) and
 * "Interrupt and Exception Handling" (order of events between instructions).
 */
#include "base/pages.h"
#include "cpu/debugger.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "cpu/pv.h"
#include "cpu/system.h"
#include "engine/soft/soft_priv.h"

#include <errno.h>
#include <stdlib.h>

#define DR7_ENABLES	0xffULL
#define TRANSLATE_AT	8	/* runs of a block before it is translated */
#define CACHE_DEFAULT	(64ULL << 20)	/* for one vCPU; twice as much for several together */
#define CACHE_LEAST	(4ULL << 20)	/* for each */

static int soft_probe(struct err *e)
{
	(void)e;
	return 0;
}

static void soft_destroy(struct engine *en)
{
	struct soft *s = (struct soft *)en;

	if (!s)
		return;
	if (s->space->code_written_arg == s)
		s->space->code_written = NULL;
	if (s->perf_map)
		fclose(s->perf_map);
	pages_free(s, sizeof(*s));
}

static int soft_create(struct engine **out, struct gpa_space *space,
		       const struct engine_config *c, struct log *log, struct err *e)
{
	struct soft *s;
	int rc;

	s = pages_alloc(sizeof(*s));
	if (!s)
		return err_set(e, ENOMEM, "out of memory for the software engine");
	s->config = *c;
	if (s->config.translator_no & BIT(TRANSLATOR_OPT_HEAT))
		s->config.translate_at = 1;
	if (!s->config.translate_at)
		s->config.translate_at = TRANSLATE_AT;
	s->space = space;
	s->log = log;
	rc = trap_init(e);
	if (!rc && c->perf_map)
		rc = dbt_perf_open(&s->perf_map, e);
	if (rc) {
		soft_destroy((struct engine *)s);
		return rc;
	}
	space->code_written = code_written;
	space->code_written_arg = s;
	*out = (struct engine *)s;
	return 0;
}

/* --- running --- */

static gva_t code_address(const struct vcpu *v)
{
	if (likely(v->code_size == CODE_64))
		return v->rip;
	return (uint32_t)(v->seg[SEG_CS].base + v->rip);
}

/* Everything but the address that decides what block is found; never 0. */
static uint64_t lookup_key(const struct vcpu *v)
{
	return (v->tlb.fetch_tag << 3 | (v->cpl == 3) << 2 | v->code_size) + 1;
}

static struct lookup *lookup_slot(struct soft_vcpu *sv, gva_t linear)
{
	return &sv->lookup[(linear ^ linear >> LOOKUP_BITS) % BIT(LOOKUP_BITS)];
}

/* Was @b found there before, and is it still what it was? */
static bool lookup_holds(const struct lookup *l, gva_t linear, const struct vcpu *v)
{
	return l->linear == linear && l->key == lookup_key(v) && l->block->serial == l->serial;
}

static void lookup_keep(const struct soft_vcpu *sv, struct lookup *l, gva_t linear,
			struct block *b)
{
	if (b != sv->once)
		*l = (struct lookup){ .linear = linear, .key = lookup_key(sv->v), .block = b,
				      .serial = b->serial };
}

static enum exec_status find_block(struct soft_vcpu *sv, struct block **out)
{
	struct vcpu *v = sv->v;
	gva_t linear = code_address(v);
	struct lookup *l = lookup_slot(sv, linear);
	enum exec_status st;

	if (likely(lookup_holds(l, linear, v))) {
		*out = l->block;
		return EXEC_OK;
	}
	st = block_get(sv, linear, out);
	if (st == EXEC_OK)
		lookup_keep(sv, l, linear, *out);
	return st;
}

static int run_block(struct vcpu *v, const struct block *b)
{
	const struct insn *i = b->insn, *end = i + b->count;
	int st;

	do {
		st = i->exec(v, i);
		if (unlikely(st != EXEC_OK))
			break;
	} while (++i != end);
	stat_add(&v->stats.insns, i - b->insn + (st == EXEC_EXIT));
	return st;
}

/* Does the code segment end within the block's first instruction, or only later in it? */
static enum exec_status check_limit(struct vcpu *v, const struct block *b, bool *whole)
{
	uint64_t room = (uint64_t)v->seg[SEG_CS].limit + 1;
	const struct insn *first = &b->insn[0];
	unsigned int need = first->len ? first->len : 1;

	*whole = v->rip + b->len <= room;
	if (v->rip + need > room)
		return raise_gp(v, 0);
	return EXEC_OK;
}

/* One instruction, with what may surround it: RF, breakpoints, shadow, TF. */
static int run_one(struct vcpu *v, const struct block *b, bool *stepped)
{
	uint64_t rf = v->rflags & RFLAGS_RF, tf = v->rflags & RFLAGS_TF, rip = v->rip, dr6;
	uint32_t shadow = v->attention & ATTN_SHADOW;
	int st;

	if (v->dr[7] & DR7_ENABLES && !rf && !(shadow && v->shadow_mov_ss) &&
	    debug_code_breakpoint(v, code_address(v), &dr6))
		return raise_db(v, dr6);
	/* Cleared first, so that IRET can set it for the next instruction. */
	v->rflags &= ~RFLAGS_RF;
	st = b->insn[0].exec(v, &b->insn[0]);
	if (st == EXEC_FAULT || st == EXEC_STALE || (st == EXEC_OK && v->rip == rip &&
				 b->insn[0].flags & (INSN_REP | INSN_REPNE)))
		v->rflags |= rf;	/* still to be done, or to be continued */
	if (st == EXEC_OK || st == EXEC_EXIT) {
		stat_add(&v->stats.insns, 1);
		atomic_fetch_and(&v->attention, ~shadow);
		*stepped = tf != 0;
	}
	return st;
}

/* With watchpoints each instruction is looked at, else those of blocks with a breakpoint. */
static bool debugger_cares(const struct vcpu *v, const struct block *b)
{
	if (likely(!v->debugger))
		return false;
	return v->debugger->watch_count || debugger_breaks_in(v->debugger, code_address(v), b->len);
}

static bool needs_care(const struct vcpu *v)
{
	return (v->attention & (ATTN_STEP | ATTN_SHADOW)) | (v->rflags & RFLAGS_RF) |
	       (v->dr[7] & DR7_ENABLES);
}

/* --- the translator --- */

/*
 * The translation of code at v->rip that would be next to be translated if there were a block
 * of it, so that none is made: what had to go for want of room.
 */
static struct tblock *make_hot(struct soft_vcpu *sv, gpa_t gpa)
{
	uint8_t *heat = code_heat(sv, gpa);

	if (!*heat || *heat + 1U < sv->engine->config.translate_at || !block_worthwhile(sv, gpa))
		return NULL;
	*heat = 0;
	block_paid(sv, gpa);
	return dbt_get(sv->dbt, sv->v, gpa);
}

/* The translation of @b, at v->rip, once it has run often enough; NULL: interpret it. */
static struct tblock *warm_up(struct soft_vcpu *sv, struct block *b)
{
	uint8_t *heat = code_heat(sv, b->gpa);
	struct tblock *t;

	if (b == sv->once || ++*heat < sv->engine->config.translate_at)
		return NULL;
	*heat = 0;
	block_paid(sv, b->gpa);
	t = dbt_get(sv->dbt, sv->v, b->gpa);
	if (t)
		block_retire(sv, b);
	return t;
}

/* What there is of the code at v->rip, of a mode that is translated: that, or a block. */
static enum exec_status find_either(struct soft_vcpu *sv, struct tblock **t, struct block **b)
{
	struct vcpu *v = sv->v;
	struct lookup *l = lookup_slot(sv, v->rip);
	enum exec_status st;
	enum mem_result r;
	gpa_t gpa;

	if (lookup_holds(l, v->rip, v)) {
		*b = l->block;
	} else {
		r = gva_to_gpa(v, v->rip, ACC_FETCH, &gpa);
		if (r != MEM_OK)
			return mem_status(r);
		*t = dbt_known(sv->dbt, v, gpa);
		if (!*t)
			*t = make_hot(sv, gpa);
		if (*t)		/* code that has been translated needs no block */
			return EXEC_OK;
		st = block_at(sv, v->rip, gpa, b);
		if (st != EXEC_OK)
			return st;
		lookup_keep(sv, l, v->rip, *b);
	}
	*t = warm_up(sv, *b);
	return EXEC_OK;
}

static struct tblock *dbt_find_cb(void *arg, struct vcpu *v)
{
	struct tblock *t = NULL;
	struct block *b;

	(void)arg;
	return find_either(v->engine, &t, &b) == EXEC_OK ? t : NULL;
}

/* One instruction, its fault delivered. */
static enum exec_status dbt_step_cb(void *arg, struct vcpu *v)
{
	struct soft_vcpu *sv = v->engine;
	struct block *b;
	int st;

	(void)arg;
	do {
		st = find_block(sv, &b);
		if (st == EXEC_OK) {
			dbt_count_step(sv->dbt, &b->insn[0]);
			st = b->insn[0].exec(v, &b->insn[0]);
		}
	} while (st == EXEC_STALE);
	if (unlikely(v->code_size != CODE_64))
		v->rip = (uint32_t)v->rip;
	stat_add(&v->stats.insns, 1);
	return st == EXEC_FAULT ? vcpu_deliver(v) : (enum exec_status)st;
}

/* What is to be settled first is for soft_run(). */
static enum exec_status dbt_interrupt_cb(void *arg, struct vcpu *v)
{
	const struct soft_vcpu *sv = v->engine;

	(void)arg;
	return sv->news.unsettled_count ? EXEC_OK : vcpu_take_interrupt(v);
}

static unsigned int dbt_heat_cb(void *arg, struct vcpu *v, gpa_t gpa)
{
	(void)arg;
	return *code_heat(v->engine, gpa);
}

/* What had to go for want of room is translated sooner when it runs again. */
static void dbt_evicted_cb(void *arg, gpa_t gpa)
{
	struct soft_vcpu *sv = arg;

	*code_heat(sv, gpa) = sv->engine->config.translate_at - 1;
}

static bool dbt_changes_cb(void *arg, gpa_t gpa)
{
	const struct code_page *p = page_find_locked(arg, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));

	return p && p->changes;
}

static enum decode_result dbt_decode_cb(void *arg, struct vcpu *v, struct insn *out,
					const uint8_t *bytes, unsigned int avail,
					enum code_size code_size)
{
	(void)arg;
	return memo_decode(v->engine, out, bytes, avail, code_size);
}

static bool dbt_bind_cb(void *arg, struct vcpu *v, struct insn *i)
{
	(void)arg;
	return insn_bind(v->engine, i);
}

static bool dbt_allowed_cb(void *arg, const struct vcpu *v, const struct insn *i)
{
	const struct soft_vcpu *sv = v->engine;

	(void)arg;
	return sv->isa_ok[i->isa / 8] >> (i->isa % 8) & 1;
}

static const uint8_t *dbt_open_cb(void *arg, struct vcpu *v, gpa_t page)
{
	(void)arg;
	return code_open(v->engine, page);
}

static bool dbt_keep_cb(void *arg, struct vcpu *v, bool made, gpa_t gpa, gpa_t second,
			unsigned int len)
{
	(void)arg;
	if (made)
		return block_cover(v->engine, gpa, second, len);
	code_close(v->engine);
	return false;
}

static bool dbt_elsewhere_cb(void *arg, struct vcpu *v)
{
	struct soft_vcpu *sv = v->engine;

	(void)arg;
	return sv->direct;
}

static bool dbt_sample_cb(void *arg, struct vcpu *v)
{
	struct soft_vcpu *sv = v->engine;

	(void)arg;
	return sv->direct && direct_sample(sv->direct, v);
}

static int translator_create(struct soft_vcpu *sv, uint64_t cache_bytes, struct err *e)
{
	const struct dbt_config c = {
		.cache_bytes = cache_bytes,
		.perf_map = sv->engine->perf_map,
		.lockstep = sv->engine->config.lockstep,
		.no = sv->engine->config.translator_no,
		.trace = sv->engine->config.trace,
		.windows = sv->engine->config.windows,
		.elsewhere = dbt_elsewhere_cb,
		.sample = dbt_sample_cb,
		.step = dbt_step_cb,
		.interrupt = dbt_interrupt_cb,
		.bind = dbt_bind_cb,
		.heat = dbt_heat_cb,
		.evicted = dbt_evicted_cb,
		.changes = dbt_changes_cb,
		.decode = dbt_decode_cb,
		.find = dbt_find_cb,
		.allowed = dbt_allowed_cb,
		.open = dbt_open_cb,
		.keep = dbt_keep_cb,
		.arg = sv,
	};
	int rc = dbt_create(&sv->dbt, sv->engine->space, &c, e);

	if (!rc)
		rc = dbt_vcpu_init(sv->dbt, sv->v, e);
	if (!rc)
		dbt_trap_region(sv->dbt)->next = &sv->region;
	return rc;
}

static int run(struct soft_vcpu *sv, bool *stepped)
{
	struct vcpu *v = sv->v;
	struct tblock *t = NULL;
	struct block *b;
	bool whole = true;
	int st;

	if (unlikely(v->debugger != NULL) && debugger_stops(v, code_address(v)))
		return EXEC_EXIT;
	if (sv->direct && v->cpl == 3 && !needs_care(v) && direct_wanted(sv->direct, v))
		return direct_run(sv->direct, v, dbt_step_cb, sv);
	if (sv->dbt && !v->debugger && dbt_translates(sv->dbt, v) && !needs_care(v) &&
	    !(sv->direct && direct_interprets(sv->direct, v))) {
		t = dbt_recall(sv->dbt, v);
		st = t ? EXEC_OK : find_either(sv, &t, &b);
	} else {
		st = find_block(sv, &b);
	}
	if (unlikely(st != EXEC_OK))
		return st;
	if (t)
		return dbt_run(sv->dbt, v, t);
	if (unlikely(v->code_size != CODE_64)) {
		st = check_limit(v, b, &whole);
		if (st != EXEC_OK)
			return st;
	}
	if (unlikely(needs_care(v) || !whole || debugger_cares(v, b)))
		st = run_one(v, b, stepped);
	else
		st = run_block(v, b);
	if (unlikely(v->code_size != CODE_64))
		v->rip = (uint32_t)v->rip;
	return st == EXEC_STALE ? EXEC_OK : st;
}

static enum vcpu_exit exit_reason(const struct vcpu *v)
{
	if (v->err.code)
		return VCPU_EXIT_ERROR;
	if (v->debug_hit.kind)
		return VCPU_EXIT_DEBUGGER;
	return v->shutdown ? VCPU_EXIT_SHUTDOWN : VCPU_EXIT_HALT;
}

static enum vcpu_exit soft_run(struct engine *en, struct vcpu *v)
{
	struct soft_vcpu *sv = v->engine;
	bool stepped = false, look = true;	/* it may have come here halted */
	enum vcpu_exit why;
	int st;

	(void)en;
	trap_enter(sv->dbt ? dbt_trap_region(sv->dbt) : &sv->region, sv->trap_stack);
	code_enter(sv);
	pv_returns(v);
	for (;;) {
		if (unlikely(v->attention || stepped || look)) {
			if (v->attention & ATTN_ENGINE)
				code_attend(sv);
			if (sv->news.unsettled_count)
				code_settle(sv);
			st = vcpu_attend(v, stepped, &why);
			stepped = look = false;
			if (st != EXEC_OK)
				break;
		}
		st = run(sv, &stepped);
		look = (v->db_pending | sv->news.unsettled_count) != 0;
		if (unlikely(st == EXEC_FAULT))
			st = vcpu_deliver(v);
		if (unlikely(st != EXEC_OK || v->debug_hit.kind)) {
			why = exit_reason(v);
			break;
		}
	}
	fpu_put(v);
	if (sv->direct)
		direct_leave(sv->direct);
	pv_leaves(v);
	code_leave(sv);
	trap_leave(sv->trap_stack);
	return why;
}

static int step_one(struct soft_vcpu *sv)
{
	struct vcpu *v = sv->v;
	bool whole, stepped = false;
	enum vcpu_exit why;
	struct block *b;
	int st;

	st = block_get(sv, code_address(v), &b);
	if (st == EXEC_OK && v->code_size != CODE_64)
		st = check_limit(v, b, &whole);
	if (st == EXEC_OK)
		st = run_one(v, b, &stepped);
	if (v->code_size != CODE_64)
		v->rip = (uint32_t)v->rip;
	if (st == EXEC_FAULT)
		return vcpu_deliver(v);
	/* The traps of an instruction that is done, and nothing else. */
	if (st == EXEC_OK && (stepped || v->db_pending))
		return vcpu_attend(v, stepped, &why);
	return st;
}

static void soft_vcpu_step(struct engine *en, struct vcpu *v)
{
	struct soft_vcpu *sv = v->engine;
	bool was_away;

	(void)en;
	trap_enter(&sv->region, sv->trap_stack);
	code_enter(sv);
	/* One that KVM runs is never away: nobody would do there what is asked for in the record. */
	was_away = pv_returns(v);
	sv->stepping = true;
	step_one(sv);
	sv->stepping = false;
	fpu_put(v);
	if (was_away)
		pv_leaves(v);
	code_leave(sv);
	trap_leave(sv->trap_stack);
}

/* --- vCPUs --- */

static void release_vcpu(struct soft_vcpu *sv)
{
	direct_destroy(sv->direct);
	if (sv->dbt) {
		dbt_vcpu_destroy(sv->dbt, sv->v);
		dbt_destroy(sv->dbt);
	}
	snippets_destroy(sv);
	blocks_destroy(sv);
	code_destroy(sv);
	free(sv->once);
	pages_free(sv, sizeof(*sv));
}

/* For all vCPUs: each has translations of its own. */
static uint64_t cache_total(const struct soft *s, unsigned int cpus)
{
	return s->config.cache_bytes ? s->config.cache_bytes : CACHE_DEFAULT * MIN(cpus, 2U);
}

/* Its share of the memory for translated code; for decoded code there is some besides. */
static uint64_t cache_share(const struct soft *s, const struct vcpu *v)
{
	uint64_t total = cache_total(s, v->model->cpus);

	return MAX(total / v->model->cpus, MIN(total, CACHE_LEAST));
}

/* Who asks for windows, or wants to see what is translated, is not to find it gone. */
static enum direct_choice direct_choice(const struct engine_config *c)
{
	if (c->lockstep || c->trace || (c->direct == DIRECT_AUTO && c->windows == WINDOWS_ALWAYS))
		return DIRECT_OFF;
	return c->direct;
}

static int vcpu_make(struct soft_vcpu *sv, struct err *e)
{
	const struct engine_config *c = &sv->engine->config;
	uint64_t cache = cache_share(sv->engine, sv->v);
	int rc;

	sv->once = aligned_alloc(64, sizeof(struct block) + sizeof(struct insn));
	if (!sv->once)
		return err_set(e, ENOMEM, "out of memory for processor %u", sv->v->index);
	__builtin_memset(sv->once, 0, sizeof(struct block) + sizeof(struct insn));
	rc = code_init(sv, e);
	if (!rc)
		rc = blocks_init(sv, cache, e);
	if (!rc)
		rc = snippets_init(sv, e);
	if (!rc && (c->translate != TRANSLATOR_OFF || c->lockstep))
		rc = translator_create(sv, cache, e);
	if (!rc && sv->dbt)
		rc = direct_create(&sv->direct, sv->v, direct_choice(c), e);
	if (rc == -ENOTSUP && c->translate == TRANSLATOR_AUTO) {
		if (!sv->v->index)
			log_info(sv->engine->log, "only interpreting: %s",
				 e ? e->text : "no translator here");
		rc = 0;
	}
	return rc;
}

static void soft_vcpu_remove(struct engine *en, struct vcpu *v)
{
	struct soft *s = (struct soft *)en;
	struct soft_vcpu *sv = v->engine;

	if (!sv)
		return;
	s->vcpu[v->index] = NULL;
	s->vcpu_count--;
	s->config.direct = DIRECT_OFF;	/* if it comes back: a confined process starts no others */
	v->engine = NULL;
	release_vcpu(sv);
}

static int soft_vcpu_add(struct engine *en, struct vcpu *v, struct err *e)
{
	struct soft *s = (struct soft *)en;
	struct soft_vcpu *sv;
	int rc;

	if (v->index >= SOFT_VCPUS || s->vcpu[v->index])
		return err_set(e, EINVAL, "the software engine has no place for processor %u", v->index);
	if (s->vcpu_count && s->config.lockstep)
		return err_set(e, ENOTSUP, "--translator lockstep compares one processor: use --cpus 1");
	sv = pages_alloc(sizeof(*sv));
	if (!sv)
		return err_set(e, ENOMEM, "out of memory for processor %u", v->index);
	sv->engine = s;
	sv->v = v;
	soft_features(sv);
	rc = vcpu_make(sv, e);
	if (rc) {
		release_vcpu(sv);
		return rc;
	}
	s->vcpu[v->index] = sv;
	s->vcpu_count++;
	v->engine = sv;
	return 0;
}

static void soft_vcpu_kick(struct engine *en, struct vcpu *v)
{
	/* The attention bits themselves are what the loop looks at; a cell has to be stopped. */
	const struct soft_vcpu *sv = v->engine;

	(void)en;
	if (sv && sv->direct)
		direct_kick(sv->direct);
}

static uint64_t soft_vcpu_ran(struct engine *en, const struct vcpu *v)
{
	const struct soft_vcpu *sv = v->engine;

	(void)en;
	return sv && sv->direct ? direct_ran(sv->direct) : 0;
}

static unsigned int soft_vcpu_threads(struct engine *en, const struct vcpu *v, pid_t *tid, unsigned int max)
{
	const struct soft_vcpu *sv = v->engine;

	(void)en;
	return sv && sv->direct ? direct_threads(sv->direct, tid, max) : 0;
}

const struct engine_ops engine_soft = {
	.name = "soft",
	.probe = soft_probe,
	.create = soft_create,
	.destroy = soft_destroy,
	.vcpu_add = soft_vcpu_add,
	.vcpu_remove = soft_vcpu_remove,
	.vcpu_run = soft_run,
	.vcpu_kick = soft_vcpu_kick,
	.vcpu_step = soft_vcpu_step,
	.counters = soft_counters,
	.vcpu_ran = soft_vcpu_ran,
	.vcpu_threads = soft_vcpu_threads,
};
