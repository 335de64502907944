// SPDX-License-Identifier: Apache-2.0
/*
 * The KVM engine on a KVM that is a function here: what it says of a host that has none, may
 * not have one or has an old one, and how a run ends for each reason of KVM's, known or not.
 */
#include "fake_kvm.h"

#include "cpu/pv.h"
#include "engine/kvm/kvm_priv.h"

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

/* A processor without VMCALL: guests are not told of calls, and those that were stay away. */
static void test_calls(void **state)
{
	const uint32_t calls = kvm_has_vmcall() ? PV_CALLS : 0;
	struct bench *b = *state;
	int rc;

	b->model.cpus = 2;
	assert_int_equal(create(b), 0);
	assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), 0);
	assert_int_equal(fake.paravirtual.eax, (PV_FEATURES & ~PV_CALLS) | calls);
	engine_kvm.vcpu_remove(b->engine, b->v);
	assert_true(pv_write_msr(b->v, MSR_PV_STEAL_TIME, 0x4001));
	rc = engine_kvm.vcpu_add(b->engine, b->v, &b->err);
	assert_int_equal(rc, calls ? 0 : -ENOTSUP);
	if (rc)
		assert_non_null(strstr(b->err.text, "VMCALL"));
	/* It began where it was not told. */
	b->v->pv_no_calls = true;
	engine_kvm.vcpu_remove(b->engine, b->v);
	assert_int_equal(engine_kvm.vcpu_add(b->engine, b->v, &b->err), 0);
}

/* --- exits --- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_open_fails), T(test_not_kvm), T(test_requests_fail), T(test_old_kernel),
		T(test_too_many_slots), T(test_model_refused), T(test_calls), T(test_unknown_exit),
		T(test_exit_of_others), T(test_failed_entry), T(test_internal_error),
		T(test_new_internal_error), T(test_system_event), T(test_impossible_ports),
		T(test_run_fails), T(test_state_refused), T(test_shutdown),
		T(test_accesses_then_halt), T(test_stop), T(test_stop_by_a_device),
		T(test_endless_instruction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
