// SPDX-License-Identifier: Apache-2.0
/*
 * Entering a boot plan: what stands in guest memory, the processor's state against the
 * protocols' words, and that entering again is a fresh boot.
 */

#include "guest_mem.h"
#include "images.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define IMAGE_MAX (64 * 1024)

struct fixture {
	struct guest *g;
	uint8_t image[IMAGE_MAX];
	struct e820_map map;
	struct boot_request rq;
	struct boot_plan *plan;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->g = guest_create("vireo-v1");
	f->map = test_map(GUEST_RAM / MIB);
	f->rq = (struct boot_request){ .kernel = { .name = "kernel", .data = f->image }, .map = &f->map };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	boot_plan_free(f->plan);
	guest_destroy(f->g);
	free(f);
	return 0;
}

static void enter(struct fixture *f)
{
	struct err e;

	if (!f->plan && boot_prepare(&f->plan, &f->rq, &e))
		fail_msg("refused: %s", e.text);
	vcpu_reset(f->g->v, false);
	if (boot_enter(f->plan, &f->g->space, f->g->v, &e))
		fail_msg("not entered: %s", e.text);
}

static void test_linux64(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	struct boot_params zp;
	uint8_t code[4];

	f->rq.kernel.size = make_bzimage(f->image, 32768);
	enter(f);
	assert_true(in_long_mode(v));
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->code_size, CODE_64);
	assert_int_equal(v->rflags & RFLAGS_IF, 0);
	assert_int_equal(v->seg[SEG_CS].sel, 0x10);
	assert_int_equal(v->seg[SEG_DS].sel, 0x18);
	assert_int_equal(v->seg[SEG_SS].sel, 0x18);
	assert_int_equal(v->rip & 0xfffff, 0x200);
	/* Instructions and data through the plan's page tables. */
	assert_int_equal(mem_read(v, v->rip, code, sizeof(code), ACC_FETCH), MEM_OK);
	assert_memory_equal(code, f->image + 5 * 512 + 0x200, sizeof(code));
	assert_int_equal(mem_read(v, v->gpr[REG_RSI], &zp, sizeof(zp), ACC_READ), MEM_OK);
	assert_int_equal(zp.hdr.header, 0x53726448);
	assert_int_equal(zp.e820_entries, 3);
}

static void test_linux32(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	struct boot_params zp;
	uint8_t code[4];

	f->rq.kernel.size = make_bzimage(f->image, 32768);
	bzimage_header(f->image)->xloadflags = 0;
	enter(f);
	assert_non_null(strstr(boot_plan_format(f->plan), "32-bit"));
	assert_int_equal(v->cr0 & (CR0_PE | CR0_PG), CR0_PE);
	assert_int_equal(v->efer, 0);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->code_size, CODE_32);
	assert_int_equal(v->rflags & RFLAGS_IF, 0);
	assert_int_equal(v->seg[SEG_CS].sel, 0x10);
	assert_int_equal(v->seg[SEG_DS].sel, 0x18);
	assert_int_equal(v->gpr[REG_RBP] | v->gpr[REG_RDI] | v->gpr[REG_RBX], 0);
	/* From its first byte on. */
	assert_int_equal(v->rip & 0xfffff, 0);
	assert_int_equal(mem_read(v, v->rip, code, sizeof(code), ACC_FETCH), MEM_OK);
	assert_memory_equal(code, f->image + 5 * 512, sizeof(code));
	assert_int_equal(mem_read(v, v->gpr[REG_RSI], &zp, sizeof(zp), ACC_READ), MEM_OK);
	assert_int_equal(zp.hdr.header, 0x53726448);
	assert_int_equal(zp.e820_entries, 3);
}

/* The descriptors in memory say what the hidden parts say. */
static void gdt_agrees(struct fixture *f, uint16_t xloadflags)
{
	struct vcpu *v = f->g->v;

	f->rq.kernel.size = make_bzimage(f->image, 4096);
	bzimage_header(f->image)->xloadflags = xloadflags;
	enter(f);
	assert_int_equal(v->gdtr.limit, 31);
	for (unsigned int s = SEG_ES; s <= SEG_GS; s++) {
		uint64_t d;

		assert_int_equal(mem_read64(v, v->gdtr.base + v->seg[s].sel, &d), MEM_OK);
		assert_int_equal(d >> 40 & 0xf0ff, v->seg[s].attr);
		assert_int_equal(v->seg[s].limit, UINT32_MAX);
		assert_int_equal(v->seg[s].base, 0);
	}
}

static void test_linux64_gdt(void **state)
{
	gdt_agrees(*state, XLF_KERNEL_64);
}

static void test_linux32_gdt(void **state)
{
	gdt_agrees(*state, 0);
}

static void test_pvh(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;
	uint32_t magic;

	f->rq.kernel.size = make_elf64(f->image, MIB, 3000, 3000, true);
	enter(f);
	assert_int_equal(v->cr0 & (CR0_PE | CR0_PG), CR0_PE);
	assert_int_equal(v->cr4, 0);
	assert_int_equal(v->efer, 0);
	assert_int_equal(v->code_size, CODE_32);
	assert_int_equal(v->rflags, RFLAGS_FIXED);
	assert_int_equal(v->rip, MIB + 0x20);
	assert_int_equal(v->tr.limit, 0x67);
	assert_int_equal(mem_read32(v, v->gpr[REG_RBX], &magic), MEM_OK);
	assert_int_equal(magic, 0x336ec578);
}

static void test_multiboot(void **state)
{
	struct fixture *f = *state;
	struct vcpu *v = f->g->v;

	f->rq.kernel.size = make_multiboot(f->image, 0x10003, 8192);
	enter(f);
	assert_int_equal(v->gpr[REG_RAX], 0x2badb002);
	assert_int_equal(v->cr0 & (CR0_PE | CR0_PG), CR0_PE);
	assert_int_equal(v->seg[SEG_CS].limit, UINT32_MAX);
	assert_int_equal(v->seg[SEG_SS].attr & SEG_DB, SEG_DB);
}

/* bss is cleared and the image written anew, whatever the last run left there. */
static void test_again(void **state)
{
	struct fixture *f = *state;
	uint8_t *ram;

	f->rq.kernel.size = make_elf64(f->image, MIB, 3000, 200000, false);
	enter(f);
	ram = gpa_to_hva(&f->g->space, MIB, 200000);
	memset(ram, 0x55, 200000);
	f->g->v->gpr[REG_RDI] = 1;
	enter(f);
	assert_memory_equal(ram, f->image + ELF_CODE_AT, 3000);
	for (unsigned int i = 3000; i < 200000; i++)
		assert_int_equal(ram[i], 0);
	assert_int_equal(f->g->v->gpr[REG_RDI], 0);
}

static void test_seed_is_fresh(void **state)
{
	uint8_t first[RNG_SEED_SIZE], second[RNG_SEED_SIZE];
	struct fixture *f = *state;

	f->rq.kernel.size = make_bzimage(f->image, 4096);
	enter(f);
	gpa_read(&f->g->space, f->plan->rng_seed, first, sizeof(first));
	enter(f);
	gpa_read(&f->g->space, f->plan->rng_seed, second, sizeof(second));
	assert_memory_not_equal(first, second, sizeof(first));
}

/* A file of @size bytes of @data, open for booting and without a name in any directory. */
static int file_of(struct boot_file *f, const void *data, size_t size)
{
	char path[] = "/tmp/vireo-boot-XXXXXX";
	struct err e;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	assert_int_equal(boot_file_open(f, path, "image", &e), 0);
	unlink(path);
	f->name = "image";
	return fd;
}

/* Of open files nothing is kept in memory; a reset finds them as they are then. */
static void test_open_files(void **state)
{
	struct fixture *f = *state;
	const size_t size = make_bzimage(f->image, 32768), initrd_size = 200000;
	uint8_t *initrd = calloc(2, initrd_size), code[64];
	struct boot_file *k = &f->rq.kernel;
	const struct boot_piece *q;
	int fd[2];
	struct err e;

	for (size_t i = 0; i < initrd_size; i++)
		initrd[i] = i * 7 + (i >> 8);
	fd[0] = file_of(k, f->image, size);
	fd[1] = file_of(&f->rq.initrd, initrd, initrd_size);
	assert_int_equal(boot_file_load(k, "kernel", &e), 0);
	assert_null(f->rq.initrd.data);
	assert_int_equal(boot_prepare(&f->plan, &f->rq, &e), 0);
	boot_file_unload(k);
	for (int round = 0; round < 2; round++) {
		enter(f);
		gpa_read(&f->g->space, f->g->v->rip, code, sizeof(code));
		assert_memory_equal(code, f->image + 5 * 512 + 0x200, sizeof(code));
		q = &f->plan->piece[0];
		while (q->data_size != initrd_size)
			q++;
		gpa_read(&f->g->space, q->base, initrd + initrd_size, initrd_size);
		assert_memory_equal(initrd, initrd + initrd_size, initrd_size);
		initrd[initrd_size - 1] ^= 0xff;	/* for the second round */
		assert_int_equal(pwrite(fd[1], initrd, initrd_size, 0), initrd_size);
	}
	assert_int_equal(ftruncate(fd[1], initrd_size / 2), 0);
	assert_int_equal(boot_enter(f->plan, &f->g->space, f->g->v, &e), -EIO);
	assert_string_equal(e.text, "'image' has become shorter since the VM was started");
	boot_file_free(k);
	boot_file_free(&f->rq.initrd);
	close(fd[0]);
	close(fd[1]);
	free(initrd);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_linux64),
		CASE(test_linux64_gdt),
		CASE(test_linux32),
		CASE(test_linux32_gdt),
		CASE(test_pvh),
		CASE(test_multiboot),
		CASE(test_again),
		CASE(test_seed_is_fresh),
		CASE(test_open_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
