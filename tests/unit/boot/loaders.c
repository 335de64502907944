// SPDX-License-Identifier: Apache-2.0
/* The boot loaders on good images: what is planned where, and what the guest is told. */

#include "images.h"
#include "unit.h"

#include <stdlib.h>

#define IMAGE_MAX (256 * 1024)

struct fixture {
	uint8_t image[IMAGE_MAX];
	uint8_t initrd[5000];
	struct e820_map map;
	struct boot_request rq;
	struct boot_plan *plan;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->map = test_map(64);
	f->rq = (struct boot_request){ .kernel = { .name = "kernel", .data = f->image },
				       .cmdline = "a b=c", .rsdp = 0xe0000, .map = &f->map };
	memset(f->initrd, 0xdd, sizeof(f->initrd));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	boot_plan_free(f->plan);
	free(f);
	return 0;
}

static void with_initrd(struct fixture *f)
{
	f->rq.initrd = (struct boot_file){
		.name = "initrd", .data = f->initrd, .size = sizeof(f->initrd) };
}

static void prepare(struct fixture *f)
{
	f->err.text[0] = '\0';
	if (boot_prepare(&f->plan, &f->rq, &f->err))
		fail_msg("refused: %s", f->err.text);
}

static const struct boot_params *zero_page(struct fixture *f)
{
	const struct boot_piece *q = piece_of(f->plan, f->plan->rsi);

	assert_non_null(q);
	assert_int_equal(q->data_size, 4096);
	return (const struct boot_params *)q->data;
}

/* Every piece lies in RAM and none overlaps another. */
static void assert_pieces_sound(struct fixture *f)
{
	const struct boot_plan *p = f->plan;

	for (unsigned int i = 0; i < p->piece_count; i++) {
		const struct boot_piece *a = &p->piece[i];
		bool in_ram = false;

		assert_true(a->data_size <= a->size);
		for (unsigned int k = 0; k < f->map.count; k++) {
			const struct e820_entry *r = &f->map.entry[k];

			in_ram |= r->type == E820_RAM && a->base >= r->base &&
				  a->base + a->size <= r->base + r->size;
		}
		assert_true(in_ram);
		for (unsigned int j = 0; j < i; j++)
			assert_true(a->base >= p->piece[j].base + p->piece[j].size ||
				    p->piece[j].base >= a->base + a->size);
	}
}

static void test_bzimage(void **state)
{
	struct fixture *f = *state;
	const struct boot_params *zp;
	const struct boot_piece *kernel;

	f->rq.kernel.size = make_bzimage(f->image, 64 * 1024);
	with_initrd(f);
	prepare(f);
	assert_pieces_sound(f);
	assert_int_equal(f->plan->mode, ENTRY_LONG64);
	assert_int_equal(f->plan->rip, 16 * MIB + 0x200);
	kernel = piece_of(f->plan, 16 * MIB);
	assert_non_null(kernel);
	assert_int_equal(kernel->size, 8 * MIB);
	assert_int_equal(kernel->data_size, 64 * 1024);
	assert_ptr_equal(kernel->data, f->image + 5 * 512);
	zp = zero_page(f);
	assert_int_equal(zp->hdr.type_of_loader, 0xff);
	assert_int_equal(zp->hdr.loadflags & CAN_USE_HEAP, 0);
	assert_int_equal(zp->hdr.header, 0x53726448);
	assert_int_equal(zp->sentinel, 0);
	assert_int_equal(zp->acpi_rsdp_addr, 0xe0000);
	assert_string_equal((const char *)piece_of(f->plan, zp->hdr.cmd_line_ptr)->data, "a b=c");
}

static void test_bzimage_initrd_at_the_top(void **state)
{
	struct fixture *f = *state;
	const struct boot_params *zp;

	f->rq.kernel.size = make_bzimage(f->image, 4096);
	with_initrd(f);
	prepare(f);
	zp = zero_page(f);
	assert_int_equal(zp->hdr.ramdisk_size, 5000);
	assert_int_equal(zp->hdr.ramdisk_image, 64 * MIB - 8192);
	assert_ptr_equal(piece_of(f->plan, 64 * MIB - 8192)->data, f->initrd);
}

static void test_bzimage_initrd_below_its_limit(void **state)
{
	struct fixture *f = *state;

	f->rq.kernel.size = make_bzimage(f->image, 4096);
	bzimage_header(f->image)->initrd_addr_max = 40 * MIB - 1;
	with_initrd(f);
	prepare(f);
	assert_int_equal(zero_page(f)->hdr.ramdisk_image, 40 * MIB - 8192);
}

static void test_bzimage_e820(void **state)
{
	struct fixture *f = *state;
	const struct boot_params *zp;

	f->rq.kernel.size = make_bzimage(f->image, 4096);
	prepare(f);
	zp = zero_page(f);
	assert_int_equal(zp->e820_entries, 3);
	assert_int_equal(zp->e820_table[0].size, 0x9fc00);
	assert_int_equal(zp->e820_table[1].type, E820_RESERVED);
	assert_int_equal(zp->e820_table[2].addr, MIB);
	assert_int_equal(zp->e820_table[2].size, 63 * MIB);
}

static void test_bzimage_moves_when_memory_is_small(void **state)
{
	struct fixture *f = *state;

	f->map = test_map(16);
	f->rq.kernel.size = make_bzimage(f->image, 4096);
	prepare(f);
	assert_pieces_sound(f);
	assert_int_equal(f->plan->rip, 2 * MIB + 0x200);
}

static void test_bzimage_random_seed(void **state)
{
	struct fixture *f = *state;
	const struct setup_data *node;
	const struct boot_piece *q;

	f->rq.kernel.size = make_bzimage(f->image, 4096);
	prepare(f);
	q = piece_of(f->plan, zero_page(f)->hdr.setup_data);
	assert_non_null(q);
	node = (const struct setup_data *)q->data;
	assert_int_equal(node->type, SETUP_RNG_SEED);
	assert_int_equal(node->len, RNG_SEED_SIZE);
	assert_int_equal(f->plan->rng_seed, q->base + sizeof(*node));
}

/* The tables that the plan makes map every address below 4 GiB to itself. */
static void test_long_mode_tables(void **state)
{
	static const uint64_t addresses[] = { 0, 0x1234567, 0x40000000, 0xffffffff };
	struct fixture *f = *state;
	const uint64_t *t;

	f->rq.kernel.size = make_bzimage(f->image, 4096);
	prepare(f);
	t = (const uint64_t *)piece_of(f->plan, f->plan->page_tables)->data;
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		const uint64_t a = addresses[i];
		uint64_t table = (t[0] & ~0xfffULL) - f->plan->page_tables;
		uint64_t entry = t[table / 8 + (a >> 30)];

		assert_int_equal(entry & 3, 3);
		table = (entry & ~0xfffULL) - f->plan->page_tables;
		entry = t[table / 8 + (a >> 21 & 511)];
		assert_int_equal(entry & 0x83, 0x83);
		assert_int_equal(entry & ~0x1fffffULL, a & ~0x1fffffULL);
	}
}

static void test_vmlinux(void **state)
{
	struct fixture *f = *state;

	f->rq.kernel.size = make_elf64(f->image, 16 * MIB, 3000, 10000, false);
	prepare(f);
	assert_pieces_sound(f);
	assert_int_equal(f->plan->mode, ENTRY_LONG64);
	assert_int_equal(f->plan->rip, 16 * MIB + 0x10);
	assert_int_equal(piece_of(f->plan, 16 * MIB)->size, 10000);
	assert_true(piece_of(f->plan, 16 * MIB)->zero);
	assert_int_equal(zero_page(f)->hdr.header, 0x53726448);
}

static void test_pvh(void **state)
{
	struct fixture *f = *state;
	const uint32_t *si32;
	const uint64_t *si64;

	f->rq.kernel.size = make_elf64(f->image, MIB, 3000, 3000, true);
	with_initrd(f);
	prepare(f);
	assert_pieces_sound(f);
	assert_int_equal(f->plan->mode, ENTRY_FLAT32);
	assert_int_equal(f->plan->rip, MIB + 0x20);
	si32 = (const uint32_t *)piece_of(f->plan, f->plan->rbx)->data;
	si64 = (const uint64_t *)si32;
	assert_int_equal(si32[0], 0x336ec578);
	assert_int_equal(si32[1], 1);
	assert_int_equal(si32[3], 1);			/* modules */
	assert_int_equal(si64[4], 0xe0000);		/* RSDP */
	assert_string_equal((const char *)piece_of(f->plan, si64[3])->data, "a b=c");
	assert_int_equal(si32[12], 3);			/* memory map entries */
	si64 = (const uint64_t *)piece_of(f->plan, si64[2])->data;
	assert_int_equal(si64[0], 64 * MIB - 8192);
	assert_int_equal(si64[1], 5000);
}

static void test_multiboot_by_addresses(void **state)
{
	struct fixture *f = *state;
	const uint32_t *info;

	f->rq.kernel.size = make_multiboot(f->image, 0x10003, 8192);
	with_initrd(f);
	prepare(f);
	assert_pieces_sound(f);
	assert_int_equal(f->plan->mode, ENTRY_FLAT32);
	assert_int_equal(f->plan->rax, 0x2badb002);
	assert_int_equal(f->plan->rip, MIB + 0x60);
	assert_int_equal(piece_of(f->plan, MIB)->size, 8192 + 0x1000);
	assert_int_equal(piece_of(f->plan, MIB)->data_size, 8192);
	info = (const uint32_t *)piece_of(f->plan, f->plan->rbx)->data;
	assert_int_equal(info[0], 0x24d);
	assert_int_equal(info[1], 639);			/* KiB below 640 */
	assert_int_equal(info[2], 63 * 1024);		/* KiB above 1 MiB */
	assert_string_equal((const char *)piece_of(f->plan, info[4])->data, "a b=c");
	assert_int_equal(info[5], 1);			/* modules */
	assert_int_equal(info[11], 3 * 24);		/* bytes of the memory map */
}

/* Multiboot 1 in an ELF file: the header's addresses are absent, the segments count. */
static void test_multiboot_elf(void **state)
{
	static const uint32_t header[3] = { 0x1badb002, 0, -0x1badb002U };
	struct fixture *f = *state;

	f->rq.kernel.size = make_elf64(f->image, MIB, 3000, 3000, true);
	memcpy(f->image + ELF_CODE_AT + 8, header, sizeof(header));
	prepare(f);
	assert_string_equal(boot_plan_format(f->plan), "Multiboot 1");
	assert_int_equal(f->plan->rip, MIB + 0x10);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_bzimage),
		CASE(test_bzimage_initrd_at_the_top),
		CASE(test_bzimage_initrd_below_its_limit),
		CASE(test_bzimage_e820),
		CASE(test_bzimage_moves_when_memory_is_small),
		CASE(test_bzimage_random_seed),
		CASE(test_long_mode_tables),
		CASE(test_vmlinux),
		CASE(test_pvh),
		CASE(test_multiboot_by_addresses),
		CASE(test_multiboot_elf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
