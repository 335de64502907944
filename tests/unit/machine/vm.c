// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a VM, with an engine whose guest is a function here: how it ends, resets,
 * sleeps, prints; several at once; what creation refuses.
 */
#include "fake_engine.h"
#include "unit.h"

#include "base/char_fd.h"
#include "cpu/cpuid.h"
#include "dev/acpi_pm.h"
#include "machine/layout.h"
#include "machine/vm.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define S5_NOW ((SLP_TYP_S5 << 10) | 0x2000)

/* One machine and what its guest does, by boots. */
struct bench {
	struct fake_engine engine;
	struct cpu_model model;
	struct vm_config config;
	struct vm *vm;
	struct vm_result result;
	struct err err;
	unsigned int loads;		/* how often the images were loaded */
	unsigned int fail_load;		/* this load fails */
	unsigned int runs;		/* calls of the guest */
	int step;			/* the guest's own */
	uint8_t seen;
	int bad_line;			/* of the first check() that failed */
};

/* For the guest's thread, where cmocka's assertions cannot be used. */
#define check(b, condition) \
	do { \
		if (!(condition) && !(b)->bad_line) \
			(b)->bad_line = __LINE__; \
	} while (0)

static int load(void *arg, struct vm *vm, struct err *e)
{
	struct bench *b = arg;

	assert_true(gpa_write(vm_space(vm), 0x100000, "kernel", 6) == MEM_OK);
	if (++b->loads == b->fail_load)
		return err_set(e, EINVAL, "the kernel is gone");
	return 0;
}

static void bench_init(struct bench *b, enum vcpu_exit (*guest)(struct vcpu *, void *))
{
	memset(b, 0, sizeof(*b));
	assert_int_equal(cpu_model_init(&b->model, "vireo-v1", NULL), 0);
	b->engine.guest = guest;
	b->engine.arg = b;
	b->config = (struct vm_config){
		.memory = 16 << 20, .model = &b->model, .engine = &fake_engine_ops,
		.engine_config = &b->engine.config, .load = load, .load_arg = b,
	};
}

static void bench_create(struct bench *b)
{
	if (vm_create(&b->vm, &b->config, &b->err))
		fail_msg("vm_create: %s", b->err.text);
	assert_true(b->engine.alive);
}

static void bench_run(struct bench *b)
{
	if (vm_run(b->vm, &b->result, &b->err))
		fail_msg("vm_run: %s", b->err.text);
	if (b->bad_line)
		fail_msg("the guest's check in line %d failed", b->bad_line);
}

static void bench_destroy(struct bench *b)
{
	vm_destroy(b->vm);
	assert_int_equal(b->engine.vcpus, 0);
	assert_false(b->engine.alive);
}

static void bench_all(struct bench *b)
{
	bench_create(b);
	bench_run(b);
	bench_destroy(b);
}

static enum vcpu_exit power_off(struct vcpu *v)
{
	pio_write(v->space, PORT_ACPI_PM + PM1_CONTROL, 2, S5_NOW);
	return fake_spin(v);
}

/* --- how it ends --- */

static enum vcpu_exit guest_off(struct vcpu *v, void *arg)
{
	(void)arg;
	return power_off(v);
}

static void test_power_off(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_off);
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_POWEROFF);
	assert_int_equal(b.loads, 1);
}

static enum vcpu_exit guest_exit_port(struct vcpu *v, void *arg)
{
	(void)arg;
	pio_write(v->space, PORT_DEBUG_EXIT, 1, 0x10);
	/* A guest that goes on to power off has said its status first. */
	return power_off(v);
}

static void test_debug_exit(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_exit_port);
	b.config.debug_exit = true;
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_DEBUG);
	assert_int_equal(b.result.status, 0x21);
	/* Without the request the port is not there. */
	bench_init(&b, guest_exit_port);
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_POWEROFF);
}

static enum vcpu_exit guest_shutdown(struct vcpu *v, void *arg)
{
	struct bench *b = arg;

	(void)v;
	return b->loads == 1 ? VCPU_EXIT_SHUTDOWN : power_off(v);
}

static void test_triple_fault(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_shutdown);
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_TRIPLE_FAULT);
	bench_init(&b, guest_shutdown);
	b.config.triple_fault = TRIPLE_FAULT_RESET;
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_POWEROFF);
	assert_int_equal(b.loads, 2);
}

static enum vcpu_exit guest_host_error(struct vcpu *v, void *arg)
{
	(void)arg;
	err_set(&v->err, ENOMEM, "the host has no page left");
	return VCPU_EXIT_ERROR;
}

static void test_host_error(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_host_error);
	bench_create(&b);
	assert_int_equal(vm_run(b.vm, &b.result, &b.err), -ENOMEM);
	assert_int_equal(b.result.exit, VM_EXIT_ERROR);
	assert_string_equal(b.err.text, "the host has no page left");
	bench_destroy(&b);
}

/* --- reset --- */

static const struct { uint16_t port; uint8_t value; } reset_ways[] = {
	{ PORT_I8042_COMMAND, 0xfe }, { PORT_RESET_CONTROL, 0x06 }, { PORT_CONTROL_A, 0x01 },
};

/* Dirties memory and a device, resets in one of three ways, finds both as they were. */
static enum vcpu_exit guest_reset(struct vcpu *v, void *arg)
{
	struct bench *b = arg;
	unsigned int boot = b->loads - 1;
	char text[6];

	b->runs++;
	check(b, gpa_read(v->space, 0x100000, text, 6) == MEM_OK);
	check(b, !memcmp(text, "kernel", 6));
	check(b, pio_read(v->space, PORT_COM1 + 7, 1) == 0);
	check(b, gpa_read(v->space, LAYOUT_ACPI, text, 4) == MEM_OK);
	check(b, !memcmp(text, "RSD ", 4));
	if (boot == ARRAY_SIZE(reset_ways))
		return power_off(v);
	gpa_write(v->space, 0x100000, "dirty!", 6);
	gpa_write(v->space, LAYOUT_ACPI, "dirt", 4);
	pio_write(v->space, PORT_COM1 + 7, 1, 0x55);
	check(b, pio_read(v->space, PORT_COM1 + 7, 1) == 0x55);
	pio_write(v->space, reset_ways[boot].port, 1, reset_ways[boot].value);
	return fake_spin(v);
}

static void test_reset(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_reset);
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_POWEROFF);
	assert_int_equal(b.loads, ARRAY_SIZE(reset_ways) + 1);
	assert_int_equal(b.runs, ARRAY_SIZE(reset_ways) + 1);
}

static void test_no_reboot(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_reset);
	b.config.no_reboot = true;
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_RESET);
	assert_int_equal(b.loads, 1);
}

static void test_load_fails(void **state)
{
	struct bench b;

	(void)state;
	for (unsigned int which = 1; which <= 2; which++) {
		bench_init(&b, guest_reset);
		b.fail_load = which;
		bench_create(&b);
		assert_int_equal(vm_run(b.vm, &b.result, &b.err), -EINVAL);
		assert_string_equal(b.err.text, "the kernel is gone");
		assert_int_equal(b.runs, which - 1);
		bench_destroy(&b);
	}
}

/* --- stopping from outside --- */

static enum vcpu_exit guest_idle(struct vcpu *v, void *arg)
{
	struct bench *b = arg;

	(void)v;
	b->runs++;
	return VCPU_EXIT_HALT;
}

static enum vcpu_exit guest_busy(struct vcpu *v, void *arg)
{
	(void)arg;
	return fake_spin(v);
}

static void *stop_soon(void *arg)
{
	usleep(200000);
	vm_stop(arg);
	return NULL;
}

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void run_and_stop(struct bench *b)
{
	pthread_t thread;

	bench_create(b);
	pthread_create(&thread, NULL, stop_soon, b->vm);
	bench_run(b);
	pthread_join(thread, NULL);
	bench_destroy(b);
	assert_int_equal(b->result.exit, VM_EXIT_STOPPED);
}

static void test_stop(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_busy);
	run_and_stop(&b);
	/* Before the run is not too early. */
	bench_init(&b, guest_busy);
	bench_create(&b);
	vm_stop(b.vm);
	bench_run(&b);
	assert_int_equal(b.result.exit, VM_EXIT_STOPPED);
	bench_destroy(&b);
}

/* A halted vCPU sleeps: under 2 % of a core, and its guest is not run again. */
static void test_idle(void **state)
{
	struct bench b;
	double before;

	(void)state;
	bench_init(&b, guest_idle);
	bench_create(&b);
	pthread_t thread;
	pthread_create(&thread, NULL, stop_soon, b.vm);
	before = cpu_seconds();
	bench_run(&b);
	assert_true(cpu_seconds() - before < 0.02 * 0.2 + 0.002);
	pthread_join(thread, NULL);
	bench_destroy(&b);
	assert_true(b.runs <= 2);
}

/* --- interrupts end a halt --- */

static enum vcpu_exit guest_timer(struct vcpu *v, void *arg)
{
	struct bench *b = arg;
	struct gpa_space *s = v->space;
	static const struct { uint16_t port; uint8_t value; } init[] = {
		{ 0x20, 0x11 }, { 0x21, 0x20 }, { 0x21, 0x04 }, { 0x21, 0x01 }, { 0x21, 0xfe },
		{ 0x43, 0x30 }, { 0x40, 0x00 }, { 0x40, 0x20 }, /* one shot, 6.9 ms */
	};

	if (b->step++ == 0) {
		for (unsigned int i = 0; i < ARRAY_SIZE(init); i++)
			pio_write(s, init[i].port, 1, init[i].value);
		return VCPU_EXIT_HALT;
	}
	if (!(atomic_fetch_and(&v->attention, ~(uint32_t)ATTN_INTR) & ATTN_INTR))
		return VCPU_EXIT_HALT;
	b->seen = v->intc_ops->ack(v->intc);
	return power_off(v);
}

/* PIT, PIC, virtual wire, local APIC, vCPU thread. */
static void test_timer_wakes(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_timer);
	bench_all(&b);
	assert_int_equal(b.result.exit, VM_EXIT_POWEROFF);
	assert_int_equal(b.seen, 0x20);
}

static enum vcpu_exit guest_button(struct vcpu *v, void *arg)
{
	struct bench *b = arg;
	struct gpa_space *s = v->space;

	switch (b->step++) {
	case 0:	/* ACPI mode, power button enabled, SCI through I/O APIC pin 9 */
		pio_write(s, PORT_PIC_MASTER + 1, 1, 0xff);
		pio_write(s, PORT_SMI_COMMAND, 1, SMI_ACPI_ENABLE);
		pio_write(s, PORT_ACPI_PM + 2, 2, 0x100);
		mmio_write(s, LAYOUT_IOAPIC, 4, 0x10 + 2 * IRQ_SCI);
		mmio_write(s, LAYOUT_IOAPIC + 0x10, 4, 0x8000 | 0x61);
		v->intc_ops->mmio_write(v->intc, 0xf0, 4, 0x1ff);
		vm_power_button(b->vm);
		return VCPU_EXIT_HALT;
	case 1:
		b->seen = v->intc_ops->ack(v->intc);
		check(b, pio_read(s, PORT_ACPI_PM, 2) & 0x100);
		return power_off(v);
	default:
		return fake_spin(v);
	}
}

static void test_power_button(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_button);
	bench_all(&b);
	assert_int_equal(b.seen, 0x61);
	/* Where nobody listens it just cuts the power. */
	bench_init(&b, guest_idle);
	bench_create(&b);
	vm_power_button(b.vm);
	bench_run(&b);
	bench_destroy(&b);
	assert_int_equal(b.result.exit, VM_EXIT_POWEROFF);
}

/* --- console --- */

static enum vcpu_exit guest_prints(struct vcpu *v, void *arg)
{
	struct bench *b = arg;

	for (unsigned int i = 0; i < 3000; i++) {
		while (!(pio_read(v->space, PORT_COM1 + 5, 1) & 0x20))
			sched_yield();
		pio_write(v->space, PORT_COM1, 1, 'a' + (i + b->step) % 26);
	}
	return power_off(v);
}

static void open_pipe_console(struct bench *b, int in, int *reader)
{
	struct char_fd_config c = { .in = in };
	struct char_backend *backend;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	c.out = fds[1];
	assert_int_equal(char_fd_create(&backend, vm_loop(b->vm), &c, &b->err), 0);
	close(fds[1]);
	vm_attach_serial(b->vm, 0, backend);
	*reader = fds[0];
}

static size_t read_all(int fd, char *buf, size_t size)
{
	size_t at = 0;
	ssize_t n;

	while (at < size && (n = read(fd, buf + at, size - at)) > 0)
		at += n;
	close(fd);
	return at;
}

static void check_print(int reader, int step)
{
	char text[4000];

	assert_int_equal(read_all(reader, text, sizeof(text)), 3000);
	for (unsigned int i = 0; i < 3000; i++)
		assert_int_equal(text[i], 'a' + (i + step) % 26);
}

/* All that the guest printed before it powered off arrives. */
static void test_console_output(void **state)
{
	struct bench b;
	int reader;

	(void)state;
	bench_init(&b, guest_prints);
	bench_create(&b);
	open_pipe_console(&b, -1, &reader);
	bench_run(&b);
	bench_destroy(&b);
	check_print(reader, 0);
}

static enum vcpu_exit guest_echoes(struct vcpu *v, void *arg)
{
	struct bench *b = arg;
	uint8_t c;

	if (b->step++ == 0)	/* 115,200 baud, 8N1, FIFOs on as a driver does */
		for (unsigned int i = 0; i < 6; i++)
			pio_write(v->space, PORT_COM1 + (uint8_t[]){ 3, 0, 1, 3, 2, 4 }[i], 1,
				  (uint8_t[]){ 0x83, 1, 0, 0x03, 0x07, 0x0b }[i]);
	while (!(atomic_load(&v->attention) & ATTN_STOP)) {
		if (!(pio_read(v->space, PORT_COM1 + 5, 1) & 1)) {
			sched_yield();
			continue;
		}
		c = pio_read(v->space, PORT_COM1, 1);
		if (c == '.')
			return power_off(v);
		pio_write(v->space, PORT_COM1, 1, c);
	}
	return VCPU_EXIT_STOP;
}

/* Everything that was typed before and during the boot comes back, in order. */
static void test_console_input(void **state)
{
	char typed[500], echoed[600];
	struct bench b;
	int fds[2], reader;

	(void)state;
	for (unsigned int i = 0; i < sizeof(typed); i++)
		typed[i] = 'A' + i % 26;
	typed[sizeof(typed) - 1] = '.';
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], typed, sizeof(typed)), sizeof(typed));
	bench_init(&b, guest_echoes);
	bench_create(&b);
	open_pipe_console(&b, fds[0], &reader);
	bench_run(&b);
	bench_destroy(&b);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(read_all(reader, echoed, sizeof(echoed)), sizeof(typed) - 1);
	assert_memory_equal(echoed, typed, sizeof(typed) - 1);
}

/* --- several --- */

static void *run_thread(void *arg)
{
	struct bench *b = arg;

	b->seen = vm_run(b->vm, &b->result, &b->err) == 0;
	return NULL;
}

static void test_two_machines(void **state)
{
	struct bench b[2];
	pthread_t thread[2];
	int reader[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		bench_init(&b[i], guest_prints);
		b[i].step = i * 7;
		bench_create(&b[i]);
		open_pipe_console(&b[i], -1, &reader[i]);
	}
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, run_thread, &b[i]);
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		assert_true(b[i].seen);
		assert_int_equal(b[i].result.exit, VM_EXIT_POWEROFF);
		bench_destroy(&b[i]);
		check_print(reader[i], i * 7);
	}
}

static enum vcpu_exit guest_smp(struct vcpu *v, void *arg)
{
	struct bench *b = arg;

	if (v->index) {
		/* An application processor sleeps in wait-for-SIPI until it is called. */
		if (!(atomic_load(&v->attention) & ATTN_SIPI))
			return VCPU_EXIT_HALT;
		b->seen = v->sipi_vector;
		return power_off(v);
	}
	if (b->step++ == 0) {
		v->intc_ops->mmio_write(v->intc, 0x310, 4, 1 << 24);
		v->intc_ops->mmio_write(v->intc, 0x300, 4, 0x4600 | 0x9a);
	}
	return VCPU_EXIT_HALT;
}

static void test_second_processor(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b, guest_smp);
	b.config.vcpus = 2;
	bench_create(&b);
	assert_int_equal(vm_vcpu_count(b.vm), 2);
	assert_null(vm_vcpu(b.vm, 2));
	bench_run(&b);
	bench_destroy(&b);
	assert_int_equal(b.result.exit, VM_EXIT_POWEROFF);
	assert_int_equal(b.seen, 0x9a);
}

/* --- what creation refuses, and the map --- */

static void refuse(struct bench *b, int code)
{
	assert_int_equal(vm_create(&b->vm, &b->config, &b->err), code);
	assert_true(b->err.text[0] != '\0');
	assert_false(b->engine.alive);
	assert_int_equal(b->engine.vcpus, 0);
}

static void test_refused(void **state)
{
	static const uint64_t bad[] = { 0, 4096, (16 << 20) + 4096, 1ULL << 60 };
	struct bench b;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		bench_init(&b, guest_off);
		b.config.memory = bad[i];
		refuse(&b, -EINVAL);
	}
	bench_init(&b, guest_off);
	b.config.vcpus = VM_CPUS_MAX + 1;
	refuse(&b, -EINVAL);
	bench_init(&b, guest_off);
	b.engine.unusable = "no such thing here";
	refuse(&b, -EOPNOTSUPP);
	assert_string_equal(b.err.text, "no such thing here");
}

static void check_map(uint64_t memory, uint64_t ram)
{
	const struct e820_map *m;
	uint64_t end = 0, sum = 0;
	struct bench b;

	bench_init(&b, guest_off);
	b.config.memory = memory;
	bench_create(&b);
	m = vm_memory_map(b.vm);
	for (unsigned int i = 0; i < m->count; i++) {
		const struct e820_entry *r = &m->entry[i];

		assert_true(r->base >= end && r->size);
		end = r->base + r->size;
		if (r->type != E820_RAM)
			continue;
		sum += r->size;
		assert_non_null(gpa_to_hva(vm_space(b.vm), r->base, r->size));
	}
	assert_true(sum == ram);
	bench_destroy(&b);
}

static void test_memory_map(void **state)
{
	const uint64_t lost = (1 << 20) - LAYOUT_EBDA;	/* below 1 MiB */

	(void)state;
	check_map(1 << 20, (1 << 20) - lost);
	check_map(64 << 20, (64 << 20) - lost);
	check_map(LAYOUT_LOW_END, LAYOUT_LOW_END - lost);
	check_map(6ULL << 30, (6ULL << 30) - lost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_off),
		cmocka_unit_test(test_debug_exit),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_host_error),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_no_reboot),
		cmocka_unit_test(test_load_fails),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_timer_wakes),
		cmocka_unit_test(test_power_button),
		cmocka_unit_test(test_console_output),
		cmocka_unit_test(test_console_input),
		cmocka_unit_test(test_two_machines),
		cmocka_unit_test(test_second_processor),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_memory_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
