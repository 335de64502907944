// SPDX-License-Identifier: Apache-2.0
/*
 * When translated code uses the windows of cpu/window.h: for which address space, and how
 * each site reaches them.
 *
 * The windows belong to one address space at a time: one whose user mode keeps the
 * processor busy.  Each page that it touches costs a signal and a mapping, some
 * microseconds, so there is a budget of time for those, which grows with the time that user
 * code runs; while it is spent, all use the tables.  That code for windows is translated
 * anew is not counted: to take the windows away for it would make that two translations.
 *
 * Where two spaces take turns nobody has the windows: each turn would map the pages anew, and
 * the code be needed both ways.  A space that goes on soon after it lost them takes turns.
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
#define FILL_US		50	/* of a program's time for a new page, if it is to be given the windows */
#define HOT_US		1000	/* then a space is given the windows */
#define IDLE_US		1000	/* then another one may have them */
#define RETURN_US	100000	/* since it lost them: a space that is seen until then takes turns, */
#define TURNS_MIN_US	10000	/* and so long nobody has them, */
#define TURNS_MAX_US	640000	/* at most, when that happens again and again */
#define SIGNAL_US	2	/* what a host fault costs besides the mapping */
#define BUDGET_MAX_US	50000
#define BUDGET_START_US	20000
#define BUDGET_ENOUGH_US 2000	/* to give the windows to somebody */
#define BUDGET_SHARE	4	/* of the time in user code, one part */

struct dbt_windows {
	enum window_choice choice;
	struct site {
		gpa_t key;	/* of the instruction, plus 1; 0: free */
		uint8_t kind, wrong;
	} site[SITES];
	uint64_t sampled;	/* TSC of the last sample, */
	uint64_t fills;		/* and entries of the TLB until then */
	int64_t budget;		/* TSC cycles that may still be spent on faults */
	int64_t idle;		/* TSC cycles of samples since the owner was seen */
	int64_t hot[TLB_SPACES];	/* and of those in which a space was seen */
	uint64_t tag;		/* the owner's tlb.fetch_tag, */
	uint64_t lost;		/* the one's from whom they were taken last, or 0, */
	uint64_t lost_at;	/* and when: TSC */
	uint64_t turns_until;	/* TSC; and how long that is the next time */
	int64_t turns;
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

static unsigned int current_space(const struct vcpu *v)
{
	unsigned int i = 0;

	while (i + 1 < TLB_SPACES && v->tlb.space[i] != v->tlb.current)
		i++;
	return i;
}

static void give(struct dbt *d, struct vcpu *v, struct tlb_space *s)
{
	struct dbt_windows *w = d->windows;

	window_give(v, s);
	d->stats.windows += s != NULL;
	w->idle = 0;
	for (unsigned int i = 0; i < TLB_SPACES; i++)
		w->hot[i] = 0;
}

static int64_t cycles(const struct vcpu *v, unsigned int us)
{
	return v->tsc_hz / 1000000 * us;
}

/* Did it come to many pages since the last sample, in @time?  Each would cost a fault. */
static bool new_pages(struct dbt_windows *w, const struct vcpu *v, int64_t time)
{
	int64_t fills = v->stats.tlb_fills - w->fills;

	w->fills = v->stats.tlb_fills;
	return fills * cycles(v, FILL_US) > time;
}

/* Has the present space lost the windows only because it was another one's turn? */
static bool takes_turns(struct dbt_windows *w, const struct vcpu *v, uint64_t now)
{
	bool late = (int64_t)(now - w->lost_at) > cycles(v, RETURN_US), same = w->lost == v->tlb.fetch_tag;

	if (!w->lost || (!same && !late))
		return false;
	w->lost = 0;
	if (late) {
		w->turns = cycles(v, TURNS_MIN_US);
		return false;
	}
	w->turns_until = now + w->turns;
	w->turns = MIN(2 * w->turns, cycles(v, TURNS_MAX_US));
	return true;
}

/* What a sample's time allows, less what the windows took since the last one. */
static void reckon(struct dbt_windows *w, struct vcpu *v, int64_t time)
{
	w->budget += time / BUDGET_SHARE;
	w->budget -= v->tlb.window.spent;
	w->budget = MIN(w->budget, cycles(v, BUDGET_MAX_US));
	v->tlb.window.spent = 0;
}

void windows_sample(struct dbt *d, struct vcpu *v)
{
	struct dbt_windows *w = d->windows;
	uint64_t now = __builtin_ia32_rdtsc();
	struct tlb_window *window = &v->tlb.window;
	int64_t time = MIN((int64_t)(now - w->sampled), cycles(v, SAMPLE_MAX_US));
	bool is_new;

	if (!window->low || now - w->sampled < v->tsc_hz / SAMPLES_A_SECOND)
		return;
	if (!w->sampled) {
		w->budget = cycles(v, BUDGET_START_US);
		w->turns = cycles(v, TURNS_MIN_US);
	}
	w->sampled = now;
	if (v->cpl != 3 || v->code_size != CODE_64 || !window_covers(v->gpr[REG_RSP]))
		return;
	reckon(w, v, time);
	is_new = new_pages(w, v, time);
	if (takes_turns(w, v, now) && window->owner)
		give(d, v, NULL);
	if (window->owner == v->tlb.current) {
		w->idle = 0;
		w->tag = v->tlb.fetch_tag;
		if (w->budget < 0 && w->choice != WINDOWS_ALWAYS)
			give(d, v, NULL);
		return;
	}
	w->idle += time;
	if (is_new)
		w->hot[current_space(v)] = 0;
	else
		w->hot[current_space(v)] += time;
	if (w->hot[current_space(v)] >= cycles(v, HOT_US) &&
	    w->budget >= cycles(v, BUDGET_ENOUGH_US) && now > w->turns_until &&
	    (!window->owner || w->idle >= cycles(v, IDLE_US))) {
		if (window->owner) {
			w->lost = w->tag;
			w->lost_at = now;
		}
		give(d, v, v->tlb.current);
		w->tag = v->tlb.fetch_tag;
	}
}

bool windows_demand(struct dbt *d, struct vcpu *v)
{
	struct dbt_windows *w = d->windows;

	if (w->choice != WINDOWS_ALWAYS || !v->tlb.window.low || v->cpl != 3 || v->code_size != CODE_64 ||
	    !window_covers(v->gpr[REG_RSP]) ||
	    v->tlb.window.owner == v->tlb.current)
		return false;
	give(d, v, v->tlb.current);
	return true;
}

bool windows_fit(struct dbt *d, struct vcpu *v)
{
	if (!v->tlb.window.active)
		return true;
	if (v->tlb.window.expected)
		window_fill_expected(v);
	if (likely(window_covers(v->gpr[REG_RSP])))
		return true;
	give(d, v, NULL);
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
