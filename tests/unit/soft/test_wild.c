// SPDX-License-Identifier: Apache-2.0
/*
 * Can translated code touch anything but guest memory and its own vCPU?  Random blocks store,
 * load, push, call and return through registers that hold what an attacker would like to have:
 * host addresses of canaries, of the vCPU, of the code cache, of the tables and of C's stack,
 * those less the guest memory's, not canonical ones, ends of windows.  In the kernel, at
 * CPL 3 through windows, and as 32-bit code at both.  Afterwards the canaries, the code cache's fixed part and the vCPU's
 * wires are as before, and where the guest has a page at a canary's address it has that one.
 *
 * LONG=1: seventy times as long.  FUZZ_SEED repeats a run.
 */
#include "soft_rig.h"
#include "unit.h"
#include "engine/soft/dbt_priv.h"
#include "engine/soft/soft_priv.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CANARIES	16
#define CANARY_BYTES	8192
#define INSNS		24
#define TSS_AT		0x38000
#define ALIAS_TABLES	0x100000	/* of the page that the guest has at a canary's address */
#define ALIAS_PAGE	0x110000
#define VICTIM		8		/* canary with a guest page at its address */

struct wild {
	struct rig *rig;
	uint8_t *canary[CANARIES];
	uint64_t seed;
	uint64_t fixed;		/* checksum of the fixed code */
	pthread_t stopper;
	bool stop;
	unsigned int ended[34];	/* by exception, others, HLT */
};

static uint64_t next(struct wild *w)
{
	uint64_t x = w->seed;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return w->seed = x;
}

static struct dbt *dbt_of(struct wild *w)
{
	return ((struct soft_vcpu *)w->rig->v->engine)->dbt;
}

static uint64_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t h = 0xcbf29ce484222325ULL;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

/* Stops what runs for long: random jumps may end in a loop. */
static void *stopper(void *arg)
{
	struct wild *w = arg;

	while (!__atomic_load_n(&w->stop, __ATOMIC_SEQ_CST)) {
		usleep(3000);
		vcpu_attention(w->rig->v, ATTN_STOP);
	}
	return NULL;
}

static int setup(void **state)
{
	struct wild *w = calloc(1, sizeof(*w));
	const char *seed = getenv("FUZZ_SEED");

	w->rig = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .translate_at = 1, .cache_bytes = 4 << 20,
		.windows = WINDOWS_ALWAYS });
	w->rig->log.out = NULL;
	w->seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 0x9e3779b97f4a7c15ULL | 1;
	print_message("FUZZ_SEED=0x%" PRIx64 "\n", w->seed);
	for (unsigned int k = 0; k < CANARIES; k++) {
		w->canary[k] = mmap(NULL, CANARY_BYTES, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(w->canary[k], 0xc0 + k, CANARY_BYTES);
	}
	w->fixed = checksum(dbt_of(w)->rw, dbt_of(w)->first - dbt_of(w)->rw);
	assert_int_equal(pthread_create(&w->stopper, NULL, stopper, w), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct wild *w = *state;

	__atomic_store_n(&w->stop, true, __ATOMIC_SEQ_CST);
	pthread_join(w->stopper, NULL);
	for (unsigned int k = 0; k < CANARIES; k++)
		munmap(w->canary[k], CANARY_BYTES);
	rig_destroy(w->rig);
	free(w);
	return 0;
}

/* The guest maps a page of its own at the victim's address. */
static void map_alias(struct wild *w)
{
	uint64_t gva = (uint64_t)w->canary[VICTIM];
	gpa_t table = RIG_TABLES;

	memset(w->rig->ram + ALIAS_TABLES, 0, 4 * 0x1000);
	for (unsigned int level = 3; level > 0; level--) {
		uint64_t *e = (uint64_t *)(w->rig->ram + table) + (gva >> (12 + 9 * level) & 511);

		/* The guest may have written anything there. */
		if (!(*e & PTE_P) || *e >= RIG_RAM)
			*e = (ALIAS_TABLES + 0x1000 * level) | PTE_P | PTE_W | PTE_U;
		table = *e & ~0xfffULL;
	}
	((uint64_t *)(w->rig->ram + table))[gva >> 12 & 511] = ALIAS_PAGE | PTE_P | PTE_W | PTE_U;
}

/* What a register holds. */
static uint64_t wild_address(struct wild *w)
{
	const struct dbt *d = dbt_of(w);
	struct vcpu *v = w->rig->v;
	const uint64_t ram = (uint64_t)w->rig->ram;
	const uint64_t canary = (uint64_t)w->canary[next(w) % CANARIES] + next(w) % CANARY_BYTES;
	const uint64_t liked[] = {
		canary, canary - ram, ram, ram + RIG_RAM - next(w) % 16, (uint64_t)v + next(w) % 4096,
		(uint64_t)d->rw + next(w) % 4096, (uint64_t)d->rx, (uint64_t)&ram, (uint64_t)d,
		(uint64_t)v->view, dbt_hot(v)->side[0].stack_base - next(w) % 128,
		v->view ? (uint64_t)v->view->table[0] : 0, v->tlb.window.low + next(w) % 4096,
		canary - v->tlb.window.low, canary - v->tlb.window.high, (uint64_t)w->canary[VICTIM],
		/* The same but for bits that the check of windows does not look at, and those it does. */
		canary - v->tlb.window.high + (1ULL << 47), canary - v->tlb.window.low - (1ULL << 47),
		canary - v->tlb.window.high + (1ULL << 48), canary - v->tlb.window.low + (3ULL << 48),
		v->tlb.window.low - canary, 1ULL << 39, (1ULL << 41) - 8, 0x54ULL << 40,
		(0x58ULL << 40) - 8, (uint64_t)v + VCPU_CHECKS + next(w) % (1 << 20),
		(0x7eULL << 40) - 8, (1ULL << 47) - 8, 1ULL << 47, -1ULL << 47, -8ULL,
		0xffffffffff600000ULL, RIG_DATA, RIG_DATA + 0xffc, RIG_STACK, RIG_CODE, RIG_TABLES,
	};
	uint64_t a = liked[next(w) % ARRAY_SIZE(liked)];

	switch (next(w) % 8) {
	case 0:
		return a ^ 1ULL << (next(w) % 64);
	case 1:
		return a + (next(w) << 48);	/* not canonical, the same table entry */
	case 2:
		return a - (int32_t)next(w);
	default:
		return a;
	}
}

/* One instruction with a random memory operand or use of the stack; its bytes. */
static unsigned int wild_insn(struct wild *w, uint8_t *p)
{
	static const uint8_t plain[] = { 0x88, 0x89, 0x8a, 0x8b, 0x01, 0x29, 0x31, 0x87, 0x8d, 0x3b };
	static const uint8_t two[] = { 0x11, 0x10, 0x29, 0x28, 0xab, 0xc1, 0xb1, 0x6f, 0x7f, 0xb6 };
	uint8_t *const start = p;
	unsigned int kind = next(w) % 16, modrm = next(w) & 0xff;

	if (kind == 0)
		return *p = 0x50 + next(w) % 16, 1;		/* push, pop */
	if (kind == 1)
		return *p = (const uint8_t[]){ 0xc3, 0xc9, 0x9c, 0xaa, 0xa4, 0xab }[next(w) % 6], 1;
	if (kind == 15 && next(w) & 1) {	/* mov cl, n; rep movs or stos, of bytes or more */
		memcpy(p, (const uint8_t[]){ 0xb1, next(w), 0xf3, 0x48 }, 4);
		p[next(w) & 1 ? 3 : 4] = (next(w) & 1 ? 0xa4 : 0xaa) | (next(w) & 1);
		return p[3] == 0x48 ? 5 : 4;
	}
	if (kind == 2 || kind == 3) {				/* call, jmp, push by operand */
		*p++ = 0xff;
		*p++ = (modrm & 7) | (2 + next(w) % 5) << 3 | (next(w) & 1 ? 0xc0 : 0);
		if ((p[-1] & 0xc7) == 4)
			*p++ = next(w);
		return p[-1] == 5 || (p[-1] & 0xc7) == 5 ? (memset(p, 0, 4), p + 4 - start) : p - start;
	}
	if (kind == 4)
		*p++ = next(w) & 1 ? 0x64 : 0x65;
	else if (kind == 5)
		*p++ = 0x67;
	else if (kind == 6)
		*p++ = 0x66;
	*p++ = 0x40 | next(w) % 16;
	if (kind < 12) {
		*p++ = plain[next(w) % ARRAY_SIZE(plain)];
	} else {
		*p++ = 0x0f;
		*p++ = two[next(w) % ARRAY_SIZE(two)];
	}
	*p++ = modrm;
	if (modrm >> 6 != 3 && (modrm & 7) == 4) {
		*p = next(w);
		modrm = (modrm & 0xc0) | (modrm >> 6 == 0 && (*p & 7) == 5 ? 5 : 0);
		p++;
	}
	if (modrm >> 6 == 1) {
		*p++ = next(w);
	} else if (modrm >> 6 == 2 || (modrm & 0xc7) == 5) {
		int32_t disp = next(w) & 1 ? next(w) : next(w) % 65536;

		memcpy(p, &disp, 4);
		p += 4;
	}
	return p - start;
}

static void write_block(struct wild *w)
{
	uint8_t code[INSNS * 16];
	unsigned int n = 0;

	for (unsigned int k = 0; k < INSNS; k++)
		n += wild_insn(w, code + n);
	memcpy(code + n, "\x0f\x0b", 2);	/* ud2 */
	rig_code(w->rig, RIG_CODE, code, n + 2);
}

enum { USER = 1, NARROW = 2 };

static void set_state(struct wild *w, unsigned int kind)
{
	struct rig *r = w->rig;
	struct vcpu *v = r->v;
	bool user = kind & USER;

	rig_tables(r);
	map_alias(w);
	memset(r->ram + ALIAS_PAGE, 0x55, 0x1000);
	for (unsigned int i = 0; user && i < 512; i++)
		((uint64_t *)(r->ram + RIG_TABLES + 0x3000))[i] |= PTE_U;
	memcpy(r->ram + TSS_AT + 4, &(uint64_t){ RIG_STACK }, 8);
	v->shutdown = v->halted = v->wait_sipi = false;
	v->nmi_blocked = false;
	rig_state(r);
	v->tr = (struct segment){ .sel = 0x28, .attr = 0x8b, .limit = 103, .base = TSS_AT };
	if (user) {
		v->seg[SEG_CS] = (struct segment){ .sel = 0x23, .attr = 0x20fb, .limit = ~0U };
		v->seg[SEG_SS] = (struct segment){ .sel = 0x1b, .attr = 0xc0f3, .limit = ~0U };
	}
	if (kind & NARROW)
		v->seg[SEG_CS].attr = user ? 0xc0fb : 0xc09b;
	v->seg[SEG_FS].base = wild_address(w);
	v->seg[SEG_GS].base = wild_address(w);
	vcpu_update_mode(v);
	tlb_flush_all(v);
}

static void run_block(struct wild *w)
{
	struct vcpu *v = w->rig->v;
	int how;

	for (unsigned int reg = 0; reg < 16; reg++)
		v->gpr[reg] = wild_address(w);
	if (next(w) & 1)
		v->gpr[REG_RSP] = RIG_STACK;
	how = rig_run(w->rig, RIG_CODE);
	w->ended[how < 0 ? 33 : how]++;
}

static void check(struct wild *w, const void *wires, size_t wires_len)
{
	const struct dbt *d = dbt_of(w);

	for (unsigned int k = 0; k < CANARIES; k++) {
		const uint8_t *const c = w->canary[k];

		/* All are as the first. */
		if (c[0] == 0xc0 + k && !memcmp(c, c + 1, CANARY_BYTES - 1))
			continue;
		for (unsigned int i = 0; i < CANARY_BYTES; i++)
			if (c[i] != 0xc0 + k)
				fail_msg("canary %u was changed at %u", k, i);
	}
	if (checksum(d->rw, d->first - d->rw) != w->fixed)
		fail_msg("the fixed code was changed");
	assert_memory_equal(&w->rig->v->index, wires, wires_len);
}

static void test_wild(void **state)
{
	struct wild *w = *state;
	struct vcpu *v = w->rig->v;
	const size_t wires_len = offsetof(struct vcpu, engine_area) - offsetof(struct vcpu, index);
	const unsigned int rounds = getenv("LONG") ? 1000000 : 15000;
	uint8_t wires[512];

	assert_true(wires_len <= sizeof(wires));
	memcpy(wires, &v->index, wires_len);
	for (unsigned int n = 0; n < rounds; n++) {
		set_state(w, n % 4);
		write_block(w);
		for (unsigned int again = 0; again < 4; again++) {
			set_state(w, n % 4);
			run_block(w);
		}
		check(w, wires, wires_len);
	}
	print_message("ended by: #UD %u, #PF %u, #GP %u, #SS %u, #DF %u, other %u; %" PRIu64
		      " blocks, %" PRIu64 " host faults\n", w->ended[EXC_UD], w->ended[EXC_PF],
		      w->ended[EXC_GP], w->ended[EXC_SS], w->ended[EXC_DF], w->ended[33],
		      dbt_get_stats(dbt_of(w))->blocks, dbt_get_stats(dbt_of(w))->exits[REASON_SIGNAL]);
	assert_true(dbt_get_stats(dbt_of(w))->blocks > rounds / 2);
	assert_true(w->ended[EXC_PF] > rounds / 10);
}

/* rig_run, and on where the stopper interrupted it. */
static int run_to_end(struct wild *w)
{
	int end = rig_run(w->rig, RIG_CODE);

	while (end == -2 && !w->rig->v->shutdown)
		end = rig_run(w->rig, w->rig->v->rip);
	return end;
}

/* The guest's page at a canary's address is the guest's: stores go there, loads come from there. */
static void test_alias(void **state)
{
	struct wild *w = *state;
	struct vcpu *v = w->rig->v;

	for (unsigned int n = 0; n < 10; n++) {
		set_state(w, n % 2);
		/* mov rax, [rbx]; mov [rbx + 8], rcx; ud2 */
		rig_code(w->rig, RIG_CODE, "\x48\x8b\x03\x48\x89\x4b\x08\x0f\x0b", 9);
		v->gpr[REG_RBX] = (uint64_t)w->canary[VICTIM];
		v->gpr[REG_RCX] = n;
		assert_int_equal(run_to_end(w), EXC_UD);
		assert_int_equal(v->gpr[REG_RAX], 0x5555555555555555ULL);
		assert_int_equal(*(uint64_t *)(w->rig->ram + ALIAS_PAGE + 8), n);
		assert_int_equal(w->canary[VICTIM][8], 0xc0 + VICTIM);
	}
}

/*
 * RSP becomes an address without a window in a block that then ends before what cannot be
 * decoded: nothing of the block is done twice.
 */
static void test_stack_leaves_windows(void **state)
{
	struct wild *w = *state;
	struct vcpu *v = w->rig->v;

	for (unsigned int n = 0; n < 10; n++) {
		set_state(w, true);
		/*
		 * mov [rsi + 8], eax (which maps the page); inc ebx; xchg rsp, [rsi]; bytes that
		 * are no instruction
		 */
		rig_code(w->rig, RIG_CODE,
			 "\x89\x46\x08\xff\xc3\x48\x87\x26\x66\x41\x0f\x13\xcf", 13);
		*(uint64_t *)(w->rig->ram + RIG_DATA) = 0x1a2e0285583a5ec6;
		v->gpr[REG_RBX] = 0;
		v->gpr[REG_RSI] = RIG_DATA;
		v->gpr[REG_RSP] = RIG_DATA + 0x800;
		assert_int_equal(run_to_end(w), EXC_UD);
		assert_int_equal(v->gpr[REG_RBX], 1);
		assert_int_equal(*(uint64_t *)(w->rig->ram + RIG_DATA), RIG_DATA + 0x800);
	}
}

/* Never writable and executable at one address, and the cache's mappings are the only ones. */
static void test_w_xor_x(void **state)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], rights[8];

	(void)state;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %7s", rights) == 1 && rights[1] == 'w' && rights[2] == 'x')
			fail_msg("writable and executable: %s", line);
	fclose(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_wild), T(test_alias), T(test_stack_leaves_windows),
					    T(test_w_xor_x) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
