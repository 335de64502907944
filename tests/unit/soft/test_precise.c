// SPDX-License-Identifier: Apache-2.0
/*
 * Precision: what must happen between two instructions happens there in translated code too.
 * Each program runs on an interpreter and on a translator that translates at once; what it
 * computed, logged and left in the registers must be the same, and what is expected.
 *
 * Traps log the address they came from: log_trap() puts such a handler at a vector.
 */
#include "soft_rig.h"
#include "unit.h"

#include <pthread.h>
#include <unistd.h>

#define HLT		0xf4
#define LOG_AT		0x30000	/* where the next entry goes, then the entries */
#define LOG_ROOM	1000
#define TRAPS		0x34000	/* logging handlers, 64 bytes each */
#define USER_STACK	0x50000
#define TSS_AT		0x38000
#define UPPER		0xffffffff80000000ULL
#define VECTOR		30	/* of the interrupt that tests send */

struct both {
	struct rig *rig[2];	/* interpreted, translated */
	int pending;		/* interrupts that wait, atomically */
};

static struct rig *make(enum translator_choice translate)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = translate, .translate_at = 1, .cache_bytes = 1 << 20 });
	uint64_t *gdt = (uint64_t *)(r->ram + RIG_GDT);

	gdt[3] = 0x00cff3000000ffffULL;		/* user data, code */
	gdt[4] = 0x0020fb0000000000ULL;
	r->v->gdtr.limit = 5 * 8 - 1;
	r->v->tr = (struct segment){ .sel = 0x28, .attr = 0x8b, .limit = 103, .base = TSS_AT };
	memcpy(r->ram + TSS_AT + 4, &(uint64_t){ RIG_STACK }, 8);
	*(uint64_t *)(r->ram + LOG_AT) = LOG_AT + 8;
	return r;
}

static int setup(void **state)
{
	struct both *b = calloc(1, sizeof(*b));

	b->rig[0] = make(TRANSLATOR_OFF);
	b->rig[1] = make(TRANSLATOR_ON);
	*state = b;
	alarm(60);
	return 0;
}

static int teardown(void **state)
{
	struct both *b = *state;

	alarm(0);
	rig_destroy(b->rig[0]);
	rig_destroy(b->rig[1]);
	free(b);
	return 0;
}

/* A handler that logs the address that it returns to, sets @flag in the flags there. */
static void log_trap(struct rig *r, unsigned int vector, uint32_t flag)
{
	uint64_t at = TRAPS + 64 * vector, *idt = (uint64_t *)(r->ram + RIG_IDT);

	/*
	 * push rax; push rdi; pushfq; mov rdi, [LOG_AT]; mov rax, [rsp+24]; mov [rdi], rax;
	 * add qword [LOG_AT], 8; popfq; or dword [rsp+32], flag; pop rdi; pop rax; iretq
	 */
	PUT(r, at, 0x50, 0x57, 0x9c, 0x48, 0x8b, 0x3c, 0x25, LE32(LOG_AT),
	    0x48, 0x8b, 0x44, 0x24, 24, 0x48, 0x89, 0x07,
	    0x48, 0x83, 0x04, 0x25, LE32(LOG_AT), 8, 0x9d,
	    0x81, 0x4c, 0x24, 32, LE32(flag), 0x5f, 0x58, 0x48, 0xcf);
	idt[2 * vector] = (at & 0xffff) | 8 << 16 | 0x8e00ULL << 32 | (at >> 16 << 48);
}

static unsigned int log_count(const struct rig *r)
{
	return (*(uint64_t *)(r->ram + LOG_AT) - LOG_AT - 8) / 8;
}

static uint64_t logged(const struct rig *r, unsigned int n)
{
	return ((uint64_t *)(r->ram + LOG_AT))[n + 1];
}

/* Both did the same: registers, flags, the log, data and stacks. */
static void assert_same(const struct both *b)
{
	const struct vcpu *i = b->rig[0]->v, *t = b->rig[1]->v;

	for (unsigned int r = 0; r < 16; r++)
		assert_int_equal(i->gpr[r], t->gpr[r]);
	assert_int_equal(i->rip, t->rip);
	assert_int_equal(i->rflags, t->rflags);
	assert_int_equal(i->cr2, t->cr2);
	assert_int_equal(log_count(b->rig[0]), log_count(b->rig[1]));
	assert_memory_equal(b->rig[0]->ram + LOG_AT, b->rig[1]->ram + LOG_AT, 8 * LOG_ROOM);
	assert_memory_equal(b->rig[0]->ram + RIG_DATA, b->rig[1]->ram + RIG_DATA, 0x4000);
	assert_memory_equal(b->rig[0]->ram + RIG_STACK - 256, b->rig[1]->ram + RIG_STACK - 256, 256);
}

#define FOR_BOTH(r, b) \
	for (struct rig **at_ = (b)->rig, *r = *at_; at_ < (b)->rig + 2 && (r = *at_); at_++)

/* --- TF, RF, breakpoints, shadows --- */

/* A loop of which some rounds are stepped, POPF setting and clearing TF in a block. */
static void test_single_step(void **state)
{
	struct both *b = *state;

	FOR_BOTH(r, b) {
		log_trap(r, EXC_DB, 0);
		/*
		 * l: mov eax, ecx; and eax, 3; shl eax, 7; and eax, 0x100; or eax, 2; push rax;
		 * popfq; add edx, ecx; mov [rsi], edx; lea ebx, [rbx + rdx]; push 2; popfq;
		 * dec ecx; jnz l; hlt
		 */
		PUT(r, RIG_CODE, 0x89, 0xc8, 0x83, 0xe0, 3, 0xc1, 0xe0, 7, 0x25, LE32(0x100),
		    0x83, 0xc8, 2, 0x50, 0x9d, 0x01, 0xca, 0x89, 0x16, 0x8d, 0x1c, 0x13,
		    0x6a, 2, 0x9d, 0xff, 0xc9, 0x75, 0xe0, HLT);
		r->v->gpr[REG_RCX] = 40;
		r->v->gpr[REG_RDX] = r->v->gpr[REG_RBX] = 0;
		r->v->gpr[REG_RSI] = RIG_DATA;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
	}
	assert_same(b);
	/* add, mov, lea, push, popf: five traps in every other round */
	assert_int_equal(log_count(b->rig[1]), 20 * 5);
	assert_int_equal(logged(b->rig[1], 0), RIG_CODE + 20);
}

/* A breakpoint set in the middle of a hot loop, by the loop; its handler sets RF. */
static void test_breakpoint(void **state)
{
	struct both *b = *state;

	FOR_BOTH(r, b) {
		log_trap(r, EXC_DB, RFLAGS_RF);
		/* l: add eax, ecx; inc ebx; cmp ecx, 50; jne s; mov dr7, rdx; s: dec ecx; jnz l; hlt */
		PUT(r, RIG_CODE, 0x01, 0xc8, 0xff, 0xc3, 0x83, 0xf9, 50, 0x75, 3, 0x0f, 0x23, 0xfa,
		    0xff, 0xc9, 0x75, 0xf0, HLT);
		r->v->gpr[REG_RAX] = r->v->gpr[REG_RBX] = 0;
		r->v->gpr[REG_RCX] = 100;
		r->v->gpr[REG_RDX] = 0x401;
		r->v->dr[0] = RIG_CODE + 2;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RBX], 100);
	}
	assert_same(b);
	assert_int_equal(log_count(b->rig[1]), 49);
	assert_int_equal(logged(b->rig[1], 48), RIG_CODE + 2);
}

/* A data breakpoint traps behind the store, wherever the store is in its block. */
static void test_watchpoint(void **state)
{
	struct both *b = *state;

	FOR_BOTH(r, b) {
		log_trap(r, EXC_DB, 0);
		/* l: mov [rsi], ecx; mov [rsi + 8], ecx; inc ebx; cmp ecx, 20; jne s; mov dr7, rdx;
		 * s: dec ecx; jnz l; hlt */
		PUT(r, RIG_CODE, 0x89, 0x0e, 0x89, 0x4e, 8, 0xff, 0xc3, 0x83, 0xf9, 20, 0x75, 3,
		    0x0f, 0x23, 0xfa, 0xff, 0xc9, 0x75, 0xed, HLT);
		r->v->gpr[REG_RCX] = 60;
		r->v->gpr[REG_RBX] = 0;
		r->v->gpr[REG_RDX] = 0xd0401;	/* G0 off, L0, writes of 4 bytes */
		r->v->gpr[REG_RSI] = RIG_DATA;
		r->v->dr[0] = RIG_DATA + 8;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
	}
	assert_same(b);
	assert_int_equal(log_count(b->rig[1]), 19);
	assert_int_equal(logged(b->rig[1], 0), RIG_CODE + 5);
}

static int ack(void *intc)
{
	struct both *b = intc;

	return __atomic_exchange_n(&b->pending, 0, __ATOMIC_SEQ_CST) ? VECTOR : -1;
}

static bool pending(void *intc)
{
	return __atomic_load_n(&((struct both *)intc)->pending, __ATOMIC_SEQ_CST);
}

static const struct vcpu_intc_ops intc = {
	.ack = ack, .pending = pending, .get_tpr = no_tpr, .mmio_base = no_mmio_base,
};

struct sender {
	struct both *b;
	struct vcpu *v;
	bool stop;
	unsigned int sent;
};

static void *send_interrupts(void *arg)
{
	struct sender *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST)) {
		if (!pending(s->b)) {
			__atomic_store_n(&s->b->pending, 1, __ATOMIC_SEQ_CST);
			vcpu_attention(s->v, ATTN_INTR);
			s->sent++;
		}
		usleep(50);
	}
	return NULL;
}

/*
 * Interrupts from another thread into a loop that lives by its flags and its shadow: none comes
 * between STI and the instruction behind it, none disturbs what the loop checks.
 */
static void test_interrupts(void **state)
{
	struct both *b = *state;
	struct sender s = { .b = b, .v = b->rig[1]->v };
	struct rig *r = b->rig[1];
	pthread_t thread;

	log_trap(r, VECTOR, 0);
	/*
	 * l: cli; mov eax, ecx; cmp eax, 5; sbb edx, edx; sti; sbb edi, edi; cmp edx, edi; jne bad;
	 * cmp qword [LOG_AT], rsi; jae done; dec ecx; jnz l; dec r8; jnz l; done: hlt; bad: ud2
	 */
	PUT(r, RIG_CODE, 0xfa, 0x89, 0xc8, 0x83, 0xf8, 5, 0x19, 0xd2, 0xfb, 0x19, 0xff, 0x39, 0xfa,
	    0x75, 20, 0x48, 0x39, 0x34, 0x25, LE32(LOG_AT), 0x73, 9, 0xff, 0xc9, 0x75, 0xe3,
	    0x49, 0xff, 0xc8, 0x75, 0xde, HLT, 0x0f, 0x0b);
	r->v->intc_ops = &intc;
	r->v->intc = b;
	r->v->gpr[REG_RCX] = 0;
	r->v->gpr[REG_R8] = 1;
	r->v->gpr[REG_RSI] = LOG_AT + 8 + 8 * 200;
	assert_int_equal(pthread_create(&thread, NULL, send_interrupts, &s), 0);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	__atomic_store_n(&s.stop, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
	/* One more may come between the loop and HLT. */
	assert_in_range(log_count(r), 200, 201);
	for (unsigned int n = 0; n < 200; n++) {
		assert_int_not_equal(logged(r, n), RIG_CODE + 9);
		assert_in_range(logged(r, n), RIG_CODE, RIG_CODE + 36);
	}
}

/*
 * Instructions that a loop of @length of them executes before it takes
 * an interrupt that waits when it is entered; its handler is a HLT.
 */
static unsigned int latency(struct both *b, unsigned int length)
{
	struct rig *r = b->rig[1];
	uint8_t code[4096];
	unsigned int n = 0;

	/* l: @length times inc rax; jmp l */
	while (n < 3 * length) {
		memcpy(code + n, CODE(0x48, 0xff, 0xc0), 3);
		n += 3;
	}
	memcpy(code + n, CODE(0xe9, LE32(-(int)n - 5)), 5);
	rig_code(r, RIG_CODE, code, n + 5);
	PUT(r, TRAPS, HLT);
	((uint64_t *)(r->ram + RIG_IDT))[2 * VECTOR] =
		(TRAPS & 0xffff) | 8 << 16 | 0x8e00ULL << 32 | ((uint64_t)TRAPS >> 16 << 48);
	r->v->intc_ops = &intc;
	r->v->intc = b;
	b->pending = 1;
	r->v->gpr[REG_RAX] = 0;
	r->v->rflags = RFLAGS_FIXED | RFLAGS_IF;
	vcpu_attention(r->v, ATTN_INTR);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	return r->v->gpr[REG_RAX];
}

static void test_pending_at_entry(void **state)
{
	for (unsigned int length = 1; length < 1000; length *= 3)
		assert_int_equal(latency(*state, length), 0);
}

/* --- privilege and mode --- */

/* The same code and address at CPL 0 and at CPL 3, by turns; only CPL 0 may read its operand. */
static void test_two_privileges(void **state)
{
	struct both *b = *state;
	static const gva_t user[] = { RIG_CODE, USER_STACK - 0x1000 };

	FOR_BOTH(r, b) {
		for (unsigned int k = 0; k < ARRAY_SIZE(user); k++)
			*rig_pte(r, user[k]) |= PTE_U;
		PUT(r, RIG_DATA, 0x11, 0x22, 0x33, 0x44);
		/* mov eax, [rsi]; add ebx, eax; ud2.  Into CPL 3: iretq at + 0x1000. */
		PUT(r, RIG_CODE, 0x8b, 0x06, 0x01, 0xc3, 0x0f, 0x0b);
		PUT(r, RIG_CODE + 0x1000, 0x48, 0xcf);
		r->v->gpr[REG_RBX] = 0;
		r->v->gpr[REG_RSI] = RIG_DATA;
		for (unsigned int round = 0; round < 40; round++) {
			const uint64_t frame[] = { RIG_CODE, 0x23, RFLAGS_FIXED, USER_STACK - 8, 0x1b };

			rig_state(r);
			r->v->gdtr.limit = 5 * 8 - 1;
			r->v->gpr[REG_RSP] = RIG_STACK - 512;
			memcpy(r->ram + RIG_STACK - 512, frame, sizeof(frame));
			r->v->gpr[REG_RAX] = round;
			assert_int_equal(rig_run(r, round % 2 ? RIG_CODE + 0x1000 : RIG_CODE),
					 round % 2 ? EXC_PF : EXC_UD);
			assert_int_equal(r->v->gpr[REG_RAX], round % 2 ? round : 0x44332211);
		}
	}
	assert_same(b);
	assert_int_equal(b->rig[1]->v->gpr[REG_RBX], (uint32_t)(20 * 0x44332211ULL));
}

/* MOV to CR4 takes SSE away for the next instruction of its own block, and gives it back. */
static void test_cr4_cuts(void **state)
{
	struct both *b = *state;

	FOR_BOTH(r, b) {
		const uint64_t cr4 = r->v->cr4;

		/* xorps xmm0, xmm0; mov cr4, rdx; xorps xmm0, xmm0; inc ebx; mov cr4, rdi; hlt */
		PUT(r, RIG_CODE, 0x0f, 0x57, 0xc0, 0x0f, 0x22, 0xe2, 0x0f, 0x57, 0xc0, 0xff, 0xc3,
		    0x0f, 0x22, 0xe7, HLT);
		r->v->gpr[REG_RBX] = 0;
		r->v->gpr[REG_RDI] = cr4;
		for (unsigned int round = 0; round < 40; round++) {
			bool off = round % 3 == 1;

			r->v->gpr[REG_RDX] = off ? cr4 & ~CR4_OSFXSR : cr4;
			r->v->gpr[REG_RSP] = RIG_STACK;
			r->v->cr4 = cr4;
			assert_int_equal(rig_run(r, RIG_CODE), off ? EXC_UD : -1);
			if (off)
				assert_int_equal(*(uint64_t *)(r->ram + RIG_STACK - 40), RIG_CODE + 6);
		}
		assert_int_equal(r->v->gpr[REG_RBX], 27);
	}
	assert_same(b);
}

/* --- mappings --- */

/* Three global pages of the upper half at UPPER: RIG_CODE + 0x4000 and on. */
static uint64_t *map_upper(struct rig *r)
{
	uint64_t *t = (uint64_t *)(r->ram + RIG_TABLES), *more = (uint64_t *)(r->ram + 0x100000);

	t[511] = 0x100000 | PTE_P | PTE_W;
	more[510] = 0x101000 | PTE_P | PTE_W;
	more[512] = 0x102000 | PTE_P | PTE_W;
	for (unsigned int k = 0; k < 3; k++)
		more[1024 + k] = (RIG_CODE + 0x4000 + 0x1000 * k) | PTE_P | PTE_W | PTE_G;
	r->v->cr4 |= CR4_PGE;
	return &more[1024];
}

/* Jumps chained from page to page among the kernel's global pages, one of which moves. */
static void test_upper_remapped(void **state)
{
	struct both *b = *state;

	FOR_BOTH(r, b) {
		map_upper(r);
		/* l: xor [rdi], rsi (the entry); invlpg [rdx]; call r8; add ebx, eax; dec ecx; jnz l */
		PUT(r, RIG_CODE, 0x48, 0x31, 0x37, 0x0f, 0x01, 0x3a, 0x41, 0xff, 0xd0, 0x01, 0xc3,
		    0xff, 0xc9, 0x75, 0xf1, HLT);
		PUT(r, RIG_CODE + 0x4000, 0xe9, LE32(0xffb));		/* jmp to the next page */
		PUT(r, RIG_CODE + 0x5000, 0xb8, LE32(1), 0xc3);
		PUT(r, RIG_CODE + 0x6000, 0xb8, LE32(1000), 0xc3);
		r->v->gpr[REG_RBX] = 0;
		r->v->gpr[REG_RCX] = 200;
		r->v->gpr[REG_RDX] = UPPER + 0x1000;
		r->v->gpr[REG_RSI] = 0x5000 ^ 0x6000;
		r->v->gpr[REG_RDI] = 0x102000 + 8;
		r->v->gpr[REG_R8] = UPPER;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RBX], 100 * 1001);
	}
	assert_same(b);
}

/* The same page gone altogether: the jump to it faults at its target, every time. */
static void test_upper_unmapped(void **state)
{
	struct both *b = *state;

	FOR_BOTH(r, b) {
		uint64_t *pte = map_upper(r), entry = pte[1];

		PUT(r, RIG_CODE + 0x4000, 0xff, 0xc3, 0xe9, LE32(0xff9));	/* inc ebx; jmp */
		PUT(r, RIG_CODE + 0x5000, HLT);
		r->v->gpr[REG_RBX] = 0;
		for (unsigned int round = 0; round < 40; round++) {
			pte[1] = round % 4 == 3 ? 0 : entry;
			tlb_flush_page(r->v, UPPER + 0x1000);
			r->v->gpr[REG_RSP] = RIG_STACK;
			assert_int_equal(rig_run(r, UPPER), round % 4 == 3 ? EXC_PF : -1);
			if (round % 4 == 3)
				assert_int_equal(r->v->cr2, UPPER + 0x1000);
		}
		assert_int_equal(r->v->gpr[REG_RBX], 40);
	}
	assert_same(b);
}

/* --- code that changes --- */

/* A store into its own block: behind it, before it, and into itself. */
static void test_rewrites_own_block(void **state)
{
	struct both *b = *state;

	FOR_BOTH(r, b) {
		/*
		 * l: add eax, 1 (imm8 at +2); inc byte [rip - 7] (that imm8: it is 1 to 50);
		 * add edx, 0 (imm8 at +11); inc byte [rip - 7]; dec ecx; jnz l; hlt
		 */
		PUT(r, RIG_CODE, 0x83, 0xc0, 1, 0xfe, 0x05, LE32(-7), 0x83, 0xc2, 0, 0xfe, 0x05, LE32(-7),
		    0xff, 0xc9, 0x75, 0xea, HLT);
		r->v->gpr[REG_RAX] = r->v->gpr[REG_RDX] = 0;
		r->v->gpr[REG_RCX] = 50;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RAX], 1275);
		assert_int_equal(r->v->gpr[REG_RDX], 1225);
	}
	assert_same(b);
}

/* --- faults --- */

/* One instruction of a block faults, each in turn: the state is that before it. */
static void test_fault_anywhere(void **state)
{
	struct both *b = *state;

	for (unsigned int where = 0; where < 40; where++)
		FOR_BOTH(r, b) {
			uint64_t *frame = (uint64_t *)(r->ram + RIG_STACK);
			uint8_t code[40 * 8 + 1];

			/* add [rsi + 64 * k], eax; lea eax, [rax + rbx], at each k */
			*rig_pte(r, RIG_DATA + 0x1000) = 0;
			for (unsigned int k = 0; k < 40; k++)
				memcpy(code + 8 * k, CODE(0x01, 0x86, LE32(64 * k), 0x01, 0xd8), 8);
			code[40 * 8] = HLT;
			rig_code(r, RIG_CODE, code, sizeof(code));
			r->v->gpr[REG_RAX] = 7;
			r->v->gpr[REG_RBX] = 3 * where;
			r->v->gpr[REG_RSP] = RIG_STACK;
			r->v->gpr[REG_RSI] = RIG_DATA + 0x1000 - 64 * where - (where & 1);
			for (unsigned int run = 0; run < 3; run++) {
				r->v->gpr[REG_RAX] = 7;
				r->v->gpr[REG_RSP] = RIG_STACK;
				assert_int_equal(rig_run(r, RIG_CODE), EXC_PF);
			}
			assert_int_equal(frame[-5], RIG_CODE + 8 * where);
			assert_int_equal(r->v->gpr[REG_RAX], 7 + 3 * where * where);
		}
	assert_same(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_single_step), T(test_breakpoint), T(test_watchpoint), T(test_interrupts),
		T(test_pending_at_entry), T(test_two_privileges), T(test_cr4_cuts),
		T(test_upper_remapped), T(test_upper_unmapped), T(test_rewrites_own_block),
		T(test_fault_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
