/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM engine's own structures.
 *
 * One file a concern: kvm.c (life), caps.c (what the kernel must offer), slots.c (guest memory),
 * dirty.c (which pages the guest wrote), cpuid.c, msr.c (the processor model), state.c and
 * events.c (struct vcpu to KVM and back), run.c (the loop), exits.c (why KVM came back), inject.c
 * (interrupts), apic.c (local APICs in KVM), eventfd.c, step.c (what KVM cannot execute),
 * report.c (what is said when it fails).
 *
 * Locks: a struct kvm_cpu belongs to its vCPU's thread, but for 'inside' and 'thread',
 * which vcpu_kick() reads.  (l) under struct kvm's lock, (r) under its route_lock.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst.
 */
#ifndef VIREO_ENGINE_KVM_PRIV_H
#define VIREO_ENGINE_KVM_PRIV_H

#include "cpu/cpuid.h"
#include "cpu/except.h"
#include "cpu/vcpu.h"
#include "engine/engine.h"
#include "engine/kvm/sys.h"

#include <linux/kvm.h>
#include <pthread.h>

#define KVM_CPUS_MAX	256
#define KVM_ROUTES_EOI	24	/* interrupts whose end KVM tells: as many as an I/O APIC has */
#define KVM_ROUTES_FD	64	/* interrupts by file descriptor */
#define KVM_DEVICE	"/dev/kvm"

/*
 * Where a processor without "unrestricted guest" keeps three pages for real mode and one
 * for a page table: below the firmware, in a hole that no device of a PC uses.
 */
#define KVM_IDENTITY_MAP 0xfeffc000ULL
#define KVM_TSS_PAGES	 0xfeffd000ULL

/* Guest memory that KVM knows of: one slot for each RAM extent. */
struct kvm_slot {
	gpa_t base;
	uint64_t size;
	uint8_t *hva;
	bool readonly;
	uint64_t *dirty;	/* a bit a page, while writes are watched */
};

struct kvm_fd_route {
	int fd;			/* -1: free */
	uint64_t addr;
	uint32_t data;
};

struct kvm {
	struct gpa_space *space;
	struct log *log;
	const struct kvm_sys *sys;
	int dev, vm;
	size_t run_size;	/* bytes of the area shared with KVM, for each vCPU */
	size_t xsave_size;
	unsigned int slots_max;
	unsigned int ring_entries;	/* of the dirty ring; 0: dirty bitmaps */
	unsigned int coalesced_page;	/* page of the shared area with the ring; 0: none */
	bool tsc_control;		/* the offset of the time-stamp counter can be set */
	_Atomic bool tsc_told;		/* ... the log knows that it has no effect */
	bool vmcall;			/* the processor has the instruction: cpuid.c */

	pthread_mutex_t lock;
	struct kvm_slot slot[RAM_EXTENTS_MAX];	/* (l) */
	_Atomic unsigned int slot_count;	/* (l) for writing */
	bool watched;				/* (l) writes are watched */
	_Atomic bool stepped;			/* the interpreter wrote where nobody watched */
	struct kvm_cpu *cpu[KVM_CPUS_MAX];	/* by vcpu.index */
	bool apics;				/* local APICs in KVM: apic.c */
	pthread_mutex_t route_lock;		/* (r) */
	uint8_t eoi_vector[KVM_ROUTES_EOI];	/* (r) */
	unsigned int eoi_routes;		/* (r) made so far */
	struct kvm_fd_route fd_route[KVM_ROUTES_FD];	/* (r) */
	struct region_watch regions;	/* its user's lock: gpa_space.lock */
	bool bells_any;			/* doorbells for writes of any size */
	bool bells_told;		/* the log knows that KVM refused one */
	uint32_t msr_synced[16];		/* registers that move with the state */
	unsigned int msr_synced_count;
};

struct kvm_cpu {
	struct kvm *kvm;
	struct vcpu *v;
	int fd;
	struct kvm_run *run;
	struct kvm_xsave *xsave;		/* kvm->xsave_size bytes */
	uint64_t xsave_others;			/* components in there that the model has not */
	struct kvm_dirty_gfn *ring;		/* NULL: dirty bitmaps */
	unsigned int ring_next;			/* (l) the entry to be looked at next */
	struct engine *interpreter;		/* made when it is first needed */
	bool want_interrupt;			/* the controller had something that had to wait */
	int given;				/* the PIC's vector, until the guest has it; -1: none */
	bool hosting;				/* the vCPU's controller stands still for KVM's */
	uint8_t cr8;				/* as KVM was told or told us last */
	_Atomic bool inside;			/* in KVM_RUN, or about to be */
	pthread_t thread;			/* of the run that 'inside' is about */
	bool thread_known;
	struct kvm_counts {
		uint64_t exits, by_reason[64], steps, coalesced;
	} counts;
};

/* What a handler of an exit wants next. */
enum kvm_next {
	NEXT_RUN,	/* go on */
	NEXT_LOOK,	/* state to struct vcpu, look at attention, go on */
	NEXT_HALT,	/* the guest executed HLT */
	NEXT_SHUTDOWN,
	NEXT_STEP,	/* KVM cannot execute the instruction: the interpreter does */
	NEXT_DEBUG,	/* a debug exception for the guest; DR6 bits in run->debug */
	NEXT_ERROR,	/* v->err is filled */
};

/* 64-bit words of a bitmap of its pages. */
static inline uint64_t kvm_slot_words(const struct kvm_slot *s)
{
	return ((s->size >> GUEST_PAGE_SHIFT) + 63) / 64;
}

/* An ioctl of the VM or a vCPU with a pointer; 0 or more, or -1 and errno. */
static inline int kvm_vm_ioctl(struct kvm *k, unsigned long request, const void *arg)
{
	return k->sys->ioctl(k->vm, request, (uintptr_t)arg);
}

static inline int kvm_cpu_ioctl(struct kvm_cpu *c, unsigned long request, const void *arg)
{
	return c->kvm->sys->ioctl(c->fd, request, (uintptr_t)arg);
}

/* --- caps.c --- */

/* The value of KVM_CAP_*, 0: not there. */
int kvm_cap(struct kvm *k, unsigned int cap);
/* -ENOTSUP names what this kernel lacks. */
int kvm_check_caps(struct kvm *k, struct err *e);
/* Switches on what every VM of ours uses; before the vCPUs are made. */
int kvm_enable_caps(struct kvm *k, const struct engine_config *c, struct err *e);

/* --- slots.c --- */

/* Makes KVM's slots those of the extent list; cheap where nothing changed. */
int kvm_slots_sync(struct kvm *k, struct err *e);
void kvm_slots_destroy(struct kvm *k);
int kvm_slot_set(struct kvm *k, unsigned int index, bool watched, struct err *e);
/* Writes to registers that a device lets come late: taken before anything else is done. */
int kvm_coalesced_init(struct kvm *k, struct err *e);
void kvm_coalesced_take(struct kvm_cpu *c);

/* --- dirty.c --- */

int kvm_dirty_start(struct engine *en, struct err *e);
int kvm_dirty_collect(struct engine *en, void (*tell)(void *arg, gpa_t gpa, uint64_t len),
		      void *arg, struct err *e);
void kvm_dirty_stop(struct engine *en);
/* Before the first vCPU: a ring for each of them. */
int kvm_ring_enable(struct kvm *k, struct err *e);
int kvm_ring_map(struct kvm_cpu *c, struct err *e);
void kvm_ring_unmap(struct kvm_cpu *c);
/* The rings' entries into the slots' bitmaps. */
void kvm_ring_take_locked(struct kvm *k);

/* --- cpuid.c --- */

/* Gives the vCPU its model's CPUID; -ENOTSUP names what KVM here cannot give a guest. */
int kvm_cpuid_set(struct kvm_cpu *c, struct err *e);
/* Does VMCALL, which the models' guests call their hypervisor by, reach KVM? */
bool kvm_has_vmcall(void);

/* --- msr.c --- */

/* All MSRs but the hot ones come to us, so that they answer as in the other engine. */
int kvm_msr_filter(struct kvm *k, struct err *e);
int kvm_msr_list(struct kvm *k, struct err *e);
enum kvm_next kvm_msr_read(struct kvm_cpu *c);
enum kvm_next kvm_msr_write(struct kvm_cpu *c);
int kvm_msrs_put(struct kvm_cpu *c);
int kvm_msrs_get(struct kvm_cpu *c);
int kvm_tsc_put(struct kvm_cpu *c);

/* --- state.c --- */

/* All of struct vcpu to KVM, and all of it back; false: c->v->err is filled. */
bool kvm_state_put(struct kvm_cpu *c);
bool kvm_state_get(struct kvm_cpu *c);
/* The part that can be shown whatever state KVM is in: registers and segments. */
bool kvm_registers_get(struct kvm_cpu *c);

/* --- events.c --- */

/* What is pending or blocked; the second also delivers what KVM has half delivered. */
int kvm_events_put(struct kvm_cpu *c);
int kvm_events_get(struct kvm_cpu *c);

/* --- inject.c --- */

/* Before KVM_RUN: hands over an interrupt or asks to hear when one can be taken. */
bool kvm_inject(struct kvm_cpu *c, uint32_t bits);
/* After it: the task priority that the guest may have changed. */
void kvm_tpr_in(struct kvm_cpu *c);
void kvm_tpr_out(struct kvm_cpu *c);
/* When the state leaves KVM: requests that waited there wait in struct vcpu. */
void kvm_inject_park(struct kvm_cpu *c);

/* --- apic.c: without local APICs in KVM these do nothing --- */

int kvm_apics_create(struct kvm *k, const struct engine_config *c, struct err *e);
bool kvm_has_apics(struct engine *en);
int kvm_apic_put(struct kvm_cpu *c);
int kvm_apic_get(struct kvm_cpu *c);
/* When the vCPU comes, and when it goes. */
int kvm_apic_take(struct kvm_cpu *c, struct err *e);
void kvm_apic_give_back(struct kvm_cpu *c);
int kvm_mp_put(struct kvm_cpu *c);
int kvm_mp_get(struct kvm_cpu *c);
int kvm_routes_set_locked(struct kvm *k);
bool kvm_send_msi(struct engine *en, uint64_t addr, uint32_t data);
enum kvm_next kvm_on_eoi(struct kvm_cpu *c);

/* --- eventfd.c --- */

/* Devices' doorbells are KVM's, as far as it takes them, between these two. */
void kvm_doorbells_begin(struct kvm *k);
void kvm_doorbells_end(struct kvm *k);
int kvm_irqfd_add(struct engine *en, int fd, uint64_t addr, uint32_t data, struct err *e);
void kvm_irqfd_remove(struct engine *en, int fd);

/* --- run.c --- */

enum vcpu_exit kvm_vcpu_run(struct engine *en, struct vcpu *v);
void kvm_vcpu_kick(struct engine *en, struct vcpu *v);

/* --- exits.c --- */

enum kvm_next kvm_exit(struct kvm_cpu *c);

/* --- step.c --- */

/* The interpreter executes the instruction at c->v->rip, faults included. */
bool kvm_step(struct kvm_cpu *c);
void kvm_step_destroy(struct kvm_cpu *c);

/* --- report.c --- */

/* Fills v->err with the sentence and logs what the guest was doing. */
void kvm_report(struct kvm_cpu *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *kvm_exit_name(unsigned int reason);
void kvm_counters(struct engine *en, const struct vcpu *v, counter_fn *tell, void *arg);

#endif
