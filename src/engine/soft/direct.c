// SPDX-License-Identifier: Apache-2.0
/*
 * Whose user code runs in cells, and what is done when it leaves them; see direct.h.
 *
 * A vCPU has some cells, each for an address space.  A page that is missing is looked for in the
 * guest's tables, and mapped; what else the processor refused is the interpreter's to do, one
 * instruction, as if it had come to it by itself.
 *
 * The threads of a cell and its owner's take turns, so they are best on one of the host's processors:
 * elsewhere each turn would wait for another one to wake up.  While cells run they are kept there, and
 * let go now and then, so that the host can choose again.
 */
#include "engine/soft/direct.h"

#include "cpu/cell_map.h"
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "x86/decode.h"
#include "x86/regs.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CELLS_MAX	6U	/* of a vCPU, ... */
#define CELLS_ALL	12U	/* ... and about so many of all together */
#define SAMPLE_US	100	/* between two looks at who runs; */
#define SAMPLE_MAX_US	1000	/* if it was longer, more was not all the program's */
#define HOT_US		40000	/* of user code, then a space is given a cell */
#define IDLE_US		20000	/* since its owner was seen: another space may have a cell */
#define LEAVE_US	6	/* what it costs to leave a cell and come back, */
#define MAP_US		2	/* and, more than for windows, to map what was missing */
#define CALL_US		2	/* what a mapping takes that is made or taken away */
#define BUDGET_START_US	8000	/* of costs that are more than the time in the cell, */
#define BUDGET_MAX_US	20000	/* which is about what a program gains by it */
#define FORGET_US	1000000	/* since it was seen: it is another one, or begins anew */
#define WITHOUT_MIN_US	50000	/* so long a space goes without that lost by its cell, */
#define WITHOUT_MAX_US	800000	/* at most, when that happens again and again */
#define TIME_US		200	/* that RDTSC counts as: who asks for the time asks often */
#define FLIPS_MAX	100	/* of pages between data and code: then it is a compiler at run time */
#define PLACE_US	20000	/* so long the threads stay on one processor */
#define VISIT_MAX	2000	/* blocks in a row of code that may not run in a cell */
#define ACCOUNTS	256
#define UNFIT		64	/* pages remembered whose code is not for cells */

struct account {	/* of an address space; TSC cycles */
	gpa_t root;	/* of its tables */
	uint64_t seen;	/* TSC */
	uint64_t tag;	/* of the TLB's space when it was seen, */
	uint64_t fs_base; /* and FS's base then */
	int64_t hot;	/* of samples in which its code was seen outside of a cell */
	int64_t budget;	/* of costs not made up for, while it has one */
	uint64_t until;	/* TSC: it goes without, */
	int64_t without; /* and how long the next time */
};

struct direct {
	struct vcpu *v;
	enum direct_choice choice;
	struct cell_map map[CELLS_MAX];
	unsigned int count;
	_Atomic(struct cell *) running;
	gva_t expected;		/* the system was told of a fault there, and will have a page; 0: none */
	bool expected_write, expected_fetch;
	gva_t unfit[UNFIT];	/* pages, plus 1 */
	struct account account[ACCOUNTS];
	uint64_t sampled;	/* TSC of the last look */
	cpu_set_t allowed, here; /* where the thread may run, and where it is kept; if pinned */
	unsigned int visit;	/* blocks interpreted since the cell was left */
	bool pinned;
	int cpu;
	uint64_t placed;	/* TSC */
	struct direct_stats stats;
};

/* --- life --- */

static unsigned int cells_of(unsigned int cpus)
{
	return MIN(CELLS_ALL / cpus, CELLS_MAX);
}

int direct_create(struct direct **out, struct vcpu *v, enum direct_choice choice, struct err *e)
{
	unsigned int want = cells_of(v->model->cpus);
	const char *why;
	struct direct *x;

	*out = NULL;
	if (choice == DIRECT_OFF || !want)
		return 0;
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_set(e, ENOMEM, "out of memory for processor %u", v->index);
	x->v = v;
	x->choice = choice;
	while (x->count < want && cell_map_init(&x->map[x->count], v))
		x->count++;
	if (x->count && cell_survives_calls(x->map[0].cell, v)) {
		*out = x;
		return 0;
	}
	if (!v->index && cell_possible(&why))
		why = x->count ? "a filter of system calls ends their programs" : "the host refuses their processes";
	if (!v->index)
		log_info(v->log, "no direct execution: %s", why);
	direct_destroy(x);
	return 0;
}

void direct_destroy(struct direct *x)
{
	if (!x)
		return;
	for (unsigned int i = 0; i < x->count; i++) {
		if (x->map[i].owner)
			cell_map_take(x->v, &x->map[i]);
		cell_map_destroy(&x->map[i]);
	}
	free(x);
}

const struct direct_stats *direct_get_stats(const struct direct *x)
{
	return &x->stats;
}

uint64_t direct_ran(const struct direct *x)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < x->count; i++)
		sum += cell_ran(x->map[i].cell);
	return sum;
}

unsigned int direct_threads(const struct direct *x, pid_t *tid, unsigned int max)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < x->count && n + 2 <= max; i++, n += 2)
		cell_threads(x->map[i].cell, tid + n);
	return n;
}

/* --- who has them --- */

static int64_t cycles(const struct vcpu *v, unsigned int us)
{
	return v->tsc_hz / 1000000 * us;
}

static gpa_t root_of(const struct vcpu *v)
{
	return v->cr3 & CR3_ROOT;
}

/*
 * By the root, for systems change a program's PCID.  Programs come and go, and roots come again: it is another
 * one if the TLB's space was emptied and the thread's data is elsewhere.
 */
static struct account *present_account(struct direct *x)
{
	gpa_t root = root_of(x->v);
	struct account *a = &x->account[root >> GUEST_PAGE_SHIFT & (ACCOUNTS - 1)];
	uint64_t now = __builtin_ia32_rdtsc();

	if (a->root != root || a->seen + cycles(x->v, FORGET_US) < now ||
	    (a->tag != x->v->tlb.fetch_tag && a->fs_base != x->v->seg[SEG_FS].base))
		*a = (struct account){ .root = root, .budget = cycles(x->v, BUDGET_START_US) };
	a->tag = x->v->tlb.fetch_tag;
	a->fs_base = x->v->seg[SEG_FS].base;
	a->seen = now;
	return a;
}

static void give(struct direct *x, struct cell_map *m)
{
	struct account *a = present_account(x);

	if (x->v->tlb.window.now)
		window_take(x->v, x->v->tlb.window.now);
	cell_map_give(x->v, m);
	m->root = a->root;
	m->flips = 0;
	m->seen = __builtin_ia32_rdtsc();
	a->hot = 0;
	a->budget = cycles(x->v, BUDGET_START_US);
	x->stats.given++;
}

/* The one that was not needed for longest; NULL: all are, which counts unless @demand. */
static struct cell_map *find_map(struct direct *x, bool demand)
{
	struct cell_map *best = NULL;

	for (struct cell_map *m = x->map; m < x->map + x->count; m++) {
		if (!cell_alive(m->cell))
			continue;
		if (!m->owner)
			return m;
		if (!best || m->seen < best->seen)
			best = m;
	}
	if (best && !demand && best->seen + cycles(x->v, IDLE_US) > __builtin_ia32_rdtsc())
		return NULL;
	return best;
}

/* Linux's segments, which its programs have: those of the cell's process. */
static bool segments_fit(const struct vcpu *v)
{
	return v->seg[SEG_CS].sel == 0x33 && v->seg[SEG_SS].sel == 0x2b && !v->seg[SEG_DS].sel &&
	       !v->seg[SEG_ES].sel && !v->seg[SEG_FS].sel && !v->seg[SEG_GS].sel;
}

/*
 * Is there one of the host's for each of the guest's?  Else a vCPU that spins in its program should give
 * its own away, as translated code notices (vcpu_pause()).
 */
static bool processors_suffice(struct direct *x, const struct vcpu *v)
{
	if (v->model->cpus == 1 || (!x->pinned && sched_getaffinity(0, sizeof(x->allowed), &x->allowed)))
		return true;
	return (unsigned int)CPU_COUNT(&x->allowed) >= v->model->cpus;
}

/* Its code, which has no cell, was seen to run for @time.  Has it one now, or is it going to? */
static bool consider(struct direct *x, struct vcpu *v, int64_t time)
{
	struct account *a = present_account(x);
	struct cell_map *m;

	a->hot += time;
	if (a->until > __builtin_ia32_rdtsc() || !processors_suffice(x, v))
		return false;
	m = find_map(x, false);
	if (m && a->hot >= cycles(v, HOT_US))
		give(x, m);
	return m;
}

bool direct_sample(struct direct *x, struct vcpu *v)
{
	uint64_t now = __builtin_ia32_rdtsc(), time = now - x->sampled;

	if (v->tlb.cell || time < (uint64_t)cycles(v, SAMPLE_US))
		return true;
	x->sampled = now;
	return v->cpl == 3 && v->code_size == CODE_64 && segments_fit(v) &&
	       consider(x, v, MIN(time, (uint64_t)cycles(v, SAMPLE_MAX_US)));
}

/* The present space goes without for a while. */
static void lose(struct direct *x)
{
	struct account *a = present_account(x);

	cell_map_take(x->v, x->v->tlb.cell);
	x->stats.taken++;
	a->without = MIN(2 * MAX(a->without, cycles(x->v, WITHOUT_MIN_US)), cycles(x->v, WITHOUT_MAX_US));
	a->until = __builtin_ia32_rdtsc() + a->without;
}

/* It ran for @time, with what the mapper did first, which is not the program's own, and left the cell once. */
static void reckon(struct direct *x, int64_t time)
{
	struct cell_map *m = x->v->tlb.cell;
	struct account *a = present_account(x);
	int64_t cost = cycles(x->v, LEAVE_US + m->mapped_now * MAP_US);
	int64_t own = time - cycles(x->v, LEAVE_US + cell_calls_made(m->cell) * CALL_US);

	m->mapped_now = 0;
	if (m->flips > FLIPS_MAX && x->choice != DIRECT_ALWAYS) {
		a->without = cycles(x->v, WITHOUT_MAX_US);
		lose(x);
		return;
	}
	a->budget = MIN(a->budget + MAX(own, 0) - cost, cycles(x->v, BUDGET_MAX_US));
	if (a->budget >= cycles(x->v, BUDGET_MAX_US) / 2)
		a->without = 0;
	if (a->budget < 0 && x->choice != DIRECT_ALWAYS)
		lose(x);
}

/* --- what may run there --- */

static gva_t *unfit_slot(struct direct *x, gva_t gva)
{
	return &x->unfit[gva >> GUEST_PAGE_SHIFT & (UNFIT - 1)];
}

bool direct_wanted(struct direct *x, struct vcpu *v)
{
	if (v->cpl != 3 || v->code_size != CODE_64)
		return false;
	if (v->tlb.cell && v->tlb.cell->root != root_of(v))
		cell_map_take(v, v->tlb.cell);	/* another program, which may be a short one */
	if (!v->tlb.cell) {
		if (x->choice != DIRECT_ALWAYS || !segments_fit(v) || !find_map(x, true))
			return false;
		give(x, find_map(x, true));
	}
	return segments_fit(v) && !(v->rflags & (RFLAGS_TF | RFLAGS_AC | RFLAGS_NT | RFLAGS_RF)) &&
	       !(v->dr[7] & 0xff) && !v->debugger &&
	       *unfit_slot(x, v->rip) != (v->rip & ~GUEST_PAGE_MASK) + 1;
}

bool direct_interprets(struct direct *x, struct vcpu *v)
{
	if (v->cpl != 3 || !v->tlb.cell)
		return false;
	if (x->choice != DIRECT_ALWAYS && ++x->visit > VISIT_MAX) {
		lose(x);
		return false;
	}
	return true;
}

/* --- where --- */

static void pin(struct direct *x)
{
	x->cpu = sched_getcpu();
	if (sched_getaffinity(0, sizeof(x->allowed), &x->allowed) || x->cpu < 0 || x->cpu >= CPU_SETSIZE)
		return;
	CPU_ZERO(&x->here);
	CPU_SET(x->cpu, &x->here);
	x->pinned = !sched_setaffinity(0, sizeof(x->here), &x->here);
	x->placed = __builtin_ia32_rdtsc();
}

void direct_leave(struct direct *x)
{
	cpu_set_t now;

	if (!x->pinned)
		return;
	x->pinned = false;
	/* Unless somebody else has set it meanwhile. */
	if (!sched_getaffinity(0, sizeof(now), &now) && CPU_EQUAL(&now, &x->here))
		sched_setaffinity(0, sizeof(x->allowed), &x->allowed);
}

/* The thread's and @c's processor is one. */
static void place(struct direct *x, struct cell *c)
{
	if (!x->pinned)
		pin(x);
	else if (__builtin_ia32_rdtsc() - x->placed > (uint64_t)cycles(x->v, PLACE_US))
		direct_leave(x);	/* until the next time */
	cell_place(c, x->cpu);
}

/* --- running --- */

/* Its page is there by now, or the program will fault again. */
static void fill_expected(struct direct *x, struct vcpu *v)
{
	gva_t gva = x->expected;
	gpa_t gpa;

	x->expected = 0;
	if (gva_to_gpa(v, gva, (x->expected_write ? ACC_WRITE : 0) | ACC_PROBE, &gpa) == MEM_OK)
		cell_map_fill(v->tlb.cell, v, gva, false, x->expected_fetch);
	v->fault = (struct fault){ 0 };
}

/* Does the instruction at RIP write to a page that it is in itself?  Then it cannot be both at once. */
static bool writes_to_itself(struct vcpu *v, gva_t gva)
{
	return !((gva ^ v->rip) >> GUEST_PAGE_SHIFT) ||
	       !((gva ^ (v->rip + INSN_MAX_LEN - 1)) >> GUEST_PAGE_SHIFT);
}

/* *done: the page is mapped, or the fault is on its way to the guest's handler. */
static enum exec_status fault(struct direct *x, struct vcpu *v, bool *done)
{
	bool write, fetch;
	gva_t gva = cell_fault_address(v->tlb.cell->cell, &write, &fetch);
	unsigned int access = write ? ACC_WRITE : fetch ? ACC_FETCH : ACC_READ;
	enum mem_result r;
	gpa_t gpa;
	void *hva;

	*done = true;
	x->stats.faults++;
	r = fetch ? gva_to_gpa(v, gva, access, &gpa) : mem_fill(v, gva, 1, access, &hva);
	if (r == MEM_FAULT) {
		x->expected = gva & ~GUEST_PAGE_MASK;
		x->expected_write = write;
		x->expected_fetch = fetch;
		return vcpu_deliver(v);
	}
	if (write && writes_to_itself(v, gva)) {
		v->tlb.cell->flips++;
		*done = false;
		return EXEC_OK;
	}
	if (r == MEM_OK && cell_map_fill(v->tlb.cell, v, gva, write, fetch)) {
		x->stats.fills++;
		return EXEC_OK;
	}
	if (fetch)
		*unfit_slot(x, gva) = (gva & ~GUEST_PAGE_MASK) + 1;
	/* Code of a page that is for cells may go on into one that is not. */
	*done = fetch && !((gva ^ v->rip) >> GUEST_PAGE_SHIFT);
	return EXEC_OK;
}

/* Is the instruction at RIP, which was refused, RDTSC or RDTSCP? */
static bool reads_time(const struct vcpu *v)
{
	const uint8_t *p = tlb_lookup(v->view, v->rip, 3, TLB_READ);

	return p && p[0] == 0x0f && (p[1] == 0x31 || (p[1] == 0x01 && p[2] == 0xf9));
}

/* Until it leaves the cell; *again: it may go on there. */
static enum exec_status run_once(struct direct *x, struct vcpu *v, bool *again,
				 enum exec_status (*step)(void *arg, struct vcpu *v), void *arg)
{
	struct cell *c = v->tlb.cell->cell;
	enum exec_status st = EXEC_OK;
	uint64_t start = __builtin_ia32_rdtsc();
	enum cell_stop stop;
	bool done = false;

	atomic_store(&x->running, c);
	stop = cell_run(c, v);
	atomic_store(&x->running, NULL);
	v->tlb.cell->seen = __builtin_ia32_rdtsc();
	x->stats.runs++;
	x->visit = 0;
	*again = false;
	switch (stop) {
	case CELL_KICKED:
		x->stats.kicks++;
		return EXEC_OK;
	case CELL_REFUSED:
		cell_map_take(v, v->tlb.cell);
		return EXEC_OK;
	case CELL_ENDED:	/* nobody but a program that means to comes here */
		cell_map_take(v, v->tlb.cell);
		raise_gp(v, 0);
		return vcpu_deliver(v);
	case CELL_KILLED:
		err_set(&v->err, ECHILD, "a process that ran programs of processor %u was killed: is the host out of memory?",
			v->index);
		return EXEC_EXIT;
	case CELL_STEPPED:
		raise_db(v, DR6_BS);
		return vcpu_deliver(v);
	case CELL_FAULT:
		st = fault(x, v, &done);
		break;
	case CELL_CALL:
		x->stats.calls++;
		break;
	default:
		x->stats.others++;
		if (reads_time(v))
			present_account(x)->budget -= cycles(v, TIME_US);
		break;
	}
	reckon(x, v->tlb.cell ? (int64_t)(v->tlb.cell->seen - start) : 0);
	if (!done)
		st = step(arg, v);
	*again = st == EXEC_OK && v->cpl == 3 && v->tlb.cell && direct_wanted(x, v);
	return st;
}

enum exec_status direct_run(struct direct *x, struct vcpu *v,
			    enum exec_status (*step)(void *arg, struct vcpu *v), void *arg)
{
	enum exec_status st = EXEC_OK;
	bool again = true;

	fpu_put(v);
	while (again && !v->attention) {
		if (x->expected)
			fill_expected(x, v);
		cell_map_check_copies(v->tlb.cell);
		place(x, v->tlb.cell->cell);
		st = run_once(x, v, &again, step, arg);
		fpu_put(v);
	}
	return st;
}

void direct_kick(struct direct *x)
{
	struct cell *c = atomic_load(&x->running);

	if (c)
		cell_kick(c);
}
