// SPDX-License-Identifier: Apache-2.0
/*
 * Paravirtual clock and steal time, by the interface of KVM's guests; see pv.h.
 *
 * The TSC is the host's and the same on all processors, so a record of the clock is written
 * once: time is a fixed function of the TSC.  It is zero when the first vCPU's TSC was, at
 * power-on.
 *
 * Source: Linux's Documentation/virt/kvm/x86/msr.rst, cpuid.rst,
 * hypercalls.rst.
 * Not offered, and so not modelled: asynchronous page faults, paravirtual EOI, IPIs by hypercall.
 */
#include "cpu/pv.h"

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"

#include <stdatomic.h>
#include <time.h>

#define ENABLED		BIT(0)
#define NS		1000000000ULL
#define TSC_STABLE	1	/* in clock_record.flags */
#define UPDATES_A_SECOND 1000
#define PREEMPTED	BIT(0)	/* in steal_record.preempted */
#define FLUSH		BIT(1)	/* ... with it: before it runs again */
#define NO_SUCH_CALL	(-1000ULL)
#define NOT_ALLOWED	(-1ULL)

struct clock_record {
	uint32_t version, pad;
	uint64_t tsc_timestamp;
	uint64_t system_time;		/* ns at that TSC */
	uint32_t tsc_to_system_mul;	/* ns = ((tsc - timestamp) << shift) * mul >> 32 */
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad2[2];
} __attribute__((packed, aligned(4)));	/* more is not asked of the guest */

struct wall_record {
	uint32_t version, sec, nsec;	/* when system_time was 0 */
};

struct steal_record {
	uint64_t steal;			/* ns */
	uint32_t version, flags;
	uint8_t preempted, pad[3];
	uint32_t pad2[11];
};

_Static_assert(sizeof(struct clock_record) == 32 && sizeof(struct steal_record) == 64,
	       "the guest has another idea of them");

/* A record in RAM; NULL: there is none at @gpa. */
static void *record_at(const struct vcpu *v, gpa_t gpa, uint64_t size)
{
	const struct ram_extent *x = gpa_to_extent(v->space, gpa);

	return x && !x->readonly ? gpa_to_hva(v->space, gpa, size) : NULL;
}

/* An odd version tells other processors that the record is being written. */
static void begin(uint32_t *version)
{
	__atomic_store_n(version, (__atomic_load_n(version, __ATOMIC_RELAXED) | 1), __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);	/* pairs with the guest's read barrier */
}

static void end(uint32_t *version)
{
	__atomic_store_n(version, __atomic_load_n(version, __ATOMIC_RELAXED) + 1, __ATOMIC_RELEASE);
}

/* --- the clock --- */

/* ns = (ticks << shift) * mul >> 32, mul as large as fits. */
static void scale(uint64_t hz, uint32_t *mul, int8_t *shift)
{
	unsigned __int128 ns = (unsigned __int128)NS << 32;
	int s = 0;

	/* mul = ns / (hz << shift) in 32 bits, with the top bit set. */
	while (s < 31 && ns / hz >> s > UINT32_MAX)
		s++;
	while (s > -31 && (s >= 0 ? ns / hz >> s : ns / hz << -s) < BIT(31))
		s--;
	*mul = s >= 0 ? ns / hz >> s : (ns << -s) / hz;
	*shift = s;
}

/* The guest's TSC at which all processors' clocks are 0, on this one. */
static uint64_t zero_point(const struct vcpu *v)
{
	return v->tsc_offset - v->tsc_boot_offset;
}

static bool write_clock(struct vcpu *v, gpa_t gpa)
{
	struct clock_record *r = record_at(v, gpa, sizeof(*r));

	if (!r)
		return false;
	begin(&r->version);
	r->pad = 0;
	r->tsc_timestamp = zero_point(v);
	r->system_time = 0;
	scale(v->tsc_hz, &r->tsc_to_system_mul, &r->tsc_shift);
	r->flags = TSC_STABLE;
	end(&r->version);
	gpa_written(v->space, gpa, sizeof(*r));
	return true;
}

/* Now, in ns since the zero point. */
static uint64_t since_boot(const struct vcpu *v)
{
	uint64_t ticks = __builtin_ia32_rdtsc() + v->tsc_boot_offset;

	return (unsigned __int128)ticks * NS / v->tsc_hz;
}

static bool write_wall(struct vcpu *v, gpa_t gpa)
{
	struct wall_record *r = record_at(v, gpa, sizeof(*r));
	struct timespec now;
	uint64_t zero;

	if (!r)
		return false;
	fpu_put(v);		/* libc's clock_gettime() */
	clock_gettime(CLOCK_REALTIME, &now);
	zero = now.tv_sec * NS + now.tv_nsec - since_boot(v);
	begin(&r->version);
	r->sec = zero / NS;
	r->nsec = zero % NS;
	end(&r->version);
	gpa_written(v->space, gpa, sizeof(*r));
	return true;
}

void pv_tsc_changed(struct vcpu *v)
{
	if (v->pv_clock & ENABLED)
		write_clock(v, v->pv_clock & ~ENABLED);
}

/* --- steal time --- */

void pv_account(struct vcpu *v)
{
	gpa_t gpa = v->pv_steal & ~ENABLED;
	uint64_t now = __builtin_ia32_rdtsc();
	struct steal_record *r;

	if (!(v->pv_steal & ENABLED) || !v->stolen ||
	    now - v->pv_accounted < v->tsc_hz / UPDATES_A_SECOND)
		return;
	v->pv_accounted = now;
	r = record_at(v, gpa, sizeof(*r));
	if (!r)
		return;
	fpu_put(v);
	begin(&r->version);
	r->steal = v->stolen(v->wake_arg);
	end(&r->version);
	gpa_written(v->space, gpa, sizeof(*r));
}

static bool write_steal(struct vcpu *v, uint64_t value)
{
	struct steal_record *r;

	if (value & 0x3e)
		return false;
	r = record_at(v, value & ~ENABLED, sizeof(*r));
	if (value & ENABLED && !r)
		return false;
	v->pv_steal = value;
	if (!(value & ENABLED))
		return true;
	*r = (struct steal_record){ 0 };
	gpa_written(v->space, value & ~ENABLED, sizeof(*r));
	v->pv_accounted = 0;
	pv_account(v);
	return true;
}

/* --- those that do not run --- */

static struct steal_record *steal_record(const struct vcpu *v)
{
	return v->pv_steal & ENABLED ? record_at(v, v->pv_steal & ~ENABLED, sizeof(struct steal_record)) :
				       NULL;
}

void pv_leaves(struct vcpu *v)
{
	struct steal_record *r = steal_record(v);

	if (!r)
		return;
	/* Release: what the guest did comes before who flushes for it. */
	__atomic_store_n(&r->preempted, PREEMPTED, __ATOMIC_RELEASE);
	gpa_written(v->space, v->pv_steal & ~ENABLED, sizeof(*r));
}

bool pv_returns(struct vcpu *v)
{
	struct steal_record *r = steal_record(v);
	uint8_t said;

	if (!r)
		return false;
	/* Acquire: the tables that somebody changed before he asked are read as they are now. */
	said = __atomic_exchange_n(&r->preempted, 0, __ATOMIC_ACQUIRE);
	if (said & FLUSH)
		tlb_flush_all(v);
	return said & PREEMPTED;
}

void pv_moved(struct vcpu *v)
{
	struct steal_record *r = steal_record(v);

	if (r && __atomic_exchange_n(&r->preempted, 0, __ATOMIC_ACQUIRE) & FLUSH)
		vcpu_attention(v, ATTN_FLUSH);
	if (!(v->pv_steal & ENABLED))
		v->pv_no_calls = false;
	if (pv_may_wait(v))
		vcpu_attention(v, ATTN_KICK);
}

bool pv_may_wait(const struct vcpu *v)
{
	return v->pv_steal & ENABLED && v->model->cpus > 1 && !v->pv_no_calls;
}

void pv_hypercall(struct vcpu *v)
{
	uint64_t *rax = &v->gpr[REG_RAX];
	const bool whole = v->code_size == CODE_64;
	const uint64_t call = whole ? *rax : (uint32_t)*rax;

	if (v->cpl) {
		*rax = NOT_ALLOWED;
	} else if (call == PV_KICK_CPU) {
		fpu_put(v);
		if (v->kick)
			v->kick(v->wake_arg, v->gpr[REG_RCX]);
		*rax = 0;
	} else if (call == PV_SCHED_YIELD) {
		fpu_put(v);
		vcpu_yield(v);
		*rax = 0;
	} else {
		*rax = NO_SUCH_CALL;
	}
	if (!whole)
		*rax = (uint32_t)*rax;
}

/* --- registers --- */

bool pv_read_msr(const struct vcpu *v, uint32_t index, uint64_t *value)
{
	switch (index) {
	case MSR_PV_WALL_CLOCK:
		*value = v->pv_wall;
		return true;
	case MSR_PV_SYSTEM_TIME:
		*value = v->pv_clock;
		return true;
	case MSR_PV_STEAL_TIME:
		*value = v->pv_steal;
		return true;
	default:
		return false;
	}
}

bool pv_write_msr(struct vcpu *v, uint32_t index, uint64_t value)
{
	switch (index) {
	case MSR_PV_WALL_CLOCK:
		v->pv_wall = value;
		return !(value & 3) && write_wall(v, value);
	case MSR_PV_SYSTEM_TIME:
		if (value & 2 || (value & ENABLED && !write_clock(v, value & ~ENABLED)))
			return false;
		v->pv_clock = value;
		return true;
	case MSR_PV_STEAL_TIME:
		return write_steal(v, value);
	default:
		return false;
	}
}
