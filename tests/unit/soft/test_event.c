// SPDX-License-Identifier: Apache-2.0
/*
 * Faults, software interrupts and interrupts in translated code: whatever the program does and
 * whichever stacks its handlers have, state and stacks are what the interpreter makes of them;
 * and the loop that runs translated code is not asked.  Where code was changed or mapped anew by
 * the handler, it is the new code that goes on.
 */
#include "unit.h"
#include "user_rig.h"

#define TURNS		50
#define PAGE		0x36000	/* the user's, taken away by each SYSCALL */
#define PAGE_PTE	(RIG_TABLES + 0x3000 + (PAGE >> 12) * 8)
#define HANDLER(n)	(KERNEL + 0x100 + (n) * 0x40)	/* at UPPER */
#define IST_TOP(n)	(RIG_STACK - (n) * 0x400)
#define SOFT		20	/* vectors of INT n: the user may, ... */
#define REFUSED		21	/* ... and may not */
#define STRANGE		0x8000000000000000ULL	/* no address */

static void put_gate(struct rig *r, unsigned int vector, unsigned int dpl, unsigned int ist)
{
	uint64_t h = UPPER + HANDLER(vector);
	uint64_t gate[2] = { (h & 0xffff) | 8 << 16 | (uint64_t)ist << 32 | 0x8e00ULL << 32 |
			     (uint64_t)dpl << 45 | (h >> 16 & 0xffff) << 48, h >> 32 };

	rig_code(r, RIG_IDT + 16 * vector, gate, 16);
}

/* R9 takes in the frame, its error code first; the program goes on @skip bytes further. */
static void put_handler(struct rig *r, unsigned int vector, bool error, unsigned int skip)
{
	gpa_t at = HANDLER(vector);

	if (vector == EXC_PF) {		/* mov r8, cr2; add r9, r8; or byte [PAGE_PTE], 1 */
		PUT(r, at, 0x41, 0x0f, 0x20, 0xd0, 0x4d, 0x01, 0xc1, 0x80, 0x0c, 0x25, LE32(PAGE_PTE), 1);
		at += 15;
	} else if (vector == EXC_GP) {	/* test ebp, ebp; jnz over; hlt */
		PUT(r, at, 0x85, 0xed, 0x75, 0x01, 0xf4);
		at += 5;
	}
	if (error) {			/* add r9, [rsp]; rol r9, 5; add rsp, 8 */
		PUT(r, at, 0x4c, 0x03, 0x0c, 0x24, 0x49, 0xc1, 0xc1, 0x05, 0x48, 0x83, 0xc4, 0x08);
		at += 12;
	}
	/* add r9, [rsp]; rol; add r9, [rsp + 8]; rol; add r9, [rsp + 16]; add r9, [rsp + 24] */
	PUT(r, at, 0x4c, 0x03, 0x0c, 0x24, 0x49, 0xc1, 0xc1, 0x05, 0x4c, 0x03, 0x4c, 0x24, 8,
	    0x49, 0xc1, 0xc1, 0x03, 0x4c, 0x03, 0x4c, 0x24, 16, 0x4c, 0x03, 0x4c, 0x24, 24);
	at += 27;
	if (skip) {			/* add qword [rsp], skip */
		PUT(r, at, 0x48, 0x83, 0x04, 0x24, skip);
		at += 5;
	}
	PUT(r, at, 0x48, 0xcf);		/* iretq */
}

static void put_programs(struct rig *r)
{
	put_handler(r, EXC_DE, false, 2);
	put_handler(r, EXC_BP, false, 0);
	put_handler(r, EXC_UD, false, 2);
	put_handler(r, EXC_GP, true, 2);
	put_handler(r, EXC_PF, true, 0);
	put_handler(r, SOFT, false, 0);
	/* The kernel: and byte [PAGE_PTE], 0xfe; invlpg [PAGE]; sysretq */
	PUT(r, KERNEL, 0x80, 0x24, 0x25, LE32(PAGE_PTE), 0xfe, 0x0f, 0x01, 0x3c, 0x25, LE32(PAGE),
	    0x48, 0x0f, 0x07);
	/* Apart from each other, for what was found to have room for them all. */
	PUT(r, USER, 0x4c, 0x01, 0xeb, 0x48, 0x89, 0x1f,	/* add rbx, r13; mov [rdi], rbx */
	    0x4c, 0x03, 0x27, 0x0f, 0x1f, 0x00,		/* add r12, [rdi] */
	    0xcc, 0x0f, 0x1f, 0x00, 0xcd, SOFT, 0x66, 0x90,	/* int3; int */
	    0xcd, REFUSED, 0x66, 0x90, 0x0f, 0x0b, 0x66, 0x90,	/* int; ud2 */
	    0xf7, 0xf6, 0x66, 0x90, 0x8b, 0x02, 0x66, 0x90,	/* div esi; mov eax, [rdx] */
	    0x4d, 0x01, 0xcb, 0x0f, 0x05, 0xff, 0xcd, 0x75, 0xd3, 0xf4); /* add r11, r9; syscall; ... */
}

struct outcome {
	int vector;
	uint64_t gpr[16], rip, rflags, cr2, stack[RIG_STACK / 8 - IST_TOP(5) / 8], page;
	struct segment seg[6];
	unsigned int cpl;
};

static void take_outcome(struct rig *r, int vector, struct outcome *o)
{
	const struct vcpu *v = r->v;

	memset(o, 0, sizeof(*o));
	o->vector = vector;
	memcpy(o->gpr, v->gpr, sizeof(o->gpr));
	o->rip = v->rip;
	o->rflags = v->rflags;
	o->cr2 = v->cr2;
	memcpy(o->seg, v->seg, sizeof(o->seg));
	o->cpl = v->cpl;
	gpa_read(&r->space, IST_TOP(5), o->stack, sizeof(o->stack));
	gpa_read(&r->space, PAGE, &o->page, 8);
}

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

static void start(struct rig *r, uint64_t *seed)
{
	static const uint8_t vectors[] = { EXC_DE, EXC_BP, EXC_UD, EXC_GP, EXC_PF, SOFT, REFUSED };
	struct vcpu *v = r->v;

	rig_state(r);
	v->cr4 |= CR4_PGE;
	*rig_pte(r, PAGE) = PAGE | PTE_U | PTE_W | PTE_A | PTE_D;
	for (unsigned int n = 1; n <= 3; n++)
		rig_code(r, TSS_AT + 0x1c + 8 * n, &(uint64_t){ IST_TOP(n) }, 8);
	for (unsigned int k = 0; k < sizeof(vectors); k++)
		put_gate(r, vectors[k], vectors[k] == EXC_BP || vectors[k] == SOFT ? 3 : 0,
			 next(seed) % 4);
	for (unsigned int seg = 0; seg < 6; seg++)
		if (seg != SEG_CS && seg != SEG_SS)
			v->seg[seg] = (struct segment){ .attr = SEG_UNUSABLE };
	rig_code(r, RIG_GDT + 24, &(uint64_t[]){ USER_SS, USER_CS }, 16);
	v->gdtr.limit = 39;
	for (unsigned int n = 0; n < 16; n++)
		v->gpr[n] = next(seed);
	v->gpr[REG_RSP] = USER_STACK;
	v->gpr[REG_RBP] = TURNS;
	v->gpr[REG_RSI] = 0;
	v->gpr[REG_RDX] = STRANGE;
	v->gpr[REG_RDI] = PAGE + next(seed) % 4088;
	vcpu_update_mode(v);
}

/* Odd @seed: with IF. */
static void run_random(struct rig *r, uint64_t seed, struct outcome *o)
{
	uint64_t flags = RFLAGS_FIXED | (seed & 1 ? RFLAGS_IF : 0);

	start(r, &seed);
	take_outcome(r, run_user(r, flags | (next(&seed) & RFLAGS_ARITH)), o);
}

static void compare(enum window_choice windows, uint32_t without)
{
	struct rig *plain = user_rig(TRANSLATOR_OFF, WINDOWS_OFF, 0);
	struct rig *r = user_rig(TRANSLATOR_ON, windows, without);
	struct outcome a, b;

	put_programs(plain);
	put_programs(r);
	for (unsigned int k = 0; k < 60; k++) {
		uint64_t seed = 0x5eedULL * (k + 1) + k;

		run_random(plain, seed, &a);
		run_random(r, seed, &b);
		assert_int_equal(a.vector, -1);
		assert_int_equal(a.gpr[REG_RBP], 0);
		if (memcmp(&a, &b, sizeof(a)))
			fail_msg("run %u: vector %d, r9 %llx %llx, rip %llx %llx", k, b.vector,
				 (unsigned long long)a.gpr[REG_R9], (unsigned long long)b.gpr[REG_R9],
				 (unsigned long long)a.rip, (unsigned long long)b.rip);
	}
	rig_destroy(plain);
	rig_destroy(r);
}

static void test_like_interpreter(void **state)
{
	(void)state;
	compare(WINDOWS_OFF, 0);
	compare(WINDOWS_OFF, BIT(TRANSLATOR_OPT_EVENT));
	compare(WINDOWS_OFF, BIT(TRANSLATOR_OPT_SWITCH));
	compare(WINDOWS_ALWAYS, 0);
	compare(WINDOWS_ALWAYS, BIT(TRANSLATOR_OPT_EVENT));
}

/* Once all is translated, the loop in dbt_run.c only finds what the new address space has. */
static void in_place_of(enum window_choice windows)
{
	struct rig *r = user_rig(TRANSLATOR_ON, windows, 0);
	uint64_t entries, events;
	struct outcome o;

	put_programs(r);
	PUT(r, KERNEL, 0x48, 0x0f, 0x07);	/* nothing but SYSRET */
	for (unsigned int k = 0; k < 30; k++)
		run_random(r, 2 * k + 1, &o);
	entries = rig_stats(r)->entries;
	events = rig_stats(r)->events;
	run_random(r, 1, &o);
	assert_int_equal(o.vector, -1);
	assert_true(rig_stats(r)->entries - entries < 20);
	assert_true(rig_stats(r)->events - events >= 5 * TURNS);
	rig_destroy(r);
}

static void test_in_place(void **state)
{
	(void)state;
	in_place_of(WINDOWS_OFF);
	in_place_of(WINDOWS_ALWAYS);
}

/* INT3's delivery finds no stack: a double fault, which has one or has none either. */
static void test_fault_in_delivery(void **state)
{
	struct outcome o[2];

	(void)state;
	for (unsigned int ist = 0; ist < 2; ist++) {
		for (unsigned int k = 0; k < 2; k++) {
			struct rig *r = user_rig(k ? TRANSLATOR_ON : TRANSLATOR_OFF, WINDOWS_OFF, 0);
			uint64_t seed = 77;

			put_programs(r);
			PUT(r, HANDLER(EXC_DF), 0xf4);
			PUT(r, USER + 0x20, 0xff, 0xcd, 0x75, 0xfc, 0xcc);	/* l: dec ebp; jnz l; int3 */
			start(r, &seed);
			put_gate(r, EXC_BP, 3, 0);
			put_gate(r, EXC_PF, 0, 0);
			put_gate(r, EXC_DF, 0, ist);
			*rig_pte(r, 0x50000) = 0;
			rig_code(r, TSS_AT + 4, &(uint64_t){ 0x50800 }, 8);
			r->v->gpr[REG_RCX] = USER + 0x20;
			r->v->gpr[REG_R11] = RFLAGS_FIXED;
			take_outcome(r, rig_run(r, UPPER + KERNEL + 0xf00), &o[k]);
			rig_destroy(r);
		}
		assert_int_equal(o[0].vector, ist ? -1 : -2);	/* -2: shut down */
		assert_memory_equal(&o[0], &o[1], sizeof(o[0]));
	}
}

/*
 * The program's store faults, and in front of it is another instruction when the handler, which
 * writes R14 to [R15] and runs @bytes, returns: INC RBX in place of INC RSI.
 */
static void put_repair(struct rig *r, const uint8_t *bytes, size_t len)
{
	static const uint8_t rest[] = { 0x90, 0x90, 0x0f, 0x05, 0xff, 0xcd, 0x75, 0xf2, 0xf4 };
	gpa_t at = HANDLER(EXC_PF);

	PUT(r, USER, 0x48, 0x89, 0x1f, 0x48, 0xff, 0xc6);	/* mov [rdi], rbx; inc rsi */
	rig_code(r, USER + 6, rest, sizeof(rest));		/* nops; syscall; dec ebp; jnz; hlt */
	PUT(r, RIG_DATA, 0x48, 0x89, 0x1f, 0x48, 0xff, 0xc3);
	rig_code(r, RIG_DATA + 6, rest, sizeof(rest));
	/* add rsp, 8; or byte [PAGE_PTE], 1; mov [r15], r14 */
	PUT(r, at, 0x48, 0x83, 0xc4, 0x08, 0x80, 0x0c, 0x25, LE32(PAGE_PTE), 1, 0x4d, 0x89, 0x37);
	rig_code(r, at + 15, bytes, len);
	PUT(r, at + 15 + len, 0x48, 0xcf);
	PUT(r, HANDLER(EXC_GP), 0xf4);
	put_gate(r, EXC_PF, 0, 0);
	put_gate(r, EXC_GP, 0, 0);
	r->v->gpr[REG_RDI] = PAGE;
	r->v->gpr[REG_RBX] = 0;
}

static void check_repaired(struct rig *r)
{
	assert_int_equal(run_user(r, RFLAGS_FIXED | RFLAGS_IF), -1);
	assert_int_equal(r->v->gpr[REG_RBX], TURNS);
	assert_int_equal(r->v->gpr[REG_RSI], 0);
	assert_int_equal(r->v->gpr[REG_RBP], 0);
}

/* The handler writes the other instruction there. */
static void test_code_changed(void **state)
{
	struct rig *r = user_rig(TRANSLATOR_ON, WINDOWS_OFF, 0);
	uint64_t seed = 5;

	(void)state;
	for (unsigned int k = 0; k < 20; k++) {
		start(r, &seed);
		put_repair(r, NULL, 0);
		PUT(r, KERNEL, 0x48, 0x0f, 0x07);	/* sysretq */
		r->v->gpr[REG_R15] = USER;
		r->v->gpr[REG_R14] = 0x9090c3ff481f8948ULL;
		check_repaired(r);
	}
	rig_destroy(r);
}

/* The handler maps another page there, and says so by INVLPG, or by MOV to CR3. */
static void mapped_anew(enum window_choice windows, const uint8_t *bytes, size_t len)
{
	struct rig *r = user_rig(TRANSLATOR_ON, windows, 0);
	uint64_t seed = 6, *pte = rig_pte(r, USER);

	for (unsigned int k = 0; k < 10; k++) {
		start(r, &seed);
		put_repair(r, bytes, len);
		PUT(r, KERNEL, 0x48, 0x0f, 0x07);
		*pte = USER | PTE_P | PTE_U | PTE_W | PTE_A | PTE_D;
		r->v->gpr[REG_R15] = (uint8_t *)pte - r->ram;
		r->v->gpr[REG_R14] = *pte - USER + RIG_DATA;
		check_repaired(r);
	}
	rig_destroy(r);
}

static void test_code_mapped_anew(void **state)
{
	static const uint8_t invlpg[] = { 0x0f, 0x01, 0x3c, 0x25, LE32(USER) };
	static const uint8_t load_cr3[] = { 0x0f, 0x20, 0xda, 0x0f, 0x22, 0xda };	/* by rdx */

	(void)state;
	mapped_anew(WINDOWS_OFF, invlpg, sizeof(invlpg));
	mapped_anew(WINDOWS_OFF, load_cr3, sizeof(load_cr3));
	mapped_anew(WINDOWS_ALWAYS, invlpg, sizeof(invlpg));
	mapped_anew(WINDOWS_ALWAYS, load_cr3, sizeof(load_cr3));
}

/* --- interrupts --- */

#define INTERRUPTS	200
#define VECTOR		22

static int ack_vector(void *intc)
{
	(void)intc;
	return VECTOR;
}

static void *interrupt_often(void *arg)
{
	struct vcpu *v = arg;

	while (!__atomic_load_n(&v->halted, __ATOMIC_RELAXED)) {
		vcpu_attention(v, ATTN_INTR);
		usleep(200);
	}
	return NULL;
}

/* A loop within one block, and one by way of a jump from page to page. */
static void interrupted(enum window_choice windows, bool far)
{
	struct vcpu_intc_ops ops = no_intc;
	struct rig *r = user_rig(TRANSLATOR_ON, windows, 0);
	uint64_t seed = 9, entries;
	pthread_t thread;

	ops.ack = ack_vector;
	r->v->intc_ops = &ops;
	start(r, &seed);
	put_gate(r, VECTOR, 0, 1);
	/* dec r14; jnz over; hlt; over: iretq */
	PUT(r, HANDLER(VECTOR), 0x49, 0xff, 0xce, 0x75, 0x01, 0xf4, 0x48, 0xcf);
	if (far) {	/* inc rbx; jmp USER_STACK's page; there: inc r12; jmp back */
		PUT(r, USER, 0x48, 0xff, 0xc3, 0xe9, LE32(0xff8));
		PUT(r, USER + 0x1000, 0x49, 0xff, 0xc4, 0xe9, LE32(-0x1008));
	} else {	/* l: inc rbx; inc r12; jmp l */
		PUT(r, USER, 0x48, 0xff, 0xc3, 0x49, 0xff, 0xc4, 0xeb, 0xf8);
	}
	r->v->gpr[REG_R14] = INTERRUPTS;
	r->v->gpr[REG_RBX] = r->v->gpr[REG_R12] = 0;
	entries = rig_stats(r)->entries;
	assert_int_equal(pthread_create(&thread, NULL, interrupt_often, r->v), 0);
	assert_int_equal(run_user(r, RFLAGS_FIXED | RFLAGS_IF), -1);
	pthread_join(thread, NULL);
	assert_int_equal(r->v->stats.interrupts, INTERRUPTS);
	assert_true(r->v->gpr[REG_RBX] - r->v->gpr[REG_R12] <= 1);
	assert_true(rig_stats(r)->entries - entries < INTERRUPTS / 2);
	rig_destroy(r);
}

static void test_interrupts(void **state)
{
	(void)state;
	interrupted(WINDOWS_OFF, false);
	interrupted(WINDOWS_OFF, true);
	interrupted(WINDOWS_ALWAYS, false);
}

/* The next one only when the last one came, so that none makes up for one that was lost. */
static void *interrupt_in_turn(void *arg)
{
	struct rig *r = arg;
	volatile uint64_t *seen = (uint64_t *)(r->ram + RIG_DATA);

	for (uint64_t n = 0; n < INTERRUPTS; n++) {
		vcpu_attention(r->v, ATTN_INTR);
		while (*seen == n)
			usleep(10);
	}
	return NULL;
}

/* The kernel's IF is set for an instant, by IRETQ: what waits comes then. */
static void test_interrupt_waits_for_iret(void **state)
{
	struct vcpu_intc_ops ops = no_intc;
	struct rig *r = user_rig(TRANSLATOR_ON, WINDOWS_OFF, 0);
	uint64_t seed = 9;
	pthread_t thread;

	(void)state;
	ops.ack = ack_vector;
	r->v->intc_ops = &ops;
	start(r, &seed);
	rig_code(r, RIG_GDT + 8, &(uint64_t[]){ 0x00af9b000000ffffULL, 0x00cf93000000ffffULL }, 16);
	rig_code(r, RIG_DATA, &(uint64_t){ 0 }, 8);
	put_gate(r, VECTOR, 0, 1);
	/* inc qword [RIG_DATA]; dec r14; jnz over; hlt; over: iretq */
	PUT(r, HANDLER(VECTOR), 0x48, 0xff, 0x04, 0x25, LE32(RIG_DATA), 0x49, 0xff, 0xce, 0x75, 0x01, 0xf4,
	    0x48, 0xcf);
	PUT(r, KERNEL, 0xfa, 0xb9, LE32(50), 0xff, 0xc9, 0x75, 0xfc,	/* l: cli; mov ecx, 50; loop */
	    0x4c, 0x89, 0xec, 0x6a, 0x10, 0x41, 0x55,	/* mov rsp, r13; push 0x10; push r13 */
	    0x41, 0x53, 0x6a, 0x08, 0x41, 0x50, 0x48, 0xcf,	/* push r11; push 8; push r8; iretq */
	    0xeb, 0xe5);				/* jmp l */
	r->v->gpr[REG_R8] = UPPER + KERNEL + 25;
	r->v->gpr[REG_R11] = RFLAGS_FIXED | RFLAGS_IF;
	r->v->gpr[REG_R13] = RIG_STACK - 0x100;
	r->v->gpr[REG_R14] = INTERRUPTS;
	assert_int_equal(pthread_create(&thread, NULL, interrupt_in_turn, r), 0);
	alarm(20);
	assert_int_equal(rig_run(r, UPPER + KERNEL), -1);
	alarm(0);
	pthread_join(thread, NULL);
	assert_int_equal(r->v->stats.interrupts, INTERRUPTS);
	assert_true(steps_of(r, INSN_ID_IRETQ) < 2 * INTERRUPTS);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_like_interpreter),
		cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_fault_in_delivery),
		cmocka_unit_test(test_code_changed),
		cmocka_unit_test(test_code_mapped_anew),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_interrupt_waits_for_iret),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
