// SPDX-License-Identifier: Apache-2.0
/* Accesses to guest-virtual memory: RAM, ROM, devices, code pages, breakpoints, #AC. */

#include "guest_mem.h"
#include "unit.h"

#define GVA	0x7f1234567000ULL
#define PAGE	0x100000ULL
#define PWU	(PTE_P | PTE_W | PTE_U)
#define DEVICE	0xfe000000ULL
#define ROM	0xff000000ULL

struct access {
	uint64_t off, value;
	unsigned int size;
	bool write;
};

struct recorder {
	struct access log[64];
	unsigned int count;
};

static uint64_t recorder_read(void *dev, uint64_t off, unsigned int size)
{
	struct recorder *r = dev;

	r->log[r->count++ % 64] = (struct access){ .off = off, .size = size };
	return 0x1122334455667788 >> (off % 8 * 8);
}

static void recorder_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct recorder *r = dev;

	r->log[r->count++ % 64] = (struct access){ off, value, size, true };
}

static const struct io_ops recorder_ops = { .read = recorder_read, .write = recorder_write };

struct fixture {
	struct guest *g;
	struct recorder dev;
	gpa_t code_gpa;
	uint64_t code_len;
	unsigned int code_writes;
};

static void note_code_write(void *arg, void *writer, gpa_t gpa, uint64_t len)
{
	struct fixture *f = arg;

	assert_ptr_equal(writer, f->g->v);
	f->code_gpa = gpa;
	f->code_len = len;
	f->code_writes++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct io_region r = { .name = "recorder", .base = DEVICE, .size = 0x1000,
			       .ops = &recorder_ops, .dev = &f->dev };

	f->g = guest_create("vireo-v1");
	if (gpa_space_add_mmio(&f->g->space, &r, NULL) ||
	    gpa_space_add_rom(&f->g->space, ROM, 0x1000, NULL))
		abort();
	f->g->space.code_written = note_code_write;
	f->g->space.code_written_arg = f;
	guest_long_mode(f->g);
	pt_map(f->g, GVA, PAGE, 12, PWU);
	pt_map(f->g, GVA + 0x1000, PAGE + 0x1000, 12, PTE_P | PTE_U);
	pt_map(f->g, GVA + 0x3000, DEVICE, 12, PWU);
	pt_map(f->g, GVA + 0x4000, ROM, 12, PWU);
	pt_map(f->g, GVA + 0x5000, PAGE + 0x2000, 12, PWU);
	pt_map(f->g, GVA + 0x6000, PAGE + 0x8000, 12, PWU);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	guest_destroy(f->g);
	free(f);
	return 0;
}

static uint8_t *ram(struct fixture *f, gpa_t gpa)
{
	return gpa_to_hva(&f->g->space, gpa, 1);
}

static void test_fill_then_fast(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	uint64_t walks, value;

	assert_int_equal(mem_write64(v, GVA + 8, 0x0123456789abcdef), MEM_OK);
	walks = v->stats.page_walks;
	assert_int_equal(mem_read64(v, GVA + 8, &value), MEM_OK);
	assert_int_equal(value, 0x0123456789abcdef);
	assert_int_equal(mem_write8(v, GVA + 8, 0), MEM_OK);
	assert_int_equal(v->stats.page_walks, walks);
	assert_int_equal(ram(f, PAGE)[9], 0xcd);
	/* A page that was only read is clean: the first write must walk to set D. */
	assert_int_equal(mem_read64(v, GVA + 0x5000, &value), MEM_OK);
	assert_int_equal(*pt_entry64(f->g, GVA + 0x5000, 12) & PTE_D, 0);
	assert_int_equal(mem_write64(v, GVA + 0x5000, 1), MEM_OK);
	assert_true(*pt_entry64(f->g, GVA + 0x5000, 12) & PTE_D);
}

static void test_neighbours(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	gva_t base = 0x600000000000;
	uint64_t walks, value;

	for (int i = 0; i < 8; i++)
		pt_map(f->g, base + i * 4096, PAGE + i * 4096, 12,
		       PWU | PTE_A | (i % 2 ? PTE_D : 0));
	assert_int_equal(mem_read64(v, base, &value), MEM_OK);
	walks = v->stats.page_walks;
	for (int i = 1; i < 8; i++)
		assert_int_equal(mem_read64(v, base + i * 4096, &value), MEM_OK);
	assert_int_equal(mem_write64(v, base + 4096, 1), MEM_OK);
	assert_int_equal(v->stats.page_walks, walks);
	assert_int_equal(mem_write64(v, base + 8192, 1), MEM_OK);
	assert_int_equal(v->stats.page_walks, walks + 1);
	/* A neighbour without A is left alone. */
	pt_map(f->g, base + 0x8000, PAGE, 12, PWU);
	pt_map(f->g, base + 0x9000, PAGE, 12, PWU);
	assert_int_equal(mem_read64(v, base + 0x8000, &value), MEM_OK);
	assert_int_equal(*pt_entry64(f->g, base + 0x9000, 12) & PTE_A, 0);
	assert_null(tlb_lookup(v->view, base + 0x9000, 8, TLB_READ));
}

static void test_crossing_write_is_whole(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;

	memset(ram(f, PAGE + 0xff8), 0x55, 16);
	/* The second page is read-only. */
	assert_int_equal(mem_write64(v, GVA + 0xffc, 0), MEM_FAULT);
	assert_int_equal(v->fault.vector, EXC_PF);
	assert_int_equal(v->fault.error, PF_P | PF_W);
	assert_int_equal(v->fault.cr2, GVA + 0x1000);
	assert_int_equal(ram(f, PAGE + 0xffc)[0], 0x55);
	/* Two pages that are not neighbours in memory. */
	assert_int_equal(mem_write64(v, GVA + 0x5ffc, 0x8877665544332211), MEM_OK);
	assert_int_equal(ram(f, PAGE + 0x2fff)[0], 0x44);
	assert_int_equal(ram(f, PAGE + 0x8000)[0], 0x55);
	assert_int_equal(mem_probe_write(v, GVA + 0xffc, 8, 0), MEM_FAULT);
	assert_int_equal(mem_probe_write(v, GVA + 0x5ffc, 8, 0), MEM_OK);
}

static void test_bulk(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	static uint8_t out[65536], in[65536];
	gva_t base = 0x500000000000;

	for (int i = 0; i < 17; i++)
		pt_map(f->g, base + i * 4096, PAGE + (16 - i) * 4096, 12, PWU);
	for (unsigned int i = 0; i < sizeof(out); i++)
		out[i] = i * 7 + i / 256;
	assert_int_equal(mem_write(v, base + 1, out, sizeof(out), ACC_WRITE), MEM_OK);
	assert_int_equal(mem_read(v, base + 1, in, sizeof(in), ACC_READ), MEM_OK);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(ram(f, PAGE + 16 * 4096)[1], out[0]);
	*pt_entry64(f->g, base + 16 * 4096, 12) = 0;
	tlb_flush_all(v);
	out[0] ^= 1;
	assert_int_equal(mem_write(v, base + 1, out, sizeof(out), ACC_WRITE), MEM_FAULT);
	assert_int_equal(ram(f, PAGE + 16 * 4096)[1], in[0]);
}

static void assert_access(const struct access *a, uint64_t off, unsigned int size)
{
	assert_int_equal(a->off, off);
	assert_int_equal(a->size, size);
}

static void test_device_pieces(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	uint64_t value;
	uint8_t buf[24];

	assert_int_equal(mem_read32(v, GVA + 0x3004, (uint32_t *)&value), MEM_OK);
	assert_int_equal(f->dev.count, 1);
	assert_access(&f->dev.log[0], 4, 4);
	f->dev.count = 0;
	assert_int_equal(mem_read64(v, GVA + 0x3001, &value), MEM_OK);
	assert_int_equal(f->dev.count, 4);
	assert_access(&f->dev.log[0], 1, 1);
	assert_access(&f->dev.log[1], 2, 2);
	assert_access(&f->dev.log[2], 4, 4);
	assert_access(&f->dev.log[3], 8, 1);
	assert_int_equal(value, 0x8811223344556677);
	f->dev.count = 0;
	assert_int_equal(mem_write(v, GVA + 0x3010, buf, 24, ACC_WRITE), MEM_OK);
	assert_int_equal(f->dev.count, 3);
	assert_access(&f->dev.log[2], 0x20, 8);
	/* RAM and a device in one access: nothing reaches the device if RAM faults. */
	f->dev.count = 0;
	assert_int_equal(mem_write64(v, GVA + 0x2ffc, 0), MEM_FAULT);
	assert_int_equal(mem_write64(v, GVA + 0x3ffc, 0x1122334455667788), MEM_OK);
	assert_int_equal(f->dev.count, 1);
	assert_int_equal(f->dev.log[0].value, 0x55667788);
	assert_int_equal(v->stats.mmio, 1 + 4 + 3 + 1);
}

static void test_rom(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	struct mem_pin pin;
	uint64_t value;

	memset(ram(f, ROM), 0xc3, 16);
	assert_int_equal(mem_read64(v, GVA + 0x4000, &value), MEM_OK);
	assert_int_equal(mem_write64(v, GVA + 0x4000, 0), MEM_OK);
	assert_int_equal(ram(f, ROM)[0], 0xc3);
	assert_null(tlb_lookup(v->view, GVA + 0x4000, 8, TLB_WRITE));
	assert_non_null(tlb_lookup(v->view, GVA + 0x4000, 8, TLB_READ));
	assert_int_equal(mem_pin_write(v, GVA + 0x4000, 8, &pin), MEM_OK);
	assert_null(pin.hva);
}

static void test_code_page(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	struct mem_pin pin;
	void *hva;

	assert_int_equal(mem_write64(v, GVA, 1), MEM_OK);
	assert_non_null(tlb_lookup(v->view, GVA, 8, TLB_WRITE));
	tlb_protect_code_page(v, PAGE + 0x10);
	assert_null(tlb_lookup(v->view, GVA, 8, TLB_WRITE));
	assert_non_null(tlb_lookup(v->view, GVA, 8, TLB_READ));
	assert_int_equal(mem_write32(v, GVA + 0x20, 7), MEM_OK);
	assert_int_equal(f->code_writes, 1);
	assert_int_equal(f->code_gpa, PAGE + 0x20);
	assert_int_equal(f->code_len, 4);
	assert_int_equal(ram(f, PAGE)[0x20], 7);
	assert_null(tlb_lookup(v->view, GVA, 8, TLB_WRITE));
	assert_int_equal(mem_fill(v, GVA, 8, ACC_WRITE, &hva), MEM_OK);
	assert_null(hva);
	assert_int_equal(mem_pin_write(v, GVA, 8, &pin), MEM_OK);
	assert_ptr_equal(pin.hva, ram(f, PAGE));
	assert_true(pin.code);
	assert_int_equal(f->code_writes, 1);
	mem_unpin(v, &pin);
	assert_int_equal(f->code_writes, 2);
}

static void test_pin(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	struct mem_pin pin;

	assert_int_equal(mem_pin_write(v, GVA + 8, 8, &pin), MEM_OK);
	assert_ptr_equal(pin.hva, ram(f, PAGE + 8));
	assert_true(*pt_entry64(f->g, GVA, 12) & PTE_D);
	assert_int_equal(mem_pin_write(v, GVA + 0x3000, 8, &pin), MEM_OK);
	assert_null(pin.hva);
	assert_int_equal(mem_pin_write(v, GVA + 0x1000, 8, &pin), MEM_FAULT);
	assert_int_equal(mem_pin_write(v, GVA + 0xffc, 8, &pin), MEM_FAULT);
}

/* Two pages that are not side by side in RAM, in one operand. */
static void test_pin_across(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	struct mem_pin pin;

	pt_map(f->g, GVA + 0x10000, PAGE + 0x5000, 12, PWU);
	pt_map(f->g, GVA + 0x11000, PAGE, 12, PWU);
	for (unsigned int at = 0xff9; at < 0x1000; at++) {
		assert_int_equal(mem_pin_write(v, GVA + 0x10000 + at, 8, &pin), MEM_OK);
		assert_non_null(pin.hva);
		__atomic_store_n((uint64_t *)pin.hva, 0x1122334455667788, __ATOMIC_SEQ_CST);
		for (unsigned int i = 0; i < 8; i++)
			assert_int_equal(*ram(f, (at + i < 0x1000 ? PAGE + 0x5000 : PAGE - 0x1000) +
						 at + i), 0x88 - 0x11 * i);
	}
	/* The second page is a device. */
	pt_map(f->g, GVA + 0x11000, DEVICE, 12, PWU);
	tlb_flush_all(v);
	assert_int_equal(mem_pin_write(v, GVA + 0x10ffc, 8, &pin), MEM_OK);
	assert_null(pin.hva);
}

static void test_fetch(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	unsigned int got;
	uint8_t buf[15];

	memset(ram(f, PAGE + 0xff0), 0x90, 32);
	assert_int_equal(mem_fetch(v, GVA + 0xff8, buf, 15, &got), MEM_OK);
	assert_int_equal(got, 15);
	/* The next page is not there. */
	assert_int_equal(mem_fetch(v, GVA + 0x1ffd, buf, 15, &got), MEM_OK);
	assert_int_equal(got, 3);
	assert_int_equal(mem_fetch(v, GVA + 0x2000, buf, 15, &got), MEM_FAULT);
	assert_int_equal(v->fault.error, PF_I);
	assert_int_equal(v->fault.cr2, GVA + 0x2000);
	assert_int_equal(mem_fetch(v, GVA + 0x3000, buf, 15, &got), MEM_OK);
	assert_int_equal(got, 15);
	assert_int_equal(buf[0], 0x88);
	assert_int_equal(mem_fetch(v, 0x0000800000000000, buf, 15, &got), MEM_FAULT);
	assert_int_equal(v->fault.vector, EXC_GP);
}

static void test_data_breakpoint(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	uint64_t value;

	v->dr[0] = GVA + 0x100;
	v->dr[1] = GVA + 0x204;
	/* 0: write, 4 bytes; 1: read or write, 1 byte. */
	v->dr[7] = DR7_FIXED | 0x1 | 0x4 | 0xdULL << 16 | 0x3ULL << 20;
	tlb_flush_all(v);
	assert_int_equal(mem_write64(v, GVA + 0xf9, 0), MEM_OK);
	assert_int_equal(v->db_pending, 1);
	v->db_pending = 0;
	assert_int_equal(mem_write64(v, GVA + 0xf8, 0), MEM_OK);
	assert_int_equal(mem_write8(v, GVA + 0x104, 0), MEM_OK);
	assert_int_equal(mem_read64(v, GVA + 0x100, &value), MEM_OK);
	assert_int_equal(v->db_pending, 0);
	assert_int_equal(mem_read64(v, GVA + 0x200, &value), MEM_OK);
	assert_int_equal(v->db_pending, 2);
	assert_null(tlb_lookup(v->view, GVA, 8, TLB_READ));
	/* An access that faults hits nothing. */
	v->db_pending = 0;
	v->dr[0] = GVA + 0xffc;
	tlb_flush_all(v);
	assert_int_equal(mem_write64(v, GVA + 0xffc, 0), MEM_FAULT);
	assert_int_equal(v->db_pending, 0);
}

static void test_alignment_check(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	uint64_t value;
	uint16_t half;

	v->cr0 |= CR0_AM;
	v->rflags |= RFLAGS_AC;
	guest_set_cpl(f->g, 0);
	assert_int_equal(mem_read64(v, GVA + 1, &value), MEM_OK);
	guest_set_cpl(f->g, 3);
	assert_int_equal(mem_read64(v, GVA + 8, &value), MEM_OK);
	assert_int_equal(mem_read64(v, GVA + 4, &value), MEM_FAULT);
	assert_int_equal(v->fault.vector, EXC_AC);
	assert_true(v->fault.has_error);
	assert_int_equal(v->fault.error, 0);
	assert_int_equal(mem_read16(v, GVA + 3, &half), MEM_FAULT);
	assert_int_equal(mem_read16(v, GVA + 2, &half), MEM_OK);
	assert_int_equal(mem_write32(v, GVA + 2, 0), MEM_FAULT);
	assert_int_equal(mem_read(v, GVA + 1, &value, 8, ACC_READ | ACC_SUPER), MEM_OK);
	v->rflags &= ~RFLAGS_AC;
	vcpu_update_mode(v);
	assert_int_equal(mem_write32(v, GVA + 2, 0), MEM_OK);
}

static void test_wrap_at_4_gib(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	uint64_t value;

	guest_32bit_mode(f->g);
	*pt_entry32(f->g, 0xfffff000, 12) = PAGE | PWU;
	*pt_entry32(f->g, 0, 12) = (PAGE + 0x5000) | PWU;
	assert_int_equal(mem_write64(v, 0xfffffffc, 0x8877665544332211), MEM_OK);
	assert_int_equal(ram(f, PAGE + 0xfff)[0], 0x44);
	assert_int_equal(ram(f, PAGE + 0x5000)[0], 0x55);
	assert_int_equal(mem_read64(v, 0xfffffffc, &value), MEM_OK);
	assert_int_equal(value, 0x8877665544332211);
}

static void test_end_of_canonical_half(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	uint64_t value;

	pt_map(f->g, 0x7ffffffff000, PAGE, 12, PWU);
	assert_int_equal(mem_read64(v, 0x7ffffffffff8, &value), MEM_OK);
	assert_int_equal(mem_read64(v, 0x7ffffffffff9, &value), MEM_FAULT);
	assert_int_equal(v->fault.vector, EXC_GP);
	assert_int_equal(mem_write(v, 0x7ffffffffff9, &value, 8, ACC_WRITE | ACC_STACK), MEM_FAULT);
	assert_int_equal(v->fault.vector, EXC_SS);
	/* The same index as a page in use, but not its address. */
	assert_int_equal(mem_read64(v, 0x1007ffffffff000, &value), MEM_FAULT);
	assert_int_equal(v->fault.vector, EXC_GP);
}

int main(void)
{

	const struct CMUnitTest tests[] = {
		T(test_fill_then_fast), T(test_neighbours), T(test_crossing_write_is_whole),
		T(test_bulk), T(test_device_pieces), T(test_rom), T(test_code_page), T(test_pin),
		T(test_bulk), T(test_device_pieces), T(test_rom), T(test_code_page), T(test_pin_across),
		T(test_fetch), T(test_data_breakpoint), T(test_alignment_check),
		T(test_wrap_at_4_gib), T(test_end_of_canonical_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
