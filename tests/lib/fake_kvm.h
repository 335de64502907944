/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM that is a function, behind the KVM engine's system calls, and a bench: a machine of RAM,
 * one device and one processor.  What each KVM_RUN comes back with is the test's script; what the
 * engine told it is kept.
 */
#ifndef VIREO_TESTS_FAKE_KVM_H
#define VIREO_TESTS_FAKE_KVM_H

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "engine/kvm/sys.h"
#include "processor.h"
#include "unit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RAM		(1ULL << 20)
#define FD_DEVICE	100
#define FD_VM		101
#define FD_VCPU		102
#define RUN_SIZE	12288
#define STEPS_MAX	10000
#define FAKE_XSAVE	16384
#define FAKE_KEPT	128

/* What the fake does; in one place, since struct kvm_sys has no argument for it. */
static struct fake {
	int open_error, version, slots, run_error, runs;
	enum kvm_apics apics;		/* that the engine is asked for; 0: ours */
	unsigned long failing;		/* this request fails ... */
	int error;			/* ... with this */
	unsigned int missing_cap;
	uint32_t lacks_edx;		/* of CPUID leaf 1 */
	struct kvm_cpuid_entry2 paravirtual;	/* of what it was given: leaf 40000001h */
	void (*exits[8])(struct kvm_run *run);	/* what each KVM_RUN comes back with */
	bool again;			/* the last exit again and again */
	/* What KVM_GET_* give, as KVM_SET_* left it; xsave_size: what KVM_CAP_XSAVE2 tells, 0: 4096. */
	size_t xsave_size;
	uint8_t xsave[FAKE_XSAVE];
	uint64_t xcr0;
	struct kvm_mp_state mp;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	/* Descriptors that it has now, and how often it was told of one. */
	struct kvm_ioeventfd bell[FAKE_KEPT];
	struct kvm_irqfd irqfd[FAKE_KEPT];
	unsigned int bells, irqfds, bells_most, told;
	struct kvm_msi sent;		/* the last one */
	unsigned int messages;
	_Alignas(4096) uint8_t area[RUN_SIZE];
} fake;

static inline struct kvm_run *fake_run(void)
{
	return (struct kvm_run *)fake.area;
}

static inline int refuse(int error)
{
	errno = error;
	return -1;
}

static inline int fake_open(const char *path)
{
	(void)path;
	return fake.open_error ? refuse(fake.open_error) : FD_DEVICE;
}

static inline int fake_close(int fd)
{
	(void)fd;
	return 0;
}

static inline void *fake_map(int fd, size_t size, uint64_t offset)
{
	(void)fd;
	return size <= RUN_SIZE && !offset ? fake.area : MAP_FAILED;
}

static inline int fake_unmap(void *at, size_t size)
{
	(void)at;
	(void)size;
	return 0;
}

static inline int supported_cpuid(struct kvm_cpuid2 *c)
{
	static const uint32_t leaf[][2] = {
		{ 1, 0 }, { 6, 0 }, { 7, 0 }, { 7, 1 }, { 7, 2 }, { 0xd, 1 }, { 0x80000001, 0 },
		{ 0x80000007, 0 },
	};

	c->nent = ARRAY_SIZE(leaf);
	for (unsigned int i = 0; i < c->nent; i++)
		c->entries[i] = (struct kvm_cpuid_entry2){
			.function = leaf[i][0], .index = leaf[i][1],
			.eax = ~0U, .ebx = ~0U, .ecx = ~0U, .edx = i ? ~0U : ~fake.lacks_edx,
		};
	return 0;
}

static inline int msr_list(struct kvm_msr_list *l)
{
	static const uint32_t known[] = {
		MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_STAR, MSR_LSTAR,
		MSR_CSTAR, MSR_SFMASK, MSR_KERNEL_GS_BASE, MSR_TSC_AUX,
	};
	const bool fits = l->nmsrs >= ARRAY_SIZE(known);

	l->nmsrs = ARRAY_SIZE(known);
	if (!fits)
		return refuse(E2BIG);
	memcpy(l->indices, known, sizeof(known));
	return 0;
}

static inline int keep_cpuid(const struct kvm_cpuid2 *c)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == 0x40000001)
			fake.paravirtual = c->entries[i];
	return 0;
}

static inline int capability(unsigned int cap)
{
	if (cap == fake.missing_cap)
		return 0;
	switch (cap) {
	case KVM_CAP_NR_MEMSLOTS:
		return fake.slots;
	case KVM_CAP_XSAVE2:
		return fake.xsave_size ? fake.xsave_size : 4096;
	case KVM_CAP_COALESCED_MMIO:
		return 2;
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_VCPU_ATTRIBUTES:
		return 0;
	default:
		return 1;
	}
}

/* An interrupted KVM_RUN where immediate_exit asks for it, else the next exit of the script. */
static inline int run_guest(void)
{
	struct kvm_run *run = fake_run();
	void (*exit)(struct kvm_run *);

	if (fake.run_error)
		return refuse(fake.run_error);
	assert_in_range(fake.runs, 0, STEPS_MAX);
	exit = fake.exits[fake.again ? 0 : fake.runs];
	if (run->immediate_exit && !fake.again)
		return refuse(EINTR);
	fake.runs++;
	if (!exit)
		fail_msg("the engine ran the guest once more");
	exit(run);
	return 0;
}

static inline int get(void *arg, const void *from, size_t size)
{
	memcpy(arg, from, size);
	return 0;
}

static inline bool same_bell(const struct kvm_ioeventfd *a, const struct kvm_ioeventfd *b)
{
	return a->addr == b->addr && a->len == b->len && a->fd == b->fd &&
	       a->datamatch == b->datamatch;
}

static inline int fake_ioeventfd(const struct kvm_ioeventfd *io)
{
	fake.told++;
	for (unsigned int i = 0; i < fake.bells; i++) {
		if (!same_bell(&fake.bell[i], io))
			continue;
		if (!(io->flags & KVM_IOEVENTFD_FLAG_DEASSIGN))
			return refuse(EEXIST);
		fake.bell[i] = fake.bell[--fake.bells];
		return 0;
	}
	if (io->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)
		return refuse(ENOENT);
	if (fake.bells == (fake.bells_most ? fake.bells_most : FAKE_KEPT))
		return refuse(ENOSPC);
	fake.bell[fake.bells++] = *io;
	return 0;
}

static inline int fake_irqfd(const struct kvm_irqfd *q)
{
	for (unsigned int i = 0; i < fake.irqfds; i++) {
		if (fake.irqfd[i].fd != q->fd || fake.irqfd[i].gsi != q->gsi)
			continue;
		if (!(q->flags & KVM_IRQFD_FLAG_DEASSIGN))
			return refuse(EBUSY);
		fake.irqfd[i] = fake.irqfd[--fake.irqfds];
		return 0;
	}
	if (q->flags & KVM_IRQFD_FLAG_DEASSIGN || fake.irqfds == FAKE_KEPT)
		return refuse(EINVAL);
	fake.irqfd[fake.irqfds++] = *q;
	return 0;
}

static inline int fake_state(unsigned long request, void *arg)
{
	const size_t xsave = fake.xsave_size ? fake.xsave_size : 4096;

	switch (request) {
	case KVM_GET_XSAVE:	/* of the old size only */
		return get(arg, fake.xsave, sizeof(struct kvm_xsave));
	case KVM_GET_XSAVE2:
		return get(arg, fake.xsave, xsave);
	case KVM_SET_XSAVE:
		return get(fake.xsave, arg, xsave);
	case KVM_GET_XCRS:
		*(struct kvm_xcrs *)arg = (struct kvm_xcrs){ .nr_xcrs = 1, .xcrs = { { .value = fake.xcr0 } } };
		return 0;
	case KVM_SET_XCRS:
		fake.xcr0 = ((struct kvm_xcrs *)arg)->xcrs[0].value;
		return 0;
	case KVM_GET_MP_STATE:
		return get(arg, &fake.mp, sizeof(fake.mp));
	case KVM_SET_MP_STATE:
		return get(&fake.mp, arg, sizeof(fake.mp));
	case KVM_GET_SREGS:
		return get(arg, &fake.sregs, sizeof(fake.sregs));
	case KVM_SET_SREGS:
		return get(&fake.sregs, arg, sizeof(fake.sregs));
	case KVM_GET_REGS:
		return get(arg, &fake.regs, sizeof(fake.regs));
	case KVM_SET_REGS:
		return get(&fake.regs, arg, sizeof(fake.regs));
	case KVM_GET_VCPU_EVENTS:
		return get(arg, &fake.events, sizeof(fake.events));
	case KVM_GET_DEBUGREGS:
		return get(arg, &fake.debugregs, sizeof(fake.debugregs));
	case KVM_SET_DEBUGREGS:
		return get(&fake.debugregs, arg, sizeof(fake.debugregs));
	default:
		return 0;
	}
}

static inline int fake_ioctl(int fd, unsigned long request, uintptr_t arg)
{
	(void)fd;
	if (request == fake.failing)
		return refuse(fake.error);
	switch (request) {
	case KVM_GET_API_VERSION:
		return fake.version;
	case KVM_CREATE_VM:
		return FD_VM;
	case KVM_CREATE_VCPU:
		return FD_VCPU;
	case KVM_GET_VCPU_MMAP_SIZE:
		return RUN_SIZE;
	case KVM_CHECK_EXTENSION:
		return capability(arg);
	case KVM_GET_SUPPORTED_CPUID:
		return supported_cpuid((void *)arg);
	case KVM_SET_CPUID2:
		return keep_cpuid((void *)arg);
	case KVM_GET_MSR_INDEX_LIST:
		return msr_list((void *)arg);
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
		return ((struct kvm_msrs *)arg)->nmsrs;
	case KVM_RUN:
		return run_guest();
	case KVM_IOEVENTFD:
		return fake_ioeventfd((void *)arg);
	case KVM_IRQFD:
		return fake_irqfd((void *)arg);
	case KVM_SIGNAL_MSI:
		fake.sent = *(struct kvm_msi *)arg;
		fake.messages++;
		return 1;
	default:
		return fake_state(request, (void *)arg);
	}
}

static const struct kvm_sys fake_sys __attribute__((unused)) = {
	.open = fake_open, .close = fake_close, .ioctl = fake_ioctl, .map = fake_map,
	.unmap = fake_unmap,
};

/* --- a machine of RAM and one processor --- */

struct bench {
	struct gpa_space space;
	struct cpu_model model;
	struct clock clock;
	struct log log;
	struct engine *engine;
	struct vcpu *v;
	struct err err;
	char *text;
	size_t text_size;
	uint64_t written[4];		/* by the device at 0xe0000000 */
	unsigned int writes;
};

static inline void device_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct bench *b = dev;

	if (b->writes < ARRAY_SIZE(b->written))
		b->written[b->writes++] = off << 56 | (uint64_t)size << 48 | value;
}

static const struct io_ops device_io = { .write = device_write };

static inline int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	const struct io_region mmio = { "device", 0xe0000000, 4096, &device_io, b };
	const struct io_region ports = { "ports", 0x100, 8, &device_io, b };

	memset(&fake, 0, sizeof(fake));
	fake.version = KVM_API_VERSION;
	fake.slots = 32;
	log_init(&b->log, LOG_DEBUG, open_memstream(&b->text, &b->text_size));
	clock_init(&b->clock, true);
	assert_int_equal(cpu_model_init(&b->model, "vireo-v1", NULL), 0);
	assert_int_equal(gpa_space_init(&b->space, NULL), 0);
	assert_int_equal(gpa_space_add_ram(&b->space, 0, RAM, NULL), 0);
	assert_int_equal(gpa_space_add_rom(&b->space, 0xff000000, 0x1000, NULL), 0);
	assert_int_equal(gpa_space_add_mmio(&b->space, &mmio, NULL), 0);
	assert_int_equal(gpa_space_add_pio(&b->space, &ports, NULL), 0);
	b->v = processor_alloc();
	processor_wire(b->v, &b->space, &b->model, &b->clock, &b->log);
	b->v->intc_ops = &no_intc;
	assert_int_equal(vcpu_init(b->v, NULL), 0);
	*state = b;
	return 0;
}

static inline int teardown(void **state)
{
	struct bench *b = *state;

	processor_destroy(b->v, &engine_kvm, b->engine);
	fclose(b->log.out);
	free(b->text);
	free(b);
	return 0;
}

static inline int create(struct bench *b)
{
	const struct engine_config c = { .kvm_sys = &fake_sys, .kvm_device = "/dev/fake",
					 .kvm_apics = fake.apics ? fake.apics :
						      KVM_APICS_MACHINE };

	return engine_kvm.create(&b->engine, &b->space, &c, &b->log, &b->err);
}

static inline void refused(struct bench *b, int error, const char *word)
{
	b->engine = NULL;
	assert_int_equal(create(b), -error);
	assert_null(b->engine);
	if (!strstr(b->err.text, word))
		fail_msg("'%s' is not in: %s", word, b->err.text);
}

static inline enum vcpu_exit run(struct bench *b)
{
	if (!b->engine) {
		assert_int_equal(create(b), 0);
		assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), 0);
	}
	return engine_kvm.vcpu_run(b->engine, b->v);
}

static inline void ends_with_error(struct bench *b, const char *word)
{
	assert_int_equal(run(b), VCPU_EXIT_ERROR);
	assert_int_equal(b->v->err.code, -EIO);
	if (!strstr(b->v->err.text, word))
		fail_msg("'%s' is not in: %s", word, b->v->err.text);
	fflush(b->log.out);
	/* What the guest was doing. */
	assert_non_null(strstr(b->text, "processor 0 at rip"));
	assert_non_null(strstr(b->text, "code:"));
}

#endif
