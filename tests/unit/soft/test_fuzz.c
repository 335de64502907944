// SPDX-License-Identifier: Apache-2.0
/*
 * Random bytes as guest code, at the highest privilege, in every mode: whatever they do,
 * the engine comes back for one of its reasons, and nothing of ours breaks.  Meant for a
 * build with sanitizers.  FUZZ_SEED repeats a run, LONG=1 makes it a hundred times longer.
 */
#include "soft_rig.h"
#include "unit.h"

#include <stdatomic.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define CODE_PAGES	4
#define RUNS		300

enum mode { LONG64, COMPAT, PROTECTED32, PROTECTED16, REAL, MODES };

struct fuzz {
	struct rig *r;
	uint64_t state;
	_Atomic bool done;
};

static uint64_t rnd(struct fuzz *f)
{
	f->state ^= f->state << 13;
	f->state ^= f->state >> 7;
	f->state ^= f->state << 17;
	return f->state;
}

/* Ends what would run for ever. */
static void *stopper(void *arg)
{
	struct fuzz *f = arg;

	while (!atomic_load(&f->done)) {
		usleep(3000);
		vcpu_attention(f->r->v, ATTN_STOP);
	}
	return NULL;
}

/* Random bytes, with more of the prefixes and opcodes that lead somewhere. */
static void fill_code(struct fuzz *f)
{
	static const uint8_t liked[] = { 0x0f, 0x66, 0xf2, 0xf3, 0x48, 0x4c, 0xf0, 0x64, 0x8b, 0x89,
		0xff, 0xc5, 0xc4, 0x62, 0xd9, 0xdd, 0xae, 0x01, 0x00, 0x22, 0x20, 0xcf, 0xcd, 0x8e };
	uint8_t *p = f->r->ram + RIG_CODE;

	for (unsigned int i = 0; i < CODE_PAGES * GUEST_PAGE_SIZE; i++)
		p[i] = rnd(f) % 3 ? rnd(f) : liked[rnd(f) % sizeof(liked)];
	gpa_write(&f->r->space, RIG_CODE, p, CODE_PAGES * GUEST_PAGE_SIZE);
}

static void fill_registers(struct fuzz *f)
{
	struct vcpu *v = f->r->v;

	for (unsigned int i = 0; i < 16; i++) {
		switch (rnd(f) % 4) {
		case 0: v->gpr[i] = rnd(f); break;
		case 1: v->gpr[i] = rnd(f) % 64; break;
		default: v->gpr[i] = RIG_CODE + rnd(f) % 0x30000; break;
		}
	}
	v->rflags = RFLAGS_FIXED | (rnd(f) & (RFLAGS_ARITH | RFLAGS_DF | RFLAGS_AC | RFLAGS_NT |
					      (rnd(f) % 8 ? 0 : RFLAGS_TF)));
}

static void set_mode(struct fuzz *f, enum mode m)
{
	struct vcpu *v = f->r->v;

	vcpu_reset(v, false);
	rig_tables(f->r);
	rig_state(f->r);
	if (m == COMPAT)
		v->seg[SEG_CS].attr = 0xc09b;
	if (m >= PROTECTED32) {
		v->efer = 0;
		v->cr0 &= ~CR0_PG;
		v->seg[SEG_CS].attr = m == PROTECTED32 ? 0xc09b : 0x809b;
	}
	if (m == REAL) {
		v->cr0 &= ~CR0_PE;
		for (unsigned int s = 0; s < 6; s++)
			v->seg[s] = (struct segment){ .sel = 0x2000, .base = 0x20000,
						      .limit = 0xffff, .attr = 0x93 };
	}
	fill_registers(f);
	vcpu_update_mode(v);
	tlb_flush_all(v);
}

/* Enters the code at one of few places again and again, so that some of it gets hot. */
static void run_once(struct fuzz *f, enum mode m)
{
	struct vcpu *v = f->r->v;
	enum vcpu_exit why;
	gva_t entry[4];

	fill_code(f);
	set_mode(f, m);
	for (unsigned int i = 0; i < ARRAY_SIZE(entry); i++)
		entry[i] = (m == REAL ? 0 : RIG_CODE) + rnd(f) % (CODE_PAGES * GUEST_PAGE_SIZE);
	do {
		v->rip = entry[rnd(f) % ARRAY_SIZE(entry)];
		v->halted = false;
		why = engine_soft.vcpu_run(f->r->engine, v);
	} while (why == VCPU_EXIT_HALT && rnd(f) % 256);
	assert_true(why == VCPU_EXIT_HALT || why == VCPU_EXIT_STOP || why == VCPU_EXIT_SHUTDOWN);
	assert_false(v->fpu_live);
}

static void test_random_code(void **state)
{
	const char *seed = getenv("FUZZ_SEED");
	unsigned int runs = RUNS * (getenv("LONG") ? 100 : 1);
	struct fuzz f = { .r = *state };
	pthread_t thread;

	f.state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761U + 1;
	print_message("FUZZ_SEED=%llu\n", (unsigned long long)f.state);
	assert_int_equal(trap_init(NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, stopper, &f), 0);
	for (unsigned int n = 0; n < runs; n++)
		run_once(&f, n % MODES);
	atomic_store(&f.done, true);
	pthread_join(thread, NULL);
	print_message("%llu instructions\n", (unsigned long long)f.r->v->stats.insns);
}

static int setup(void **state)
{
	*state = rig_create("host");
	return 0;
}

static int setup_translator(void **state)
{
	*state = rig_create_config("host", &(struct engine_config){ .translate = true });
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random_code, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_code, setup_translator, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
