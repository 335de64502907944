// SPDX-License-Identifier: Apache-2.0
/*
 * The boot loaders on images that are wrong: each is refused with a sentence that says
 * why, and a storm of random damage neither crashes a loader nor makes it plan anything
 * outside guest memory or the files.
 */

#include "images.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>

#define IMAGE_MAX (32 * 1024)
#define FUZZ_RUNS 20000

struct fixture {
	uint8_t *image;		/* on the heap, exactly its size: sanitizers see overruns */
	uint64_t size;
	uint8_t initrd[5000];
	struct e820_map map;
	struct boot_request rq;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->image = malloc(IMAGE_MAX);
	f->map = test_map(64);
	f->rq = (struct boot_request){ .cmdline = "x", .map = &f->map };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	free(f->image);
	free(f);
	return 0;
}

/* Plans a copy of the first @size bytes; returns what boot_prepare() did. */
static int try(struct fixture *f, uint64_t size, struct boot_plan **plan, struct err *e)
{
	uint8_t *copy = malloc(size ? size : 1);
	int rc;

	memcpy(copy, f->image, size);
	f->rq.kernel = (struct boot_file){ .name = "kernel", .data = copy, .size = size };
	rc = boot_prepare(plan, &f->rq, e);
	free(copy);
	return rc;
}

static void assert_refused(struct fixture *f, int rc, const char *words)
{
	struct boot_plan *plan;
	struct err e = { 0 };

	assert_int_equal(try(f, f->size, &plan, &e), rc);
	assert_null(plan);
	if (!strstr(e.text, words))
		fail_msg("'%s' does not say '%s'", e.text, words);
	assert_null(strchr(e.text, '\n'));
}

static void test_not_a_kernel(void **state)
{
	struct fixture *f = *state;

	memset(f->image, 0, IMAGE_MAX);
	f->size = IMAGE_MAX;
	assert_refused(f, -ENOEXEC, "not a kernel");
	f->size = 1;
	assert_refused(f, -ENOEXEC, "not a kernel");
}

static void test_bzimage_truncated(void **state)
{
	struct fixture *f = *state;

	f->size = make_bzimage(f->image, 8192) - 100;
	assert_refused(f, -EINVAL, "truncated");
	f->size = 0x1f1 + sizeof(struct setup_header) + 1;
	assert_refused(f, -EINVAL, "truncated");
}

static void test_bzimage_headers(void **state)
{
	struct fixture *f = *state;
	struct setup_header *h = bzimage_header(f->image);

	f->size = make_bzimage(f->image, 8192);
	h->version = 0x0204;
	assert_refused(f, -EINVAL, "protocol 2.4");
	make_bzimage(f->image, 8192);
	h->loadflags = 0;
	assert_refused(f, -EINVAL, "zImage");
	make_bzimage(f->image, 8192);
	h->kernel_alignment = 3;
	assert_refused(f, -EINVAL, "alignment");
	make_bzimage(f->image, 8192);
	h->syssize = 1;
	assert_refused(f, -EINVAL, "damaged");
}

static void test_bzimage_does_not_fit(void **state)
{
	struct fixture *f = *state;

	f->size = make_bzimage(f->image, 8192);
	bzimage_header(f->image)->init_size = 0xfffffff0;
	assert_refused(f, -ENOMEM, "needs");
	make_bzimage(f->image, 8192);
	bzimage_header(f->image)->relocatable_kernel = 0;
	bzimage_header(f->image)->pref_address = UINT64_MAX - 4096;
	assert_refused(f, -ENOMEM, "needs");
}

static void test_initrd_too_large(void **state)
{
	struct fixture *f = *state;

	f->size = make_bzimage(f->image, 8192);
	f->rq.initrd = (struct boot_file){ .name = "initrd", .data = f->initrd, .size = 63 * MIB };
	assert_refused(f, -ENOMEM, "does not fit");
	bzimage_header(f->image)->initrd_addr_max = 0;
	f->rq.initrd.size = sizeof(f->initrd);
	assert_refused(f, -ENOMEM, "does not fit");
}

static void test_cmdline_too_long(void **state)
{
	struct fixture *f = *state;
	char line[3000];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	f->rq.cmdline = line;
	f->size = make_bzimage(f->image, 8192);
	assert_refused(f, -EINVAL, "2999 characters");
}

static void test_elf_wrong(void **state)
{
	struct fixture *f = *state;
	Elf64_Ehdr *eh = (Elf64_Ehdr *)f->image;
	Elf64_Phdr *ph = (Elf64_Phdr *)(eh + 1);

	f->size = make_elf64(f->image, MIB, 4096, 4096, false);
	eh->e_machine = EM_AARCH64;
	assert_refused(f, -EINVAL, "another processor");
	make_elf64(f->image, MIB, 4096, 4096, false);
	eh->e_type = ET_DYN;
	assert_refused(f, -EINVAL, "not a fixed-address executable");
	make_elf64(f->image, MIB, 4096, 4096, false);
	eh->e_phoff = UINT64_MAX - 8;
	assert_refused(f, -EINVAL, "program headers");
	make_elf64(f->image, MIB, 4096, 4096, false);
	ph->p_filesz = 4097;
	assert_refused(f, -EINVAL, "truncated");
	make_elf64(f->image, MIB, 4096, 4096, false);
	ph->p_memsz = 4095;
	assert_refused(f, -EINVAL, "damaged");
	make_elf64(f->image, MIB, 4096, 4096, false);
	ph->p_paddr = UINT64_MAX - 100;
	assert_refused(f, -EINVAL, "4 GiB");
	make_elf64(f->image, MIB, 4096, 4096, false);
	eh->e_entry = 0;
	assert_refused(f, -EINVAL, "entry point");
	f->size = make_elf64(f->image, 0x9f000, 4096, 4096, false);
	assert_refused(f, -EINVAL, "does not have free");
	f->size = 40;
	assert_refused(f, -EINVAL, "truncated");
}

static void test_elf_segments_overlap(void **state)
{
	struct fixture *f = *state;
	Elf64_Ehdr *eh = (Elf64_Ehdr *)f->image;
	Elf64_Phdr *ph = (Elf64_Phdr *)(eh + 1);

	f->size = make_elf64(f->image, MIB, 4096, 4096, false);
	eh->e_phnum = 2;
	ph[1] = ph[0];
	ph[1].p_paddr += 4095;
	assert_refused(f, -EINVAL, "does not have free");
}

static void test_multiboot_wrong(void **state)
{
	struct fixture *f = *state;
	uint32_t *h = (uint32_t *)(f->image + 0x40);

	f->size = make_multiboot(f->image, 0x10008, 8192);
	assert_refused(f, -EINVAL, "Multiboot features");
	make_multiboot(f->image, 0x3, 8192);
	assert_refused(f, -EINVAL, "no ELF");
	make_multiboot(f->image, 0x10003, 8192);
	h[3] = MIB + 0x10000;		/* header_addr */
	assert_refused(f, -EINVAL, "before the file");
	make_multiboot(f->image, 0x10003, 8192);
	h[5] = MIB + 8193;		/* load_end_addr */
	assert_refused(f, -EINVAL, "does not have");
	make_multiboot(f->image, 0x10003, 8192);
	h[6] = MIB + 1;			/* bss_end_addr */
	assert_refused(f, -EINVAL, "bss");
	make_multiboot(f->image, 0x10003, 8192);
	h[7] = 0;			/* entry_addr */
	assert_refused(f, -EINVAL, "entry point");
}

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void assert_plan_sound(const struct fixture *f, const struct boot_plan *p)
{
	for (unsigned int i = 0; i < p->piece_count; i++) {
		const struct boot_piece *q = &p->piece[i];
		bool in_ram = false;

		for (unsigned int k = 0; k < f->map.count; k++) {
			const struct e820_entry *r = &f->map.entry[k];

			in_ram |= r->type == E820_RAM && q->base >= r->base &&
				  q->size <= r->size && q->base - r->base <= r->size - q->size;
		}
		assert_true(in_ram);
		assert_true(q->data_size <= q->size);
	}
}

/* Reads every byte that the plan would write: the sanitizer watches. */
static uint64_t touch(const struct boot_plan *p)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < p->piece_count; i++)
		for (uint64_t k = 0; k < p->piece[i].data_size; k++)
			sum += p->piece[i].data[k];
	return sum;
}

static uint64_t make_any(uint8_t *buf, unsigned int kind)
{
	switch (kind) {
	case 0:
		return make_bzimage(buf, 8192);
	case 1:
		return make_elf64(buf, MIB, 4096, 8192, false);
	case 2:
		return make_elf64(buf, MIB, 4096, 8192, true);
	default:
		return make_multiboot(buf, 0x10003, 8192);
	}
}

static void test_random_damage(void **state)
{
	static const uint64_t spots[] = { 0x1f0, 0, 0x40, 0x200 };
	struct fixture *f = *state;
	uint64_t seed = 0x9e3779b97f4a7c15ULL, refused = 0, sum = 0;

	f->rq.initrd = (struct boot_file){
		.name = "initrd", .data = f->initrd, .size = sizeof(f->initrd) };
	for (unsigned int run = 0; run < FUZZ_RUNS; run++) {
		uint64_t size = make_any(f->image, run % 4);
		struct boot_plan *plan = NULL;
		struct err e = { 0 };
		uint8_t *copy;

		for (unsigned int n = next_random(&seed) % 8; n; n--) {
			const uint64_t r = next_random(&seed);
			const uint64_t at = spots[r % 4] + (r >> 8) % 160;

			f->image[at] = r & BIT(20) ? r >> 32 : (r & BIT(21) ? 0xff : 0);
		}
		if (next_random(&seed) % 4 == 0)
			size = next_random(&seed) % size;
		copy = malloc(size ? size : 1);
		memcpy(copy, f->image, size);
		f->rq.kernel = (struct boot_file){ .name = "kernel", .data = copy, .size = size };
		if (boot_prepare(&plan, &f->rq, &e)) {
			assert_true(e.text[0] != '\0');
			refused++;
		} else {
			assert_plan_sound(f, plan);
			sum += touch(plan);
			boot_plan_free(plan);
		}
		free(copy);
	}
	/* The damage must be neither harmless nor always fatal, or this tests little. */
	assert_in_range(refused, FUZZ_RUNS / 10, FUZZ_RUNS * 9 / 10);
	assert_true(sum > 0);
}

static void test_files(void **state)
{
	struct boot_file f;
	struct err e;

	(void)state;
	assert_int_equal(boot_file_read(&f, "/nonexistent/kernel", "kernel", &e), -ENOENT);
	assert_string_equal(e.text, "cannot open kernel '/nonexistent/kernel': No such file or directory");
	assert_int_equal(boot_file_read(&f, "/", "kernel", &e), -EINVAL);
	assert_int_equal(boot_file_read(&f, "/dev/null", "initrd", &e), -EINVAL);
	assert_string_equal(e.text, "initrd '/dev/null' is not a regular file");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_not_a_kernel),
		CASE(test_bzimage_truncated),
		CASE(test_bzimage_headers),
		CASE(test_bzimage_does_not_fit),
		CASE(test_initrd_too_large),
		CASE(test_cmdline_too_long),
		CASE(test_elf_wrong),
		CASE(test_elf_segments_overlap),
		CASE(test_multiboot_wrong),
		CASE(test_random_damage),
		CASE(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
