// SPDX-License-Identifier: Apache-2.0
/*
 * The KVM engine on a KVM that is a function here: what it says of a host that has none, may
 * not have one or has an old one, and how a run ends for each reason of KVM's, known or not.
 */
#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "engine/engine.h"
#include "engine/kvm/sys.h"

#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define RAM		(1ULL << 20)
#define FD_DEVICE	100
#define FD_VM		101
#define FD_VCPU		102
#define RUN_SIZE	12288
#define STEPS_MAX	100

/* What the fake does; in one place, since struct kvm_sys has no argument for it. */
static struct fake {
	int open_error, version, slots, run_error, runs;
	unsigned long failing;		/* this request fails ... */
	int error;			/* ... with this */
	unsigned int missing_cap;
	uint32_t lacks_edx;		/* of CPUID leaf 1 */
	void (*exits[8])(struct kvm_run *run);	/* what each KVM_RUN comes back with */
	bool again;			/* the last exit again and again */
	_Alignas(4096) uint8_t area[RUN_SIZE];
} fake;

static struct kvm_run *fake_run(void)
{
	return (struct kvm_run *)fake.area;
}

static int refuse(int error)
{
	errno = error;
	return -1;
}

static int fake_open(const char *path)
{
	(void)path;
	return fake.open_error ? refuse(fake.open_error) : FD_DEVICE;
}

static int fake_close(int fd)
{
	(void)fd;
	return 0;
}

static void *fake_map(int fd, size_t size, uint64_t offset)
{
	(void)fd;
	return size <= RUN_SIZE && !offset ? fake.area : MAP_FAILED;
}

static int fake_unmap(void *at, size_t size)
{
	(void)at;
	(void)size;
	return 0;
}

static int supported_cpuid(struct kvm_cpuid2 *c)
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

static int msr_list(struct kvm_msr_list *l)
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

static int capability(unsigned int cap)
{
	if (cap == fake.missing_cap)
		return 0;
	switch (cap) {
	case KVM_CAP_NR_MEMSLOTS:
		return fake.slots;
	case KVM_CAP_XSAVE2:
		return 4096;
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
static int run_guest(void)
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

static int fake_ioctl(int fd, unsigned long request, uintptr_t arg)
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
	case KVM_GET_MSR_INDEX_LIST:
		return msr_list((void *)arg);
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
		return ((struct kvm_msrs *)arg)->nmsrs;
	case KVM_RUN:
		return run_guest();
	default:
		return 0;
	}
}

static const struct kvm_sys fake_sys = {
	.open = fake_open, .close = fake_close, .ioctl = fake_ioctl, .map = fake_map,
	.unmap = fake_unmap,
};

/* --- a machine of RAM and one processor --- */

static int no_ack(void *intc)
{
	(void)intc;
	return -1;
}

static bool no_pending(void *intc)
{
	(void)intc;
	return false;
}

static uint8_t tpr(void *intc)
{
	(void)intc;
	return 0;
}

static void set_tpr(void *intc, uint8_t value)
{
	(void)intc;
	(void)value;
}

static gpa_t no_page(void *intc)
{
	(void)intc;
	return GPA_NONE;
}

static const struct vcpu_intc_ops intc_ops = {
	.ack = no_ack, .pending = no_pending, .get_tpr = tpr, .set_tpr = set_tpr,
	.mmio_base = no_page,
};

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

static void device_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct bench *b = dev;

	if (b->writes < ARRAY_SIZE(b->written))
		b->written[b->writes++] = off << 56 | (uint64_t)size << 48 | value;
}

static const struct io_ops device_io = { .write = device_write };

static int setup(void **state)
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
	b->v = aligned_alloc(64, ALIGN_UP(sizeof(*b->v), 64));
	memset(b->v, 0, sizeof(*b->v));
	b->v->space = &b->space;
	b->v->model = &b->model;
	b->v->clock = &b->clock;
	b->v->log = &b->log;
	b->v->intc_ops = &intc_ops;
	assert_int_equal(vcpu_init(b->v, NULL), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	if (b->engine) {
		engine_kvm.vcpu_remove(b->engine, b->v);
		engine_kvm.destroy(b->engine);
	}
	vcpu_destroy(b->v);
	free(b->v);
	gpa_space_destroy(&b->space);
	clock_destroy(&b->clock);
	fclose(b->log.out);
	free(b->text);
	free(b);
	return 0;
}

static int create(struct bench *b)
{
	const struct engine_config c = { .kvm_sys = &fake_sys, .kvm_device = "/dev/fake",
					 .kvm_apics = KVM_APICS_MACHINE };

	return engine_kvm.create(&b->engine, &b->space, &c, &b->log, &b->err);
}

static void refused(struct bench *b, int error, const char *word)
{
	b->engine = NULL;
	assert_int_equal(create(b), -error);
	assert_null(b->engine);
	if (!strstr(b->err.text, word))
		fail_msg("'%s' is not in: %s", word, b->err.text);
}

/* --- hosts without a KVM that will do --- */

static void test_open_fails(void **state)
{
	struct bench *b = *state;

	fake.open_error = ENOENT;
	refused(b, ENOENT, "load the module");
	assert_non_null(strstr(b->err.text, "/dev/fake"));
	fake.open_error = ENODEV;
	refused(b, ENODEV, "load the module");
	fake.open_error = EACCES;
	refused(b, EACCES, "adduser");
	fake.open_error = EMFILE;
	refused(b, EMFILE, "--engine soft");
}

static void test_not_kvm(void **state)
{
	struct bench *b = *state;

	fake.failing = KVM_GET_API_VERSION;
	fake.error = ENOTTY;
	refused(b, ENOTTY, "not KVM's device");
	fake.failing = 0;
	fake.version = 11;
	refused(b, EPROTO, "version 11");
}

static void test_requests_fail(void **state)
{
	static const struct { unsigned long request; const char *word; } r[] = {
		{ KVM_CREATE_VM, "virtual machine" }, { KVM_ENABLE_CAP, "registers" },
		{ KVM_SET_TSS_ADDR, "real-mode" }, { KVM_SET_IDENTITY_MAP_ADDR, "identity map" },
		{ KVM_X86_SET_MSR_FILTER, "filter" }, { KVM_GET_MSR_INDEX_LIST, "registers" },
		{ KVM_SET_USER_MEMORY_REGION, "guest memory" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		fake.failing = r[i].request;
		fake.error = ENOSPC;
		refused(*state, ENOSPC, r[i].word);
	}
}

static void test_old_kernel(void **state)
{
	fake.missing_cap = KVM_CAP_X86_MSR_FILTER;
	refused(*state, ENOTSUP, "since 5.10");
}

static void test_too_many_slots(void **state)
{
	fake.slots = 1;
	refused(*state, ENOSPC, "KVM here takes 1");
}

static void test_model_refused(void **state)
{
	struct bench *b = *state;

	fake.lacks_edx = BIT(26);	/* SSE2 */
	assert_int_equal(create(b), 0);
	assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), -ENOTSUP);
	assert_non_null(strstr(b->err.text, "vireo-v1 has (SSE2)"));
	fake.lacks_edx = 0;
	fake.failing = KVM_CREATE_VCPU;
	fake.error = EEXIST;
	assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), -EEXIST);
	fake.failing = KVM_SET_CPUID2;
	assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), -EEXIST);
}

/* --- exits --- */

static enum vcpu_exit run(struct bench *b)
{
	if (!b->engine) {
		assert_int_equal(create(b), 0);
		assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), 0);
	}
	return engine_kvm.vcpu_run(b->engine, b->v);
}

static void ends_with_error(struct bench *b, const char *word)
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

static void exit_99(struct kvm_run *run)
{
	run->exit_reason = 99;
}

static void exit_hyperv(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HYPERV;
}

static void exit_entry(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = 0x80000021;
}

static void exit_internal(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
	run->internal.ndata = 99;	/* more than there is room for */
}

static void exit_internal_new(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = 77;
	run->internal.ndata = 0;
}

static void exit_event(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_CRASH;
}

static void exit_ports_beyond(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.size = 4;
	run->io.count = 0x40000000;
	run->io.data_offset = 4096;
}

static void test_unknown_exit(void **state)
{
	fake.exits[0] = exit_99;
	ends_with_error(*state, "reason 99");
	assert_int_equal(fake.runs, 1);
}

static void test_exit_of_others(void **state)
{
	fake.exits[0] = exit_hyperv;
	ends_with_error(*state, "Hyper-V");
}

static void test_failed_entry(void **state)
{
	fake.exits[0] = exit_entry;
	ends_with_error(*state, "0x80000021");
}

static void test_internal_error(void **state)
{
	fake.exits[0] = exit_internal;
	ends_with_error(*state, "delivered an event");
}

static void test_new_internal_error(void **state)
{
	fake.exits[0] = exit_internal_new;
	ends_with_error(*state, "no reason is told (77)");
}

static void test_system_event(void **state)
{
	fake.exits[0] = exit_event;
	ends_with_error(*state, "system event 3");
}

static void test_impossible_ports(void **state)
{
	fake.exits[0] = exit_ports_beyond;
	ends_with_error(*state, "cannot be");
}

static void test_run_fails(void **state)
{
	struct bench *b = *state;

	fake.run_error = EFAULT;
	ends_with_error(b, "cannot reach guest memory");
	b->v->err.code = 0;
	fake.run_error = ENOEXEC;
	ends_with_error(b, "error 8");
}

static void test_state_refused(void **state)
{
	struct bench *b = *state;

	fake.failing = KVM_SET_SREGS;
	fake.error = EINVAL;
	assert_int_equal(run(b), VCPU_EXIT_ERROR);
	assert_non_null(strstr(b->v->err.text, "control registers"));
}

static void exit_shutdown(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
}

static void test_shutdown(void **state)
{
	struct bench *b = *state;

	fake.exits[0] = exit_shutdown;
	assert_int_equal(run(b), VCPU_EXIT_SHUTDOWN);
	assert_true(b->v->shutdown);
}

static void exit_halt(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HLT;
}

static void exit_ports(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io = (typeof(run->io)){ .direction = KVM_EXIT_IO_OUT, .size = 2, .port = 0x102,
				     .count = 2, .data_offset = 4096 };
	memcpy((uint8_t *)run + 4096, "\x34\x12\x78\x56", 4);
}

/* Seven bytes: KVM cuts what crosses a page. */
static void exit_mmio(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio = (typeof(run->mmio)){ .phys_addr = 0xe0000010, .len = 7, .is_write = 1,
					 .data = { 1, 2, 3, 4, 5, 6, 7 } };
}

static void exit_msr(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_X86_RDMSR;
	run->msr.index = 0x12345;
	run->msr.error = 0;
}

static void exit_window(struct kvm_run *run)
{
	assert_int_equal(run->msr.error, 1);	/* the register above is unknown */
	run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
}

static void test_accesses_then_halt(void **state)
{
	struct bench *b = *state;

	fake.exits[0] = exit_ports;
	fake.exits[1] = exit_mmio;
	fake.exits[2] = exit_msr;
	fake.exits[3] = exit_window;
	fake.exits[4] = exit_halt;
	assert_int_equal(run(b), VCPU_EXIT_HALT);
	assert_int_equal(fake.runs, 5);
	assert_true(b->v->halted);
	assert_int_equal(b->v->stats.pio, 2);
	assert_int_equal(b->writes, 4);
	assert_int_equal(b->written[0], 2ULL << 56 | 2ULL << 48 | 0x1234);
	assert_int_equal(b->written[1], 2ULL << 56 | 2ULL << 48 | 0x5678);
	assert_int_equal(b->written[2], 0x10ULL << 56 | 4ULL << 48 | 0x04030201);
	assert_int_equal(b->written[3], 0x14ULL << 56 | 2ULL << 48 | 0x0605);
}

static void exit_and_stop(struct kvm_run *run)
{
	exit_ports(run);
}

/* A stop finishes the instruction and comes back without running the guest. */
static void test_stop(void **state)
{
	struct bench *b = *state;

	atomic_fetch_or(&b->v->attention, ATTN_STOP);
	assert_int_equal(run(b), VCPU_EXIT_STOP);
	assert_int_equal(fake.runs, 0);
}

static void stop_inside(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct bench *b = dev;

	(void)off;
	(void)size;
	(void)value;
	b->writes++;
	vcpu_attention(b->v, ATTN_STOP);
}

static void test_stop_by_a_device(void **state)
{
	static const struct io_ops io = { .write = stop_inside };
	struct bench *b = *state;
	const struct io_region ports = { "stop", 0x102, 2, &io, b };

	gpa_space_remove_pio(&b->space, 0x100);
	assert_int_equal(gpa_space_add_pio(&b->space, &ports, NULL), 0);
	fake.exits[0] = exit_and_stop;
	assert_int_equal(run(b), VCPU_EXIT_STOP);
	assert_int_equal(b->writes, 2);
	assert_int_equal(fake.runs, 1);
	assert_int_equal(fake_run()->immediate_exit, 1);
}

/* KVM never comes to the end of the instruction: that is an end, not a spin. */
static void test_endless_instruction(void **state)
{
	struct bench *b = *state;

	fake.exits[0] = exit_mmio;
	fake.again = true;
	assert_int_equal(create(b), 0);
	assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), 0);
	b->v->wake = NULL;
	gpa_space_remove_mmio(&b->space, 0xe0000000);
	assert_int_equal(gpa_space_add_mmio(&b->space, &(struct io_region){
		"stop", 0xe0000000, 4096, &(const struct io_ops){ .write = stop_inside }, b },
		NULL), 0);
	ends_with_error(b, "end of an instruction");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_open_fails), T(test_not_kvm), T(test_requests_fail), T(test_old_kernel),
		T(test_too_many_slots), T(test_model_refused), T(test_unknown_exit),
		T(test_exit_of_others), T(test_failed_entry), T(test_internal_error),
		T(test_new_internal_error), T(test_system_event), T(test_impossible_ports),
		T(test_run_fails), T(test_state_refused), T(test_shutdown),
		T(test_accesses_then_halt), T(test_stop), T(test_stop_by_a_device),
		T(test_endless_instruction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
