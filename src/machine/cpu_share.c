// SPDX-License-Identifier: Apache-2.0
/*
 * Weights, caps and pinning; see cpu_share.h.
 *
 * Where this user may divide a control group, the host does it all (cpu_group.c).  Elsewhere this
 * needs no privileges and no control groups: each VM counts what its vCPU threads ran by their
 * CPU clocks (cpu_share_vcpu.c, which also has the limits of each vCPU), and holds them back at
 * the gate when they are ahead.  The VMs of one user find each other in a common file.  Each
 * publishes its virtual time, which goes on by what it ran divided by the share of the processors
 * that is due to it.  Who is ahead of the one most behind waits.  A share is what the weight
 * gives, but not more than a VM has vCPUs that want to run; the rest goes to the others.  Where
 * there are processors enough for all, nobody waits.
 *
 * A VM that was idle starts where those most behind are: it has saved nothing, and owes
 * nothing.  Since time is what the clocks say, going to sleep before a tick gains nothing.
 *
 * Everything here runs on the loop's thread, but for what holds the gate's lock.
 */
#include "machine/cpu_share.h"

#include "machine/vm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TICK		2000000ULL	/* ns */
#define SLACK		(4 * TICK)	/* so far ahead, in virtual time */
#define STALE		200000000ULL	/* ns since a VM gave a sign */
#define BURST		(10 * TICK)	/* of cap, at most saved or owed */
#define ENTRIES		256
#define MASK_WORDS	4		/* the first 256 processors */

/* A VM in the common file; all fields are written by their VM alone. */
struct share_entry {
	_Atomic uint32_t owner;		/* process, 0: free */
	_Atomic uint32_t weight;
	_Atomic uint32_t active;	/* vCPUs that want to run */
	uint32_t unused;
	_Atomic uint64_t vtime;		/* ns */
	_Atomic uint64_t beat;		/* CLOCK_MONOTONIC */
	_Atomic uint64_t cpus[MASK_WORDS];
};

struct share_file {
	struct share_entry entry[ENTRIES];
};

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

/* --- the common file --- */

static int open_file(struct err *e)
{
	char name[64];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "/dev/shm/vireo-shares-%u", (unsigned int)geteuid());
	fd = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "could not open %s, by which VMs share processors", name);
	if (fstat(fd, &st) || st.st_uid != geteuid() || !S_ISREG(st.st_mode) ||
	    ftruncate(fd, sizeof(struct share_file))) {
		close(fd);
		return err_set(e, EPERM, "%s, by which VMs share processors, is not a file of ours: remove it",
			       name);
	}
	return fd;
}

/* (<signal.h> and x86/regs.h do not agree on names.) */
static bool process_lives(uint32_t pid)
{
	return !syscall(SYS_kill, pid, 0) || errno != ESRCH;
}

static bool is_free(struct share_entry *s, uint64_t now, uint32_t *owner)
{
	*owner = atomic_load(&s->owner);
	return !*owner || (now - atomic_load(&s->beat) > STALE && !process_lives(*owner));
}

static struct share_entry *claim(struct share_file *f)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	for (unsigned int i = 0; i < ENTRIES; i++) {
		struct share_entry *s = &f->entry[i];
		uint32_t owner;

		if (is_free(s, now, &owner) &&
		    atomic_compare_exchange_strong(&s->owner, &owner, (uint32_t)getpid())) {
			atomic_store(&s->active, 0);
			atomic_store(&s->vtime, 0);
			atomic_store(&s->beat, now);
			return s;
		}
	}
	return NULL;
}

void cpu_share_open_group(struct vm *vm)
{
	struct cpu_share *s = &vm->share;
	char dir[PATH_MAX];
	struct err e;

	if (s->asked)
		return;
	s->asked = true;
	s->grouped = !cpu_group_find(dir, "/proc/self/mountinfo", "/proc/self/cgroup", &e) &&
		     !cpu_group_open(&s->group, dir, &e);
	if (s->grouped)
		log_info(vm->log, "shares of the processors: by control group %s", s->group.path);
	else
		log_debug(vm->log, "shares of the processors: by our own accounting: %s", e.text);
}

/* This process is in the group, and so are those of its cells. */
static int enter_group(struct vm *vm, const struct cpu_limits *l, struct err *e)
{
	struct cpu_group *g = &vm->share.group;
	const bool was_there = g->entered;
	const int rc = cpu_group_set(g, l, e);
	pid_t tid[VCPU_OTHERS];

	for (unsigned int i = 0; !rc && !was_there && i < vm->vcpu_count; i++)
		for (unsigned int n = vcpu_other_threads(&vm->vcpus[i], tid, VCPU_OTHERS); n--;)
			cpu_group_add(g, tid[n]);
	return rc;
}

bool cpu_share_enter_group(struct vm *vm, struct err *e)
{
	struct cpu_share *s = &vm->share;

	return s->grouped && (s->group.entered || !enter_group(vm, &s->limits, e));
}

/* True: the host keeps @l.  Where it will not after all, we do. */
static bool set_group(struct vm *vm, const struct cpu_limits *l)
{
	struct cpu_share *s = &vm->share;
	struct err e;

	if (l->weight || l->cap)
		cpu_share_open_group(vm);
	if (!s->grouped || !(s->group.entered || l->weight || l->cap))
		return s->grouped;
	if (!enter_group(vm, l, &e))
		return true;
	log_warn(vm->log, "%s; shares of the processors are kept by our own accounting", e.text);
	cpu_group_close(&s->group);
	s->grouped = false;
	return false;
}

int vm_open_cpu_share(struct vm *vm, struct err *e)
{
	struct share_file *f;
	int fd;

	cpu_share_open_group(vm);
	vcpu_shares_open(vm);
	if (vm->share.grouped || vm->share.file)
		return 0;
	fd = open_file(e);
	if (fd < 0)
		return fd;
	f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (f == MAP_FAILED)
		return err_errno(e, errno, "could not map the file by which VMs share processors");
	vm->share.file = f;
	return 0;
}

static int join_others(struct vm *vm, struct err *e)
{
	int rc;

	if (vm->share.entry)
		return 0;
	rc = vm_open_cpu_share(vm, e);
	if (rc)
		return rc;
	vm->share.entry = claim(vm->share.file);
	if (!vm->share.entry)
		return err_set(e, ENOSPC, "more than %d VMs share processors", ENTRIES);
	return 0;
}

/* --- shares --- */

struct rival {
	double weight, most, share;	/* processors */
	uint64_t vtime;
	bool done;
};

static bool overlap(const struct share_entry *a, const struct share_entry *b)
{
	for (unsigned int i = 0; i < MASK_WORDS; i++)
		if (atomic_load(&a->cpus[i]) & atomic_load(&b->cpus[i]))
			return true;
	return false;
}

/* Those that want to run on processors of ours, ourselves first. */
static unsigned int list_rivals(struct vm *vm, uint64_t now, bool has_run, struct rival *r)
{
	struct share_entry *me = vm->share.entry;
	unsigned int n = 1;

	/* Whoever ran pays for it, though he may be asleep at the moment of the tick. */
	r[0] = (struct rival){ .weight = vm->share.limits.weight,
			       .most = MAX(atomic_load(&me->active), (uint32_t)has_run) };
	for (unsigned int i = 0; i < ENTRIES; i++) {
		struct share_entry *s = &vm->share.file->entry[i];
		uint32_t active = atomic_load(&s->active), weight = atomic_load(&s->weight);

		if (s == me || !atomic_load(&s->owner) || !active || !weight ||
		    weight > CPU_WEIGHT_MAX || active > VM_CPUS_MAX ||
		    now - atomic_load(&s->beat) > STALE || !overlap(s, me))
			continue;
		r[n++] = (struct rival){ .weight = weight, .most = active,
					 .vtime = atomic_load(&s->vtime) };
	}
	return n;
}

/* Divides @cpus by weight; what somebody cannot use goes to the others. */
static void divide(struct rival *r, unsigned int n, double cpus)
{
	bool again = true;

	while (again) {
		double weights = 0;

		again = false;
		for (unsigned int i = 0; i < n; i++)
			if (!r[i].done)
				weights += r[i].weight;
		for (unsigned int i = 0; i < n; i++) {
			if (r[i].done)
				continue;
			r[i].share = cpus * r[i].weight / weights;
			if (r[i].share < r[i].most)
				continue;
			r[i].share = r[i].most;
			r[i].done = again = true;
		}
		for (unsigned int i = 0; again && i < n; i++)
			if (r[i].done && r[i].most > 0) {
				cpus -= r[i].most;
				r[i].most = 0;
			}
	}
}

static unsigned int cpu_count(const struct share_entry *s)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < MASK_WORDS; i++)
		n += __builtin_popcountll(atomic_load(&s->cpus[i]));
	return n ? n : 1;
}

/* Brings our virtual time forward by @ran ns; true: we are ahead. */
static bool is_ahead(struct vm *vm, uint64_t now, uint64_t ran, bool was_idle)
{
	struct share_entry *me = vm->share.entry;
	uint64_t behind = UINT64_MAX, mine = atomic_load(&me->vtime);
	struct rival r[ENTRIES];
	unsigned int n = list_rivals(vm, now, ran != 0, r);
	double wanted = 0;

	for (unsigned int i = 0; i < n; i++) {
		wanted += r[i].most;
		if (i)
			behind = MIN(behind, r[i].vtime);
	}
	divide(r, n, cpu_count(me));
	if (r[0].share > 0)
		mine += ran / r[0].share;
	if (was_idle && n > 1)
		mine = MAX(mine, behind);
	atomic_store(&me->vtime, mine);
	return n > 1 && wanted > cpu_count(me) && mine > behind + SLACK;
}

/* --- the tick --- */

bool cpu_share_capped(int64_t *credit, unsigned int cap, uint64_t passed, uint64_t ran)
{
	const int64_t most = BURST * cap / 100;

	if (!cap)
		return false;
	*credit = MIN(*credit + (int64_t)(passed * cap / 100) - (int64_t)ran, most);
	return *credit < 0;
}

void cpu_share_hold(struct vm *vm, bool *gate, bool held, unsigned int first, unsigned int n)
{
	pthread_mutex_lock(&vm->gate_lock);
	if (*gate != held) {
		*gate = held;
		pthread_cond_broadcast(&vm->gate);
	} else {
		held = false;	/* known to them */
	}
	pthread_mutex_unlock(&vm->gate_lock);
	for (unsigned int i = first; held && i < first + n; i++)
		vcpu_attention(vm->vcpus[i].vcpu, ATTN_STOP);
}

static void tick(void *arg)
{
	struct vm *vm = arg;
	struct cpu_share *s = &vm->share;
	uint64_t now = clock_ns(CLOCK_MONOTONIC), ran;
	unsigned int active;
	bool wait;

	ran = vcpu_shares_count(vm, &active);
	wait = !s->grouped && cpu_share_capped(&s->credit, s->limits.cap, now - s->ticked, ran);
	if (wait)
		active = 0;	/* what it may not use is the others' */
	if (!s->grouped && s->entry && s->limits.weight) {
		bool was_idle = !atomic_exchange(&s->entry->active, active);

		atomic_store(&s->entry->beat, now);
		wait |= is_ahead(vm, now, ran, was_idle);
	}
	vcpu_shares_tick(vm, now, now - s->ticked);
	s->ticked = now;
	cpu_share_hold(vm, &vm->held, wait, 0, vm->vcpu_count);
	timer_set(&s->timer, clock_now(&vm->clock) + TICK);
}

/* --- setting --- */

static void publish(struct vm *vm)
{
	struct share_entry *me = vm->share.entry;
	const struct cpu_limits *l = &vm->share.limits;
	cpu_set_t all = l->pin, set;

	if (!me)
		return;
	if (!l->pinned && sched_getaffinity(0, sizeof(all), &all))
		CPU_ZERO(&all);
	CPU_ZERO(&set);
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		const struct cpu_limits *own = vm_vcpu_limits(vm, i);

		CPU_OR(&set, &set, own->pinned ? &own->pin : &all);
	}
	for (unsigned int i = 0; i < MASK_WORDS; i++) {
		uint64_t word = 0;

		for (unsigned int b = 0; b < 64; b++)
			word |= CPU_ISSET(64 * i + b, &set) ? BIT(b) : 0;
		atomic_store(&me->cpus[i], word);
	}
	atomic_store(&me->weight, l->weight);
}

int cpu_share_pin(struct vm *vm, struct err *e)
{
	const struct cpu_limits *l = &vm->share.limits, *own;
	cpu_set_t all;
	int rc;

	if (sched_getaffinity(0, sizeof(all), &all))
		return err_errno(e, errno, "could not ask on which processors we may run");
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		if (!vm->vcpus[i].started)
			continue;
		own = vm_vcpu_limits(vm, i);
		rc = pthread_setaffinity_np(vm->vcpus[i].thread, sizeof(all),
					    own->pinned ? &own->pin : l->pinned ? &l->pin : &all);
		if (rc)
			return err_errno(e, rc, "this host does not let the VM run on the processors of --cpu-pin");
	}
	return 0;
}

static int check_pin(const struct cpu_limits *l, struct err *e)
{
	cpu_set_t all, both;

	if (!l->pinned || sched_getaffinity(0, sizeof(all), &all))
		return 0;
	CPU_AND(&both, &all, &l->pin);
	if (!CPU_EQUAL(&both, &l->pin) || !CPU_COUNT(&both))
		return err_set(e, EINVAL, "this host does not let the VM run on the processors of --cpu-pin");
	return 0;
}

/* A vCPU's pinning, with one of the VM's. */
static int check_pins(unsigned int index, const struct cpu_limits *own, const struct cpu_limits *vm,
		      struct err *e)
{
	cpu_set_t both;

	if (!own->pinned || !vm->pinned)
		return 0;
	CPU_AND(&both, &own->pin, &vm->pin);
	if (CPU_EQUAL(&both, &own->pin))
		return 0;
	return err_set(e, EINVAL, "processor %u is pinned to some of the host's on which its VM may not "
		       "run: --cpu-pin of the two do not agree", index);
}

void cpu_share_restart(struct vm *vm)
{
	struct cpu_share *s = &vm->share;
	const bool ours = !s->grouped && (s->limits.weight || s->limits.cap);

	if (ours || vcpu_shares_ours(vm)) {
		s->ticked = clock_ns(CLOCK_MONOTONIC);
		timer_set(&s->timer, clock_now(&vm->clock) + TICK);
		return;
	}
	timer_cancel(&s->timer);
	cpu_share_hold(vm, &vm->held, false, 0, vm->vcpu_count);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		cpu_share_hold(vm, &vm->vcpus[i].held, false, i, 1);
}

int vm_set_cpu_limits(struct vm *vm, const struct cpu_limits *l, struct err *e)
{
	int rc = check_pin(l, e);

	for (unsigned int i = 0; !rc && i < vm->vcpu_count; i++)
		rc = check_pins(i, vm_vcpu_limits(vm, i), l, e);
	if (!rc && !set_group(vm, l) && l->weight)
		rc = join_others(vm, e);
	if (rc)
		return rc;
	vm->share.limits = *l;
	vm->share.credit = 0;
	publish(vm);
	rc = cpu_share_pin(vm, e);
	cpu_share_restart(vm);
	return rc;
}

int vm_set_vcpu_limits(struct vm *vm, unsigned int index, const struct cpu_limits *l, struct err *e)
{
	int rc;

	if (index >= vm->vcpu_count)
		return err_set(e, EINVAL, "this VM has no processor %u: they are 0 to %u", index,
			       vm->vcpu_count - 1);
	rc = check_pin(l, e);
	if (!rc)
		rc = check_pins(index, l, &vm->share.limits, e);
	if (rc)
		return rc;
	vcpu_share_set(&vm->vcpus[index], l);
	publish(vm);
	rc = cpu_share_pin(vm, e);
	cpu_share_restart(vm);
	return rc;
}

const struct cpu_limits *vm_cpu_limits(const struct vm *vm)
{
	return &vm->share.limits;
}

void cpu_share_init(struct vm *vm)
{
	timer_init(&vm->share.timer, &vm->clock, tick, vm);
}

void cpu_share_destroy(struct vm *vm)
{
	timer_cancel(&vm->share.timer);
	vcpu_shares_close(vm);
	if (vm->share.grouped)
		cpu_group_close(&vm->share.group);
	if (vm->share.entry)
		atomic_store(&vm->share.entry->owner, 0);
	if (vm->share.file)
		munmap(vm->share.file, sizeof(*vm->share.file));
}
