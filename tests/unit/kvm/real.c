// SPDX-License-Identifier: Apache-2.0
/*
 * The KVM engine on the host's KVM, with guests of a few instructions: pages they write, writes
 * that come late, device accesses, an interrupt that has to wait, what KVM leaves to the
 * interpreter, a kick.
 */
#include "kvm_rig.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- devices --- */

static void test_posted_writes_keep_order(void **state)
{
	struct bench *b = bench_plain();

	(void)state;
	/* mov al,1; out 80h,al; inc ax; out 80h,al; mov dx,100h; in al,dx; out 80h,al; hlt */
	run(b, GUEST(0xb0, 1, 0xe6, 0x80, 0x40, 0xe6, 0x80, 0xba, 0, 1, 0xec, 0xe6, 0x80, 0xf4));
	assert_string_equal(b->order, "l1 l2 r0 l5a ");
	bench_destroy(b);
}

static void test_device_memory(void **state)
{
	struct bench *b = bench_plain();

	(void)state;
	/* mov ax,0a000h; mov ds,ax; mov word [4],1234h; mov al,[8]; hlt */
	run(b, GUEST(0xb8, 0, 0xa0, 0x8e, 0xd8, 0xc7, 6, 4, 0, 0x34, 0x12, 0xa0, 8, 0, 0xf4));
	assert_string_equal(b->order, "w1234 /2 r8 ");
	assert_int_equal(b->v->gpr[REG_RAX] & 0xff, 0x5a);
	assert_int_equal(b->v->stats.mmio, 2);
	bench_destroy(b);
}

static void test_string_ports(void **state)
{
	static const uint8_t data[] = { 1, 2, 3 };
	struct bench *b = bench_plain();

	(void)state;
	gpa_write(&b->space, 0x3000, data, sizeof(data));
	/* mov si,3000h; mov di,3010h; mov dx,100h; mov cx,3; cld; rep outsb; mov cx,2; rep insb; hlt */
	run(b, GUEST(0xbe, 0, 0x30, 0xbf, 0x10, 0x30, 0xba, 0, 1, 0xb9, 3, 0, 0xfc, 0xf3, 0x6e,
		     0xb9, 2, 0, 0xf3, 0x6c, 0xf4));
	assert_string_equal(b->order, "w1 /1 w2 /1 w3 /1 r0 r0 ");
	assert_memory_equal(gpa_to_hva(&b->space, 0x3010, 3), "\x5a\x5a\0", 3);
	bench_destroy(b);
}

static void test_rom_is_not_written(void **state)
{
	struct bench *b = bench_plain();

	(void)state;
	memset(gpa_to_hva(&b->space, ROM, 1), 0x77, 1);
	/* mov ax,0f000h; mov ds,ax; mov byte [0],1; mov al,[0]; hlt */
	run(b, GUEST(0xb8, 0, 0xf0, 0x8e, 0xd8, 0xc6, 6, 0, 0, 1, 0xa0, 0, 0, 0xf4));
	assert_int_equal(b->v->gpr[REG_RAX] & 0xff, 0x77);
	bench_destroy(b);
}

/* Reads one by one, in the middle of which a stop is wanted. */
static uint64_t counted_read(void *dev, uint64_t off, unsigned int size)
{
	struct bench *b = dev;

	(void)off;
	(void)size;
	if (!b->reads)
		vcpu_attention(b->v, ATTN_STOP);
	return b->reads++;
}

/* However many exits the instruction takes to its end, the stop waits and each counts once. */
static void test_stop_in_a_long_copy(void **state)
{
	static const struct io_ops io = { .read = counted_read };
	struct bench *b = bench_plain();
	const struct io_region r = { "counted", 0xa1000, 0x1000, &io, b };
	const uint8_t *copy;

	(void)state;
	assert_int_equal(gpa_space_add_mmio(&b->space, &r, NULL), 0);
	/* mov ax,0a100h; mov ds,ax; mov di,4000h; mov cx,1000; rep movsb; hlt */
	assert_int_equal(run(b, GUEST(0xb8, 0, 0xa1, 0x8e, 0xd8, 0xbf, 0, 0x40, 0xb9, 0xe8, 3, 0xf3, 0xa4,
				      0xf4)), VCPU_EXIT_STOP);
	atomic_fetch_and(&b->v->attention, ~(uint32_t)ATTN_STOP);
	assert_int_equal(engine_kvm.vcpu_run(b->engine, b->v), VCPU_EXIT_HALT);
	assert_int_equal(b->reads, 1000);
	copy = gpa_to_hva(&b->space, 0x4000, 1000);
	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(copy[i], i & 0xff);
	bench_destroy(b);
}

/* --- doorbells --- */

static uint64_t rung(struct bench *b, unsigned int which)
{
	eventfd_t times = 0;

	return eventfd_read(b->bell[which].fd, &times) ? 0 : times;
}

/* At one place, then at another; writes of a value that does not count reach the device. */
static void test_doorbells(void **state)
{
	struct bench *b = bench_plain();
	struct io_region r = { .name = "bells", .base = 0xa1000, .size = 0x1000, .ops = &bell_io,
			       .dev = b };

	(void)state;
	b->bell[0] = (struct io_doorbell){ .off = 0x10, .fd = eventfd(0, EFD_NONBLOCK) };
	b->bell[1] = (struct io_doorbell){ .off = 0x20, .size = 2, .match = true, .value = 7,
					   .fd = eventfd(0, EFD_NONBLOCK) };
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(gpa_space_add_mmio(&b->space, &r, NULL), 0);
		b->order[0] = 0;
		/* mov ax,0a100h (0a200h); mov ds,ax; mov [10h],al; mov [10h],ax; mov ax,7; mov [20h],ax;
		   inc ax; mov [20h],ax; hlt */
		run(b, GUEST(0xb8, 0, r.base >> 12 & 0xff, 0x8e, 0xd8, 0xa2, 0x10, 0, 0xa3, 0x10, 0,
			     0xb8, 7, 0, 0xa3, 0x20, 0, 0x40, 0xa3, 0x20, 0, 0xf4));
		assert_int_equal(rung(b, 0), 2);
		assert_int_equal(rung(b, 1), 1);
		assert_string_equal(b->order, "w8 /2 ");
		gpa_space_remove_mmio(&b->space, r.base);
		r.base ^= 0x3000;	/* a1000, a2000, a1000 */
	}
	close(b->bell[0].fd);
	close(b->bell[1].fd);
	bench_destroy(b);
}

/* --- written pages --- */

static void tell(void *arg, gpa_t gpa, uint64_t len)
{
	struct bench *b = arg;

	for (; len && b->told_count < ARRAY_SIZE(b->told); len -= GUEST_PAGE_SIZE, gpa += GUEST_PAGE_SIZE)
		b->told[b->told_count++] = gpa;
}

static bool was_told(struct bench *b, gpa_t page)
{
	for (unsigned int i = 0; i < b->told_count; i++)
		if (b->told[i] == page)
			return true;
	return false;
}

static void collect(struct bench *b)
{
	struct err e;

	b->told_count = 0;
	if (engine_kvm.dirty_collect(b->engine, tell, b, &e))
		fail_msg("%s", e.text);
}

static void written_pages(bool ring)
{
	struct bench *b = bench_create((struct engine_config){ .dirty_ring = ring,
							       .kvm_apics = KVM_APICS_MACHINE });
	struct err e;

	assert_int_equal(engine_kvm.dirty_start(b->engine, &e), 0);
	/* mov [3000h],al; mov [5000h],al; hlt */
	run(b, GUEST(0xa2, 0, 0x30, 0xa2, 0, 0x50, 0xf4));
	collect(b);
	assert_true(was_told(b, 0x3000) && was_told(b, 0x5000));
	assert_false(was_told(b, 0x4000) || was_told(b, 0x9000));
	collect(b);
	assert_int_equal(b->told_count, 0);
	/* again after it was told: mov [5000h],al; hlt */
	run(b, GUEST(0xa2, 0, 0x50, 0xf4));
	collect(b);
	assert_true(was_told(b, 0x5000));
	assert_false(was_told(b, 0x3000));
	engine_kvm.dirty_stop(b->engine);
	assert_int_equal(engine_kvm.dirty_start(b->engine, &e), 0);
	collect(b);
	assert_int_equal(b->told_count, 0);
	bench_destroy(b);
}

static void test_dirty_bitmap(void **state)
{
	(void)state;
	written_pages(false);
}

static void test_dirty_ring(void **state)
{
	(void)state;
	written_pages(true);
}

/* --- interrupts --- */

static void set_vector(struct bench *b, unsigned int vector)
{
	const uint32_t entry = HANDLER;

	gpa_write(&b->space, vector * 4, &entry, 4);
	gpa_write(&b->space, HANDLER, "\xb1\x2a\xcf", 3);	/* mov cl,2ah; iret */
}

/* Pending from the start, taken once IF is set. */
static void test_interrupt_waits(void **state)
{
	struct bench *b = bench_plain();

	(void)state;
	set_vector(b, 0x33);
	b->vector = 0x33;
	vcpu_attention(b->v, ATTN_INTR);
	/* xor cx,cx; mov [3000h],cl; sti; again: test cl,cl; jz again; cli; hlt */
	run(b, GUEST(0x31, 0xc9, 0x88, 0x0e, 0, 0x30, 0xfb, 0x84, 0xc9, 0x74, 0xfc, 0xfa, 0xf4));
	assert_int_equal(b->v->gpr[REG_RCX] & 0xff, 0x2a);
	assert_int_equal(b->vector, -1);
	bench_destroy(b);
}

/* Comes while the processor is halted: run again, it goes on behind the HLT. */
static void test_interrupt_ends_halt(void **state)
{
	struct bench *b = bench_plain();

	(void)state;
	set_vector(b, 0x33);
	/* sti; hlt; mov [3000h],cl; cli; hlt */
	assert_int_equal(run(b, GUEST(0xfb, 0xf4, 0x88, 0x0e, 0, 0x30, 0xfa, 0xf4)), VCPU_EXIT_HALT);
	assert_int_equal(b->v->rip, CODE + 2);
	b->vector = 0x33;
	vcpu_attention(b->v, ATTN_INTR);
	assert_int_equal(engine_kvm.vcpu_run(b->engine, b->v), VCPU_EXIT_HALT);
	assert_int_equal(b->v->rip, CODE + 8);
	assert_int_equal(*(uint8_t *)gpa_to_hva(&b->space, 0x3000, 1), 0x2a);
	bench_destroy(b);
}

static void test_nmi(void **state)
{
	struct bench *b = bench_plain();

	(void)state;
	set_vector(b, 2);
	vcpu_attention(b->v, ATTN_NMI);
	/* again: test cl,cl; jz again; hlt */
	run(b, GUEST(0x84, 0xc9, 0x74, 0xfc, 0xf4));
	assert_int_equal(b->v->gpr[REG_RCX] & 0xff, 0x2a);
	assert_false(b->v->nmi_blocked);
	bench_destroy(b);
}

/* --- leaving --- */

static void *stop_later(void *arg)
{
	struct bench *b = arg;

	usleep(20000);
	vcpu_attention(b->v, ATTN_STOP);
	engine_kvm.vcpu_kick(b->engine, b->v);
	return NULL;
}

static void test_kick(void **state)
{
	struct bench *b = bench_plain();
	pthread_t thread;

	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(pthread_create(&thread, NULL, stop_later, b), 0);
		assert_int_equal(run(b, GUEST(0x40, 0xeb, 0xfd)), VCPU_EXIT_STOP);	/* inc ax; jmp */
		pthread_join(thread, NULL);
		assert_in_range(b->v->rip, CODE, CODE + 2);
	}
	bench_destroy(b);
}

static void test_triple_fault(void **state)
{
	struct bench *b = bench_plain();

	(void)state;
	/* lidt [3000h], which is a limit of 0; CR0.PE; int3 */
	run(b, GUEST(0x0f, 0x01, 0x1e, 0, 0x30, 0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0, 0xcc));
	assert_true(b->v->shutdown);
	bench_destroy(b);
}

/* The state that comes back is what went in, but for what the instruction does. */
static void test_state_round_trip(void **state)
{
	struct bench *b = bench_plain();
	struct vcpu *v = b->v;
	uint8_t xsave[XSAVE_AREA_SIZE];

	(void)state;
	gpa_write(&b->space, CODE, "\xf4", 1);
	vcpu_reset(v, false);
	v->seg[SEG_CS].sel = 0;
	v->seg[SEG_CS].base = 0;
	v->rip = CODE;
	for (unsigned int i = 0; i < 16; i++)
		v->gpr[i] = 0x0101010101010101ULL * i;
	for (unsigned int i = 160; i < 160 + 256; i++)
		v->xsave[i] = i * 7;	/* XMM0-15 */
	v->lstar = 0xffffffff81000000ULL;
	v->star = 0x23001000000000ULL;
	v->kernel_gs_base = 0xffff888000000000ULL;
	v->sysenter_eip = 0xffffffff81001000ULL;
	v->dr[0] = 0x1234;
	v->cr2 = 0x5678;
	v->nmi_blocked = true;
	b->tpr = 0x37;
	memcpy(xsave, v->xsave, sizeof(xsave));
	assert_int_equal(engine_kvm.vcpu_run(b->engine, v), VCPU_EXIT_HALT);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(v->gpr[i], 0x0101010101010101ULL * i);
	assert_memory_equal(v->xsave + 160, xsave + 160, 256);
	assert_int_equal(v->rip, CODE + 1);
	assert_int_equal(v->lstar, 0xffffffff81000000ULL);
	assert_int_equal(v->star, 0x23001000000000ULL);
	assert_int_equal(v->kernel_gs_base, 0xffff888000000000ULL);
	assert_int_equal(v->sysenter_eip, 0xffffffff81001000ULL);
	assert_int_equal(v->dr[0], 0x1234);
	assert_int_equal(v->cr2, 0x5678);
	assert_true(v->nmi_blocked);
	assert_int_equal(b->tpr, 0x37);
	bench_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_posted_writes_keep_order), cmocka_unit_test(test_device_memory),
		cmocka_unit_test(test_string_ports), cmocka_unit_test(test_doorbells),
		cmocka_unit_test(test_rom_is_not_written), cmocka_unit_test(test_stop_in_a_long_copy),
		cmocka_unit_test(test_dirty_bitmap), cmocka_unit_test(test_dirty_ring),
		cmocka_unit_test(test_interrupt_waits), cmocka_unit_test(test_interrupt_ends_halt),
		cmocka_unit_test(test_nmi), cmocka_unit_test(test_kick),
		cmocka_unit_test(test_triple_fault), cmocka_unit_test(test_state_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
