// SPDX-License-Identifier: Apache-2.0
/*
 * Weights and caps of single vCPUs; see cpu_share.h.
 *
 * Where the VM has a control group, a vCPU's thread gets one in it, and the host does it all.
 * Elsewhere a vCPU is held back at the gate when its cap is used up, or when it is ahead of
 * another that has no processor: each has a virtual time, which goes on by what it ran divided
 * by its weight.  That is looked at only while some vCPU starves, that is, others have the
 * time in which it wants to run: with processors enough for all, nobody waits.
 *
 * Everything here runs on the loop's thread.
 */
#include "machine/vm_priv.h"


#define WEIGHT_DEFAULT	100
#define SLACK		8000000ULL	/* ns of virtual time by which it may be ahead */
#define LAG		1000000000ULL	/* ... behind; what is more is forgotten */
#define STARVED		3		/* ticks in a row with less than 7/8 of the time */
#define CONTENTION	50000000ULL	/* ns that shares are kept after somebody starved */

static unsigned int weight_of(const struct vm_vcpu *c)
{
	return c->share.limits.weight ? c->share.limits.weight : WEIGHT_DEFAULT;
}

/* --- by control group --- */

void vcpu_shares_open(struct vm *vm)
{
	struct cpu_share *s = &vm->share;
	struct err e = { 0 };
	unsigned int n = 0;

	if (s->vcpus_asked)
		return;
	s->vcpus_asked = true;
	cpu_share_open_group(vm);
	while (s->grouped && n < vm->vcpu_count &&
	       !cpu_thread_group_open(&vm->vcpus[n].share.group, &s->group, n, &e))
		n++;
	s->vcpus_grouped = s->grouped && n == vm->vcpu_count;
	if (s->vcpus_grouped)
		return;
	log_debug(vm->log, "shares of single processors: by our own accounting: %s",
		  e.code ? e.text : "there is no control group");
	while (n--)
		cpu_thread_group_close(&vm->vcpus[n].share.group);
}

void vcpu_shares_close(struct vm *vm)
{
	for (unsigned int i = 0; vm->share.vcpus_grouped && i < vm->vcpu_count; i++)
		cpu_thread_group_close(&vm->vcpus[i].share.group);
	vm->share.vcpus_grouped = false;
}

/* The host is to keep its limits; where it will not, we do from now on. */
static void enter_group(struct vm_vcpu *c)
{
	const struct cpu_limits *l = &c->share.limits;
	struct cpu_thread_group *g = &c->share.group;
	const int tid = atomic_load(&c->tid);
	const bool was_there = g->entered;
	pid_t others[VCPU_OTHERS];
	struct vm *vm = c->vm;
	struct err e = { 0 };

	if (!vm->share.vcpus_grouped || !tid || !(g->entered || l->weight || l->cap))
		return;
	if (cpu_share_enter_group(vm, &e) && !cpu_thread_group_set(g, tid, l, &e)) {
		for (unsigned int n = was_there ? 0 : vcpu_other_threads(c, others, VCPU_OTHERS); n--;)
			cpu_thread_group_add(g, others[n]);
		return;
	}
	log_warn(vm->log, "%s; shares of single processors are kept by our own accounting", e.text);
	vcpu_shares_close(vm);
}

void vcpu_share_set(struct vm_vcpu *c, const struct cpu_limits *l)
{
	if (l->weight || l->cap)
		vcpu_shares_open(c->vm);
	c->share.limits = *l;
	c->share.credit = 0;
	enter_group(c);
}

void vcpu_shares_begin(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		enter_group(&vm->vcpus[i]);
	cpu_share_restart(vm);
}

bool vcpu_shares_ours(const struct vm *vm)
{
	bool any = false;

	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		any |= vm->vcpus[i].share.limits.weight || vm->vcpus[i].share.limits.cap;
	return any && !vm->share.vcpus_grouped;
}

const struct cpu_limits *vm_vcpu_limits(const struct vm *vm, unsigned int index)
{
	return &vm->vcpus[index].share.limits;
}

/* --- our own accounting --- */

/* The virtual time of those that want to run: the least, or the most. */
static uint64_t bound(const struct vm *vm, bool most)
{
	uint64_t found = most ? 0 : UINT64_MAX;

	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		const struct vcpu_share *s = &vm->vcpus[i].share;

		if (s->active)
			found = most ? MAX(found, s->vtime) : MIN(found, s->vtime);
	}
	return found == UINT64_MAX ? 0 : found;
}

/* What @c's thread ran; one that was idle starts where those most behind are. */
static uint64_t count(struct vm_vcpu *c, uint64_t least)
{
	struct vcpu_share *s = &c->share;
	const bool was_active = s->active;
	uint64_t now = vcpu_ran(c);

	s->ran = 0;
	if (now <= s->counted)
		return 0;
	s->ran = now - s->counted;
	s->counted = now;
	s->active = atomic_load(&c->present) && !atomic_load(&c->sleeping) && !s->capped;
	if (s->active && !was_active)
		s->vtime = MAX(s->vtime, least);
	s->vtime += s->ran * WEIGHT_DEFAULT / weight_of(c);
	return s->ran;
}

uint64_t vcpu_shares_count(struct vm *vm, unsigned int *active)
{
	const uint64_t least = bound(vm, false);
	uint64_t sum = 0;

	*active = 0;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		sum += count(&vm->vcpus[i], least);
		*active += vm->vcpus[i].share.active;
	}
	return sum;
}

/* Its cap, and whether others had its time; true: vCPUs are to share by weight. */
static bool look_at(struct vm *vm, struct vm_vcpu *c, uint64_t most, uint64_t passed)
{
	struct vcpu_share *s = &c->share;
	const bool short_of = s->active && !c->held && !vm->held && s->ran < passed / 8 * 7;

	s->capped = cpu_share_capped(&s->credit, s->limits.cap, passed, s->ran);
	s->starved = short_of ? s->starved + 1 : 0;
	if (s->active && most > LAG)
		s->vtime = MAX(s->vtime, most - LAG);
	return s->limits.weight;
}

static bool share_processors(const struct vm_vcpu *a, const struct vm_vcpu *b)
{
	cpu_set_t both;

	if (!a->share.limits.pinned || !b->share.limits.pinned)
		return true;
	CPU_AND(&both, &a->share.limits.pin, &b->share.limits.pin);
	return CPU_COUNT(&both);
}

static bool is_ahead(const struct vm *vm, const struct vm_vcpu *c)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		const struct vm_vcpu *other = &vm->vcpus[i];

		if (other != c && other->share.active &&
		    c->share.vtime > other->share.vtime + SLACK && share_processors(c, other))
			return true;
	}
	return false;
}

void vcpu_shares_tick(struct vm *vm, uint64_t now, uint64_t passed)
{
	const uint64_t most = bound(vm, true);
	bool weights = false;

	if (!vcpu_shares_ours(vm))
		return;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct vm_vcpu *c = &vm->vcpus[i];

		weights |= look_at(vm, c, most, passed);
		if (c->share.starved >= STARVED)
			vm->share.contended = now + CONTENTION;
	}
	weights &= now < vm->share.contended;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct vm_vcpu *c = &vm->vcpus[i];

		cpu_share_hold(vm, &c->held,
			       c->share.capped || (weights && is_ahead(vm, c)), i, 1);
	}
}
