// SPDX-License-Identifier: Apache-2.0
/*
 * Atomic operations and the order of memory accesses between processors.
 * Source: Intel SDM volume 3, "Locked Atomic Operations", "Memory Ordering" (its examples,
 * which are the usual litmus tests).
 */
#include "smp.h"
#include "paging.h"

#define N	20000
#define VA	0x40000000UL

static volatile struct { uint64_t a, b; } pair __attribute__((aligned(64)));
static volatile uint64_t cell[8] __attribute__((aligned(64)));
static volatile unsigned int lock_word;
static volatile uint64_t plain;
static volatile uint8_t *split;		/* crosses a cache line, or a page */

static void count(unsigned int cpu)
{
	(void)cpu;
	for (unsigned int i = 0; i < N; i++) {
		uint64_t one = 1;

		asm volatile("lock incb %0" : "+m" (*(volatile uint8_t *)&cell[0]));
		asm volatile("lock addw $1, %0" : "+m" (*(volatile uint16_t *)&cell[1]));
		asm volatile("lock subl $-1, %0" : "+m" (*(volatile uint32_t *)&cell[2]));
		asm volatile("lock xaddq %1, %0" : "+m" (cell[3]), "+r" (one));
	}
}

static void test_counters(void)
{
	uint64_t all = (uint64_t)N * smp_count;

	smp_run(count);
	check_eq(cell[0], all & 0xff, "lock-inc-8");
	check_eq(cell[1], all & 0xffff, "lock-add-16");
	check_eq(cell[2], all, "lock-sub-32");
	check_eq(cell[3], all, "lock-xadd-64");
}

static void add_compare(unsigned int cpu)
{
	(void)cpu;
	for (unsigned int i = 0; i < N; i++) {
		uint64_t old = cell[4], lo, hi;
		bool ok;

		do
			asm volatile("lock cmpxchgq %3, %1" : "+a" (old), "+m" (cell[4]), "=@ccz" (ok)
				     : "r" (old + 1));
		while (!ok);
		lo = pair.a;
		hi = pair.b;
		do
			asm volatile("lock cmpxchg16b %2" : "+a" (lo), "+d" (hi), "+m" (pair), "=@ccz" (ok)
				     : "b" (lo + 1), "c" (hi + 3));
		while (!ok);
	}
}

static void test_compare(void)
{
	smp_run(add_compare);
	check_eq(cell[4], (uint64_t)N * smp_count, "cmpxchg");
	check_eq(pair.a, (uint64_t)N * smp_count, "cmpxchg16b-low");
	check_eq(pair.b, 3ULL * N * smp_count, "cmpxchg16b-high");
}

/* XCHG locks without a prefix; the plain store that frees the lock is ordered. */
static void under_xchg(unsigned int cpu)
{
	(void)cpu;
	for (unsigned int i = 0; i < N / 4; i++) {
		unsigned int taken = 1;

		for (;;) {
			asm volatile("xchgl %0, %1" : "+r" (taken), "+m" (lock_word) : : "memory");
			if (!taken)
				break;
			pause();
		}
		plain++;
		asm volatile("" : : : "memory");
		lock_word = 0;
	}
}

static void under_bts(unsigned int cpu)
{
	bool taken;

	(void)cpu;
	for (unsigned int i = 0; i < N / 4; i++) {
		for (;;) {
			asm volatile("lock btsl $5, %0" : "+m" (lock_word), "=@ccc" (taken) : : "memory");
			if (!taken)
				break;
			pause();
		}
		plain++;
		asm volatile("lock btrl $5, %0" : "+m" (lock_word) : : "memory");
	}
}

static void test_locks(void)
{
	smp_run(under_xchg);
	check_eq(plain, (uint64_t)N / 4 * smp_count, "spinlock-xchg");
	plain = 0;
	smp_run(under_bts);
	check_eq(plain, (uint64_t)N / 4 * smp_count, "spinlock-bts");
}

/*
 * Half of the processors add to the 8 bytes across the border, the others to the 4 bytes
 * behind it alone: both see each other.
 */
static void add_split(unsigned int cpu)
{
	for (unsigned int i = 0; i < N / 20; i++)
		if (cpu % 2)
			asm volatile("lock incl %0" : "+m" (*(volatile uint32_t *)(split + 4)));
		else
			asm volatile("lock incq %0" : "+m" (*(volatile uint64_t *)split));
}

static void check_split(const char *name)
{
	unsigned int odd = smp_count / 2, even = smp_count - odd;

	*(volatile uint64_t *)split = 0;
	smp_run(add_split);
	check_eq(*(volatile uint64_t *)split, (uint64_t)(N / 20) * even + ((uint64_t)(N / 20) * odd << 32),
		 name);
}

static void test_split(void)
{
	split = (volatile uint8_t *)cell + 60;
	check_split("split-cache-line");
	void *a = page_alloc(), *b;

	page_alloc();
	b = page_alloc();
	page_map(VA, (ulong)b, P_P | P_W);
	page_map(VA + 4096, (ulong)a, P_P | P_W);
	split = (volatile uint8_t *)VA + 4092;
	check_split("split-page");
}

/* --- litmus tests: two or four threads run through arrays of independent cells --- */

#define CELLS	512
#define ROUNDS	15

static volatile struct { uint32_t x, pad[15], y, pad2[15]; } litmus[CELLS] __attribute__((aligned(64)));
static volatile uint32_t seen[4][CELLS];
static unsigned int forbidden, relaxed;
static void (*litmus_step)(unsigned int cpu, unsigned int i);

static void run_litmus(unsigned int cpu)
{
	for (unsigned int round = 0; round < ROUNDS; round++) {
		if (!cpu)
			for (unsigned int i = 0; i < CELLS; i++)
				litmus[i].x = litmus[i].y = 0;
		smp_barrier();
		if (cpu < 4)
			for (unsigned int i = 0; i < CELLS; i++)
				litmus_step(cpu, i);
		smp_barrier();
		for (unsigned int i = 0; !cpu && i < CELLS; i++) {
			if (litmus_step == NULL)
				continue;
			if (!seen[0][i] && !seen[1][i])
				relaxed++;
			if (seen[2][i] == 99)
				forbidden++;
		}
		smp_barrier();
	}
}

/* Store buffering: allowed, unless a fence or a locked instruction stands in between. */
static void sb_plain(unsigned int cpu, unsigned int i)
{
	if (cpu == 0) {
		litmus[i].x = 1;
		seen[0][i] = litmus[i].y;
	} else if (cpu == 1) {
		litmus[i].y = 1;
		seen[1][i] = litmus[i].x;
	}
}

static void sb_fence(unsigned int cpu, unsigned int i)
{
	if (cpu == 0) {
		litmus[i].x = 1;
		asm volatile("mfence" : : : "memory");
		seen[0][i] = litmus[i].y;
	} else if (cpu == 1) {
		litmus[i].y = 1;
		asm volatile("mfence" : : : "memory");
		seen[1][i] = litmus[i].x;
	}
}

static void sb_xchg(unsigned int cpu, unsigned int i)
{
	uint32_t one = 1;

	if (cpu == 0) {
		asm volatile("xchgl %0, %1" : "+r" (one), "+m" (litmus[i].x) : : "memory");
		seen[0][i] = litmus[i].y;
	} else if (cpu == 1) {
		asm volatile("xchgl %0, %1" : "+r" (one), "+m" (litmus[i].y) : : "memory");
		seen[1][i] = litmus[i].x;
	}
}

/* Message passing: who sees the flag sees what was stored before it. */
static void message(unsigned int cpu, unsigned int i)
{
	if (cpu == 0) {
		litmus[i].x = 1;
		litmus[i].y = 1;
	} else if (cpu == 1) {
		uint32_t flag = litmus[i].y, data = litmus[i].x;

		seen[2][i] = flag && !data ? 99 : 0;
	}
}

/* Loads are not reordered with later stores. */
static void load_buffering(unsigned int cpu, unsigned int i)
{
	if (cpu == 0) {
		seen[0][i] = litmus[i].x;
		litmus[i].y = 1;
	} else if (cpu == 1) {
		seen[1][i] = litmus[i].y;
		litmus[i].x = 1;
	}
}

static void litmus_run(void (*step)(unsigned int, unsigned int))
{
	litmus_step = step;
	forbidden = relaxed = 0;
	memset((void *)seen, 0, sizeof(seen));
	smp_run(run_litmus);
}

static void test_order(void)
{
	litmus_run(sb_plain);
	print("# store buffering was seen %d times\n", relaxed);
	litmus_run(sb_fence);
	check_eq(relaxed, 0, "store-buffering-mfence");
	litmus_run(sb_xchg);
	check_eq(relaxed, 0, "store-buffering-xchg");
	litmus_run(message);
	check_eq(forbidden, 0, "message-passing");
}

static void lb_check(unsigned int cpu)
{
	for (unsigned int round = 0; round < ROUNDS; round++) {
		if (!cpu)
			for (unsigned int i = 0; i < CELLS; i++)
				litmus[i].x = litmus[i].y = 0;
		smp_barrier();
		for (unsigned int i = 0; i < CELLS && cpu < 2; i++)
			load_buffering(cpu, i);
		smp_barrier();
		for (unsigned int i = 0; i < CELLS && !cpu; i++)
			forbidden += seen[0][i] && seen[1][i];
		smp_barrier();
	}
}

/* Naturally aligned accesses are whole. */
static volatile uint64_t whole __attribute__((aligned(64)));
static volatile bool stop;
static volatile unsigned int torn;

static void tear(unsigned int cpu)
{
	if (!cpu) {
		for (unsigned int i = 0; i < 20 * N; i++)
			whole = i % 2 ? ~0ULL : 0;
		stop = true;
		return;
	}
	while (!stop) {
		uint64_t v = whole;

		if (v != 0 && v != ~0ULL)
			torn++;
	}
}

void guest_main(void)
{
	check(smp_init() > 1, "others-start", "only %d", smp_count);
	test_counters();
	test_compare();
	test_locks();
	test_split();
	test_order();
	forbidden = 0;
	smp_run(lb_check);
	check_eq(forbidden, 0, "load-buffering");
	smp_run(tear);
	check_eq(torn, 0, "aligned-accesses-are-whole");
}
