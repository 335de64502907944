// SPDX-License-Identifier: Apache-2.0
/*
 * A machine without boot images, as firmware will find it: the processor starts in real mode
 * at 0xfffffff0, in a ROM.  A small one says so on COM1, copies itself to where real mode can
 * jump to, goes on there, then in protected mode, and ends through the debug-exit port.  Then
 * ROMs of random bytes, which may do anything but harm the process.
 */
#include "fake_char.h"
#include "unit.h"

#include "cpu/cpuid.h"
#include "engine/config.h"
#include "engine/engine.h"
#include "machine/vm.h"
#include "mem/space.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ROM_BASE	0xffff0000ULL
#define ROM_SIZE	0x10000
#define RANDOM_ROMS	30

/* The ROM's code is at its beginning, and the jump to it where the processor starts. */
extern const uint8_t rom_start[], rom_end[], rom_entry[], rom_entry_end[];
asm(".pushsection .rodata\n"
    "	.code16\n"
    "rom_start:\n"			/* CS is f000, but its base is still ffff0000 */
    "	mov	$0x3f8, %dx\n"
    "	mov	$'r', %al\n"
    "	out	%al, %dx\n"
    "	mov	$0xf000, %ax\n"		/* 64 KiB below 1 MiB, by this segment's prefix */
    "	mov	%ax, %es\n"
    "	xor	%si, %si\n"
    "	xor	%di, %di\n"
    "	mov	$0x8000, %cx\n"
    "	cld\n"
    "	rep movsw %cs:(%si), %es:(%di)\n"
    "	ljmp	$0xf000, $1f - rom_start\n"
    "1:	mov	$'f', %al\n"
    "	out	%al, %dx\n"
    "	lgdtl	%cs:rom_gdtr - rom_start\n"
    "	mov	%cr0, %eax\n"
    "	or	$1, %al\n"
    "	mov	%eax, %cr0\n"
    "	ljmpl	$8, $0xf0000 + 2f - rom_start\n"
    "	.code32\n"
    "2:	mov	$16, %eax\n"
    "	mov	%eax, %ds\n"
    "	mov	$'p', %al\n"
    "	out	%al, %dx\n"
    "	movzwl	0xfffffff0, %eax\n"	/* the ROM by a 32-bit address */
    "	movw	$0, 0xfffffff0\n"	/* which cannot be written */
    "	cmpw	0xfffffff0, %ax\n"
    "	jne	3f\n"
    "	mov	$0x15, %al\n"
    "	out	%al, $0xf4\n"
    "3:	hlt\n"
    "	jmp	3b\n"
    "	.balign	8\n"
    "rom_gdt:\n"
    "	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
    "rom_gdtr:\n"
    "	.word	23\n"
    "	.long	0xf0000 + rom_gdt - rom_start\n"
    "rom_end:\n"
    "	.code16\n"
    "rom_entry:\n"
    "	.byte	0xe9\n"			/* jmp to offset 0, from behind these bytes at fff3 */
    "	.word	0x000d\n"
    "rom_entry_end:\n"
    "	.code64\n"
    "	.popsection\n");

struct bench {
	struct engine_config engine;
	struct cpu_model model;
	struct vm *vm;
	struct fake_char com1;
	struct vm_result result;
	uint8_t *rom;
};

static void bench_init(struct bench *b, enum translator_choice translate)
{
	struct err e = { 0 };
	struct vm_config c = {
		.memory = 4 << 20, .model = &b->model, .engine = &engine_soft,
		.engine_config = &b->engine, .debug_exit = true, .no_reboot = true,
	};

	memset(b, 0, sizeof(*b));
	b->engine.translate = translate;
	assert_int_equal(cpu_model_init(&b->model, "vireo-v1", NULL), 0);
	if (vm_create(&b->vm, &c, &e))
		fail_msg("vm_create: %s", e.text);
	fake_char_init(&b->com1);
	vm_attach_serial(b->vm, 0, &b->com1.backend);
	assert_int_equal(gpa_space_add_rom(vm_space(b->vm), ROM_BASE, ROM_SIZE, &e), 0);
	b->rom = gpa_to_hva(vm_space(b->vm), ROM_BASE, ROM_SIZE);
	assert_non_null(b->rom);
}

static void bench_run(struct bench *b)
{
	struct err e = { 0 };

	if (vm_run(b->vm, &b->result, &e))
		fail_msg("vm_run: %s", e.text);
	vm_destroy(b->vm);
}

static void rom_runs(enum translator_choice translate)
{
	struct bench b;

	bench_init(&b, translate);
	memcpy(b.rom, rom_start, rom_end - rom_start);
	memcpy(b.rom + ROM_SIZE - 16, rom_entry, rom_entry_end - rom_entry);
	bench_run(&b);
	assert_int_equal(b.com1.out_len, 3);
	assert_memory_equal(b.com1.out, "rfp", 3);
	assert_int_equal(b.result.exit, VM_EXIT_DEBUG);
	assert_int_equal(b.result.status, 0x2b);
}

static void test_rom(void **state)
{
	(void)state;
	rom_runs(TRANSLATOR_OFF);
	rom_runs(TRANSLATOR_AUTO);
}

/* The end, if the guest does not find one. */
static void *stop_soon(void *arg)
{
	const struct timespec t = { .tv_nsec = 50000000 };

	nanosleep(&t, NULL);
	vm_stop(arg);
	return NULL;
}

static void run_shortly(struct bench *b)
{
	pthread_t thread;

	b->com1.room = SIZE_MAX;
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, b->vm), 0);
	assert_int_equal(vm_run(b->vm, &b->result, NULL), 0);
	pthread_join(thread, NULL);
	vm_destroy(b->vm);
	assert_int_not_equal(b->result.exit, VM_EXIT_ERROR);
}

static void test_random_rom(void **state)
{
	unsigned int seed = getenv("FUZZ_SEED") ? atoi(getenv("FUZZ_SEED")) : time(NULL);
	struct bench b;

	(void)state;
	print_message("FUZZ_SEED=%u\n", seed);
	for (unsigned int n = 0; n < RANDOM_ROMS; n++, seed++) {
		unsigned int r = seed;

		bench_init(&b, n & 1 ? TRANSLATOR_AUTO : TRANSLATOR_OFF);
		for (unsigned int i = 0; i < ROM_SIZE; i++)
			b.rom[i] = rand_r(&r) >> 8;
		run_shortly(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rom),
		cmocka_unit_test(test_random_rom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
