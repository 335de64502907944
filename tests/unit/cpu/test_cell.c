// SPDX-License-Identifier: Apache-2.0
/*
 * A cell runs user code with a vCPU's registers and gives them back as they are then, SIMD state
 * and bases of FS and GS included; whatever leaves the program stops it before it has an effect
 * on the host; what is not mapped any more is not reached; a program that does to the gate what it
 * can gets nowhere, and one that does not stop is ended.
 */
#include "cpu/cell_map.h"
#include "cpu/cell_priv.h"
#include "cpu/vcpu.h"
#include "unit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CODE	0x400000
#define DATA	0x7ffe00000000
#define RAM	(1 << 20)
#define SYS_uretprobe 335
#define SYS_uprobe 336

struct world {
	struct gpa_space space;
	struct vcpu *v;
	struct cell *c;
	uint8_t *ram;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_int_equal(gpa_space_init(&w->space, NULL), 0);
	assert_int_equal(gpa_space_add_ram(&w->space, 0, RAM, NULL), 0);
	w->ram = w->space.ram[0].hva;
	w->v = vcpu_alloc();
	w->v->space = &w->space;
	w->v->fpu_mask = 7;
	w->v->rflags = 0x202;
	*(uint16_t *)w->v->xsave = 0x37f;
	*(uint32_t *)(w->v->xsave + 24) = 0x1f80;
	w->c = cell_create(w->v);
	assert_non_null(w->c);
	assert_true(cell_map(w->c, CODE, w->ram, 4096, PROT_READ | PROT_EXEC));
	assert_true(cell_map(w->c, DATA, w->ram + 4096, 4096, PROT_READ | PROT_WRITE));
	w->v->rip = CODE;
	w->v->gpr[REG_RSP] = DATA + 0xf00;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	cell_destroy(w->c);
	vcpu_free(w->v);
	gpa_space_destroy(&w->space);
	free(w);
	return 0;
}

#define CODE_BYTES(w, ...) do { \
	static const uint8_t bytes_[] = { __VA_ARGS__ }; \
	memcpy((w)->ram, bytes_, sizeof(bytes_)); \
} while (0)

static void test_registers(void **state)
{
	struct world *w = *state;
	struct vcpu *v = w->v;

	/* push rax; add rax, rbx; mov rcx, fs:[0]; wrgsbase rdx; movaps xmm1, xmm0; std; syscall */
	CODE_BYTES(w, 0x50, 0x48, 0x01, 0xd8, 0x64, 0x48, 0x8b, 0x0c, 0x25, 0, 0, 0, 0,
		   0xf3, 0x48, 0x0f, 0xae, 0xda, 0x0f, 0x28, 0xc8, 0xfd, 0x0f, 0x05);
	for (unsigned int i = 0; i < 16; i++)
		if (i != REG_RSP)
			v->gpr[i] = 1000 + i;
	v->seg[SEG_FS].base = DATA + 64;
	*(uint64_t *)(w->ram + 4096 + 64) = 77;
	v->gpr[REG_RDX] = 0x123456789;
	memset(v->xsave + 160, 0x5a, 16);
	*(uint64_t *)(v->xsave + 512) = 3;
	assert_int_equal(cell_run(w->c, v), CELL_CALL);
	assert_int_equal(v->rip, CODE + 22);
	assert_int_equal(v->gpr[REG_RAX], 2003);
	assert_int_equal(v->gpr[REG_R15], 1015);
	assert_int_equal(v->gpr[REG_RSP], DATA + 0xef8);
	assert_int_equal(*(uint64_t *)(w->ram + 4096 + 0xef8), 1000);
	assert_int_equal(v->seg[SEG_GS].base, 0x123456789);
	assert_int_equal(v->seg[SEG_FS].base, DATA + 64);
	assert_memory_equal(v->xsave + 176, v->xsave + 160, 16);
	assert_true(v->rflags & RFLAGS_DF);
}

static void test_fault(void **state)
{
	struct world *w = *state;
	bool write, fetch;

	/* mov [rdi], eax; nop; mov [rdi], eax; jmp rdi */
	CODE_BYTES(w, 0x89, 0x07, 0x90, 0x89, 0x07, 0xff, 0xe7);
	w->v->gpr[REG_RDI] = 0x555555000000;
	assert_int_equal(cell_run(w->c, w->v), CELL_FAULT);
	assert_int_equal(cell_fault_address(w->c, &write, &fetch), 0x555555000000);
	assert_true(write && !fetch);
	assert_int_equal(w->v->rip, CODE);
	assert_true(cell_map(w->c, 0x555555000000, w->ram + 8192, 4096, PROT_READ));
	assert_int_equal(cell_run(w->c, w->v), CELL_FAULT);
	assert_true(cell_map(w->c, 0x555555000000, w->ram + 8192, 4096, PROT_READ | PROT_WRITE));
	assert_int_equal(cell_run(w->c, w->v), CELL_FAULT);
	assert_int_equal(cell_fault_address(w->c, &write, &fetch), 0x555555000000);
	assert_true(!write && fetch);
	assert_int_equal(w->v->rip, 0x555555000000);
	w->v->rip = CODE + 3;
	cell_unmap(w->c, 0x555555000000, 4096);
	assert_int_equal(cell_run(w->c, w->v), CELL_FAULT);
	assert_int_equal(w->v->rip, CODE + 3);
}

static void test_others(void **state)
{
	struct world *w = *state;
	static const struct { uint8_t code[4]; enum cell_stop stop; } c[] = {
		{ { 0xcc }, CELL_BREAK },		/* int3 */
		{ { 0x0f, 0x0b }, CELL_OTHER },		/* ud2 */
		{ { 0xf4 }, CELL_OTHER },		/* hlt */
		{ { 0xf7, 0xf1 }, CELL_OTHER },		/* div ecx */
		{ { 0xcd, 0x80 }, CELL_CALL },		/* int 0x80 */
		{ { 0xe4, 0x80 }, CELL_OTHER },		/* in al, 0x80 */
		{ { 0xcd, 0x21 }, CELL_OTHER },		/* int 0x21 */
	};

	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		memcpy(w->ram, c[i].code, 4);
		w->v->rip = CODE;
		w->v->gpr[REG_RCX] = 0;
		assert_int_equal(cell_run(w->c, w->v), c[i].stop);
		assert_int_equal(w->v->rip, CODE);
	}
}

/* Every system call is the guest's. */
static void test_calls(void **state)
{
	struct world *w = *state;

	CODE_BYTES(w, 0x0f, 0x05);
	for (unsigned int nr = 0; nr < 500; nr++) {
		w->v->rip = CODE;
		w->v->gpr[REG_RAX] = nr;
		w->v->gpr[REG_RDI] = CELL_TO_OWNER;
		w->v->gpr[REG_RSI] = CELL_STATE;
		w->v->gpr[REG_RDX] = 1;
		if (nr == SYS_uretprobe || nr == SYS_uprobe)
			continue;	/* the kernel keeps these two from filters, and makes signals of them */
		assert_int_equal(cell_run(w->c, w->v), CELL_CALL);
		assert_int_equal(w->v->rip, CODE);
		assert_int_equal(w->v->gpr[REG_RAX], nr);
	}
}

/* Where the host refuses a mapping, what was to be taken away behind it is not there for a program. */
static void test_refusal(void **state)
{
	struct world *w = *state;

	CODE_BYTES(w, 0x8b, 0x07, 0xf4);		/* mov eax, [rdi]; hlt */
	w->v->gpr[REG_RDI] = DATA;
	assert_int_equal(cell_run(w->c, w->v), CELL_OTHER);
	cell_map(w->c, 0x600000, w->ram, 4096, PROT_READ);
	w->c->gate->calls.call[w->c->gate->calls.count - 1].arg[4] = 1000;	/* no descriptor */
	cell_unmap(w->c, DATA, 4096);
	w->v->rip = CODE;
	for (int i = 0; i < 3; i++)
		assert_int_equal(cell_run(w->c, w->v), CELL_REFUSED);
	assert_int_equal(w->v->rip, CODE);
	assert_false(cell_alive(w->c));
}

static void *kick_later(void *arg)
{
	struct world *w = arg;

	usleep(20000);
	vcpu_attention(w->v, ATTN_KICK);
	cell_kick(w->c);
	return NULL;
}

static void test_kick(void **state)
{
	struct world *w = *state;
	pthread_t t;

	CODE_BYTES(w, 0xeb, 0xfe);
	for (int i = 0; i < 3; i++) {
		w->v->attention = 0;
		pthread_create(&t, NULL, kick_later, w);
		assert_int_equal(cell_run(w->c, w->v), CELL_KICKED);
		pthread_join(t, NULL);
	}
	assert_int_equal(cell_run(w->c, w->v), CELL_KICKED);	/* who came before is not forgotten */
	w->v->attention = 0;
}

struct kicker {
	struct world *w;
	_Atomic bool over;
};

static void *kick_always(void *arg)
{
	struct kicker *k = arg;

	while (!k->over) {
		usleep(1000);
		cell_kick(k->w->c);
	}
	return NULL;
}

/* A program that jumps to each byte of the gate stops or ends its cell; we live on. */
static void test_gate(void **state)
{
	struct world *w = *state;
	enum cell_stop stop;
	unsigned int dead = 0;
	struct kicker k = { .w = w };
	pthread_t t;

	for (unsigned int at = 0; at < 400; at++) {
		k.over = false;
		pthread_create(&t, NULL, kick_always, &k);
		w->v->rip = CELL_CODE + at;
		for (unsigned int i = 0; i < 16; i++)
			w->v->gpr[i] = at % 3 ? CELL_STATE : DATA + 0x800;
		if (at % 3 == 2) {	/* as a caller of what it may call would have them */
			w->v->gpr[REG_RAX] = SYS_write;
			w->v->gpr[REG_RDI] = CELL_TO_OWNER;
			w->v->gpr[REG_RSI] = CELL_STATE;
			w->v->gpr[REG_RDX] = 1;
		}
		stop = cell_run(w->c, w->v);
		k.over = true;
		pthread_join(t, NULL);
		assert_true(stop < CELL_STOPS);
		w->v->rflags = 0x202;
		assert_int_not_equal(stop, CELL_KILLED);
		if (stop != CELL_ENDED)
			continue;
		dead++;
		cell_destroy(w->c);
		w->c = cell_create(w->v);
		assert_non_null(w->c);
	}
	assert_true(dead < 400);
}

/* A program that blocks the signal that is to stop it has its cell ended. */
static void test_defiance(void **state)
{
	struct world *w = *state;
	struct cell_context *x = (struct cell_context *)(w->ram + 4096 + 0x100);
	unsigned int at = 0;
	struct kicker k = { .w = w };
	pthread_t t;

	CODE_BYTES(w, 0xeb, 0xfe);
	*x = w->c->pristine;
	x->rip = CODE;
	x->signals = ~0ULL;
	x->fp = 0;
	/* rt_sigreturn() in the gate: mov eax, 15; syscall */
	while (memcmp(&w->c->gate->code[at], (uint8_t[]){ 0xb8, 15, 0, 0, 0, 0x0f, 0x05 }, 7))
		at++;
	w->v->rip = CELL_CODE + at;
	w->v->gpr[REG_RSP] = DATA + 0x100;
	pthread_create(&t, NULL, kick_always, &k);
	assert_int_equal(cell_run(w->c, w->v), CELL_ENDED);
	k.over = true;
	pthread_join(t, NULL);
}

/* An instruction that tells of the host is found wherever it is, and nothing else is changed. */
static void test_search(void **state)
{
	static const uint8_t what[][3] = {
		{ 0x0f, 0xa2, 0x90 }, { 0x0f, 0x31, 0x90 }, { 0x0f, 0x01, 0xd0 }, { 0x0f, 0x01, 0xf9 },
		{ 0x0f, 0x03, 0xc0 }, { 0x0f, 0xc7, 0xf8 }, { 0x0f, 0xc7, 0x20 }, { 0x0f, 0xae, 0x20 },
	};
	uint8_t page[4096], copy[4096];

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(what); i++)
		for (unsigned int at = 0; at <= sizeof(page) - 3; at++) {
			memset(page, 0x90, sizeof(page));
			assert_int_equal(cell_code_look(page, page, false, copy), CELL_CODE_PLAIN);
			memcpy(page + at, what[i], 3);
			assert_int_equal(cell_code_look(page, NULL, false, copy), CELL_CODE_PATCHED);
			assert_int_equal(copy[at], 0xf4);
			copy[at] = what[i][0];
			assert_memory_equal(copy, page, sizeof(page));
		}
	/* mov eax, 0xa20f; in a place of each kind. */
	for (unsigned int at = 0; at < sizeof(page) - 5; at += 7) {
		memset(page, 0x90, sizeof(page));
		memcpy(page + at, (uint8_t[]){ 0xb8, 0x0f, 0xa2, 0, 0 }, 5);
		assert_int_equal(cell_code_look(page, NULL, false, copy), CELL_CODE_PLAIN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fault, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kick, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_defiance, setup, teardown),
		cmocka_unit_test(test_search),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
