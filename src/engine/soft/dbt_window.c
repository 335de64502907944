// SPDX-License-Identifier: Apache-2.0
/*
 * When translated code uses the windows of cpu/window.h: for which address space, and how
 * each site reaches them.
 *
 * A set of windows belongs to one address space: one whose user mode keeps the
 * processor busy.  Each page that it touches costs a signal and a mapping, some
 * microseconds, and all of them again after a fork or an exec.  So a space has a budget of time
 * for those, which grows with the time that it runs; when it is spent, the space goes without
 * for a while.  It is to be spent by programs that lose by windows, and only by them: to take
 * the windows from another one means to translate all of its code once more.
 *
 * A space keeps its set while others run.  Where more are busy than there are sets, those that
 * came first keep theirs: if they were taken each turn, all pages would be mapped anew, and the
 * code be needed both ways.
 *
 * A site, an instruction with a memory operand, is translated for the window that its
 * operand is in at that time.  A host fault elsewhere makes it take any window, by the
 * constant in the slot; a site that goes on faulting where a window cannot help (devices,
 * pages that hold code) is left to the interpreter.
 */
#include "engine/soft/dbt_priv.h"
#include "x86/regs.h"

#include <errno.h>
#include <stdlib.h>

#define SITES		4096
#define WRONG_MAX	16	/* faults in vain before a site changes its kind */
#define SAMPLES_A_SECOND 1000
#define SAMPLE_MAX_US	5000	/* of time between two samples: more was not all the program's */
#define FILL_US		10	/* of a program's time for a new page, if it is to be given windows */
#define HOT_US		1000	/* then a space is given a set */
#define IDLE_US		100000	/* since its owner was seen: another space may have a set, */
#define IDLE_EMPTY_US	40000	/* or one with no pages, as after an exec */
#define SIGNAL_US	3	/* what a host fault costs besides the mapping, */
#define EMPTIED_US	1000	/* and what it costs that all pages have to be mapped again */
#define BUDGET_MAX_US	50000
#define BUDGET_START_US	20000
#define BUDGET_SHARE	2	/* of the time in user code, one part */
#define WITHOUT_MIN_US	50000	/* so long a space goes without that lost by its windows, */
#define WITHOUT_MAX_US	800000	/* at most, when that happens again and again */

struct dbt_windows {
	enum window_choice choice;
	struct site {
		gpa_t key;	/* of the instruction, plus 1; 0: free */
		uint8_t kind, wrong;
	} site[SITES];
	uint64_t sampled;	/* TSC of the last sample, */
	uint64_t fills, flushes; /* and entries and flushes of the TLB until then */
	struct account {	/* of one of the TLB's spaces; TSC cycles */
		gpa_t root;	/* of its tables */
		int64_t hot;	/* of samples in which it was seen without windows */
		int64_t budget;	/* that may still be spent on faults, while it has them */
		uint64_t until;	/* TSC: it goes without, */
		int64_t without; /* and how long the next time */
	} account[TLB_SPACES];
};

int windows_create(struct dbt *d, enum window_choice choice, struct err *e)
{
	if (choice == WINDOWS_OFF)
		return 0;
	d->windows = calloc(1, sizeof(*d->windows));
	if (!d->windows)
		return err_set(e, ENOMEM, "out of memory for the translator");
	d->windows->choice = choice;
	return 0;
}

void windows_destroy(struct dbt *d)
{
	free(d->windows);
}

/* --- who has them --- */

static struct account *present_account(struct dbt *d, const struct vcpu *v)
{
	struct account *a = d->windows->account;
	unsigned int i = 0;

	while (i + 1 < TLB_SPACES && v->tlb.space[i] != v->tlb.current)
		i++;
	if (a[i].root != tlb_space_root(v))
		a[i] = (struct account){ .root = tlb_space_root(v) };
	return &a[i];
}

static int64_t cycles(const struct vcpu *v, unsigned int us)
{
	return v->tsc_hz / 1000000 * us;
}

static void give(struct dbt *d, struct vcpu *v, struct window_set *set)
{
	struct account *a = present_account(d, v);

	window_give(v, set);
	set->seen = __builtin_ia32_rdtsc();
	set->emptied = 0;
	d->stats.windows++;
	a->hot = 0;
	a->budget = cycles(v, BUDGET_START_US);
}

/*
 * Did it come to many pages since the last sample, in @time, or was a space emptied, as by a fork
 * or an exec?  Each page would cost a fault.
 */
static bool new_pages(struct dbt_windows *w, const struct vcpu *v, int64_t time)
{
	int64_t fills = v->stats.tlb_fills - w->fills;
	bool flushed = v->stats.tlb_flushes != w->flushes;

	w->fills = v->stats.tlb_fills;
	w->flushes = v->stats.tlb_flushes;
	return flushed || fills * cycles(v, FILL_US) > time;
}

/* Since when @set's owner does not need it: TSC. */
static uint64_t idle_since(const struct vcpu *v, const struct window_set *set)
{
	if (!set->owner)
		return 0;
	return set->seen + cycles(v, set->region_count ? IDLE_US : IDLE_EMPTY_US);
}

/* The set that was not needed for longest; NULL: all are, which counts unless @demand. */
static struct window_set *find_set(struct vcpu *v, bool demand)
{
	struct tlb_window *w = &v->tlb.window;
	struct window_set *best = &w->set[0];

	for (struct window_set *s = &w->set[1]; s < w->set + w->sets; s++)
		if (idle_since(v, s) < idle_since(v, best))
			best = s;
	return demand || idle_since(v, best) < __builtin_ia32_rdtsc() ? best : NULL;
}

/* The present space, which has no set, was seen for @time. */
static void consider(struct dbt *d, struct vcpu *v, int64_t time, bool is_new)
{
	struct account *a = present_account(d, v);
	struct window_set *set;

	a->hot = is_new ? 0 : a->hot + time;
	if (a->hot < cycles(v, HOT_US) || a->until > __builtin_ia32_rdtsc())
		return;
	set = find_set(v, false);
	if (set)
		give(d, v, set);
}

/* The present space was seen for @time with windows, which cost @spent. */
static void reckon(struct dbt *d, struct vcpu *v, int64_t time, int64_t spent)
{
	struct account *a = present_account(d, v);
	struct window_set *set = v->tlb.window.now;

	spent += set->emptied * cycles(v, EMPTIED_US);
	set->emptied = 0;
	a->budget = MIN(a->budget + time / BUDGET_SHARE - spent, cycles(v, BUDGET_MAX_US));
	if (a->budget >= cycles(v, BUDGET_MAX_US) / 2)
		a->without = 0;
	if (a->budget >= 0 || d->windows->choice == WINDOWS_ALWAYS)
		return;
	window_take(v, set);
	a->without = MIN(2 * MAX(a->without, cycles(v, WITHOUT_MIN_US)), cycles(v, WITHOUT_MAX_US));
	a->until = __builtin_ia32_rdtsc() + a->without;
}

void windows_sample(struct dbt *d, struct vcpu *v)
{
	struct dbt_windows *w = d->windows;
	uint64_t now = __builtin_ia32_rdtsc();
	struct tlb_window *window = &v->tlb.window;
	int64_t time = MIN((int64_t)(now - w->sampled), cycles(v, SAMPLE_MAX_US));
	int64_t spent;
	bool is_new;

	if (!window->low || now - w->sampled < v->tsc_hz / SAMPLES_A_SECOND)
		return;
	w->sampled = now;
	if (v->cpl != 3 || v->code_size != CODE_64 || !window_covers(v->gpr[REG_RSP]))
		return;
	is_new = new_pages(w, v, time);
	spent = window->spent;
	window->spent = 0;
	if (!window->now) {
		consider(d, v, time, is_new);
		return;
	}
	window->now->seen = now;
	reckon(d, v, time, spent);
}

bool windows_demand(struct dbt *d, struct vcpu *v)
{
	struct dbt_windows *w = d->windows;

	if (w->choice != WINDOWS_ALWAYS || !v->tlb.window.low || v->cpl != 3 || v->code_size != CODE_64 ||
	    !window_covers(v->gpr[REG_RSP]) || v->tlb.window.now)
		return false;
	give(d, v, find_set(v, true));
	return true;
}

bool windows_fit(struct vcpu *v)
{
	if (!v->tlb.window.active)
		return true;
	if (v->tlb.window.expected)
		window_fill_expected(v);
	if (likely(window_covers(v->gpr[REG_RSP])))
		return true;
	window_take(v, v->tlb.window.now);
	return false;
}

/* --- sites --- */

static struct site *slot_of(const struct dbt *d, gpa_t site)
{
	return &d->windows->site[(site ^ site >> 12) % SITES];
}

enum site_kind windows_site(const struct dbt *d, gpa_t site)
{
	const struct site *s = slot_of(d, site);

	return s->key == site + 1 ? s->kind : SITE_NEW;
}

/* One more fault in vain; true: the site changes. */
static bool site_wrong(struct dbt *d, gpa_t site)
{
	struct site *s = slot_of(d, site);

	if (s->key != site + 1)
		*s = (struct site){ .key = site + 1, .kind = SITE_NEW };
	if (s->kind != SITE_STEP && ++s->wrong > WRONG_MAX) {
		s->kind = SITE_STEP;
		return true;
	}
	return false;
}

/*
 * The operand was in none of the windows, or in the other one.  Blocks that overlap have
 * the same site, each in its own translation, which may be older than what is known.
 */
static bool site_any(struct dbt *d, gpa_t site)
{
	struct site *s = slot_of(d, site);

	if (s->key == site + 1 && s->kind != SITE_NEW)
		site_wrong(d, site);
	else
		*s = (struct site){ .key = site + 1, .kind = SITE_ANY };
	return true;
}

bool windows_fault(struct dbt *d, struct vcpu *v, gpa_t site, bool done)
{
	uint64_t addr = dbt_hot(v)->fault_addr;
	gva_t gva;

	v->tlb.window.spent += cycles(v, SIGNAL_US);
	d->stats.window_faults++;
	if (!window_gva(&v->tlb.window, addr, &gva))
		return done && site_any(d, site);
	if (!v->tlb.window.active) {
		if (!done && !((v->cr2 ^ gva) >> GUEST_PAGE_SHIFT))
			v->tlb.window.expected = gva;
		return false;
	}
	if (window_fill(v, gva)) {
		d->stats.window_fills++;
		return false;
	}
	return done && site_wrong(d, site);
}
