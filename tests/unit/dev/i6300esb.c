// SPDX-License-Identifier: Apache-2.0
/* The 6300ESB's watchdog: as Linux's driver programs it, and as nobody should. */
#include "dev_rig.h"

#include "dev/i6300esb.h"

#define ECAM	0xe0000000ULL
#define WINDOW	0xc0000000ULL
#define MS	1000000ULL

struct bench {
	struct rig rig;
	struct device *host, *wdt;
	struct probe intx;
	unsigned int bites;
	gpa_t bar;
};

static void bite(void *sink)
{
	((struct bench *)sink)->bites++;
}

static void cfg_wr(struct bench *b, unsigned int off, unsigned int size, uint32_t value)
{
	mmio_write(&b->rig.space, ECAM + (3 << 15) + off, size, value);
}

static uint32_t cfg_rd(struct bench *b, unsigned int off, unsigned int size)
{
	return mmio_read(&b->rig.space, ECAM + (3 << 15) + off, size);
}

static void bench_open(struct bench *b)
{
	const struct pci_host_wires host = {
		.ecam = ECAM, .memory = WINDOW, .memory_end = WINDOW + 0x1000000, .io = 0xd00,
	};
	const struct watchdog_wire wire = { .bite = bite, .sink = b };
	struct pci_wires w = { 0 };

	*b = (struct bench){ 0 };
	rig_init(&b->rig);
	w.space = &b->rig.space;
	w.intx = probe_line(&b->intx);
	assert_int_equal(pci_host_create(&b->host, &b->rig.space, &host, NULL), 0);
	assert_int_equal(i6300esb_create(&b->wdt, b->host, 3 << 3, &w, &b->rig.clock, &wire, NULL),
			 0);
	cfg_wr(b, 4, 2, 2);
	b->bar = cfg_rd(b, 0x10, 4) & ~15U;
}

static void bench_close(struct bench *b)
{
	b->wdt->ops->destroy(b->wdt);
	rig_destroy(&b->rig, b->host);
}

static void unlocked(struct bench *b, unsigned int off, unsigned int size, uint32_t value)
{
	mmio_write(&b->rig.space, b->bar + 0xc, 2, 0x80);
	mmio_write(&b->rig.space, b->bar + 0xc, 2, 0x86);
	mmio_write(&b->rig.space, b->bar + off, size, value);
}

/* Two seconds in all, in 1 kHz steps: 512 steps of 2^15 / 33 MHz a stage and second. */
static void set_two_seconds(struct bench *b)
{
	unlocked(b, 0, 4, 2 << 9);
	unlocked(b, 4, 4, 2 << 9);
	unlocked(b, 0xc, 2, 0x100);
}

static void test_identity(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	assert_int_equal(cfg_rd(&b, 0, 4), 0x25ab8086);
	assert_int_equal(cfg_rd(&b, 8, 4) >> 8, 0x088000);
	cfg_wr(&b, 0x60, 2, 0xffff);
	assert_int_equal(cfg_rd(&b, 0x60, 2), 0x27);
	cfg_wr(&b, 0x60, 2, 0x0003);
	assert_int_equal(cfg_rd(&b, 0x60, 4), 3);
	bench_close(&b);
}

static void test_bites(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	cfg_wr(&b, 0x60, 2, 0x0003);
	set_two_seconds(&b);
	clock_advance(&b.rig.clock, 5000 * MS);
	assert_int_equal(b.bites, 0);	/* not enabled */
	cfg_wr(&b, 0x68, 1, 2);
	for (unsigned int i = 0; i < 10; i++) {
		clock_advance(&b.rig.clock, 1900 * MS);
		unlocked(&b, 0xc, 2, 0x100);
	}
	assert_int_equal(b.bites, 0);
	clock_advance(&b.rig.clock, 2030 * MS);
	assert_int_equal(b.bites, 0);
	clock_advance(&b.rig.clock, 10 * MS);
	assert_int_equal(b.bites, 1);
	assert_int_equal(b.intx.rises, 0);
	clock_advance(&b.rig.clock, 5000 * MS);
	assert_int_equal(b.bites, 1);
	assert_int_equal(mmio_read(&b.rig.space, b.bar + 0xc, 2), 0x200);
	b.wdt->ops->reset(b.wdt);	/* the status tells the next system */
	cfg_wr(&b, 4, 2, 2);
	assert_int_equal(mmio_read(&b.rig.space, b.bar + 0xc, 2), 0x200);
	unlocked(&b, 0xc, 2, 0x200);
	assert_int_equal(mmio_read(&b.rig.space, b.bar + 0xc, 2), 0);
	bench_close(&b);
}

static void test_first_stage_interrupts(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	cfg_wr(&b, 0x60, 2, 0x0020);	/* INTx, no bite */
	set_two_seconds(&b);
	cfg_wr(&b, 0x68, 1, 2);
	clock_advance(&b.rig.clock, 1020 * MS);
	assert_true(b.intx.level);
	assert_int_equal(mmio_read(&b.rig.space, b.bar + 8, 4), 1);
	mmio_write(&b.rig.space, b.bar + 8, 4, 1);
	assert_false(b.intx.level);
	clock_advance(&b.rig.clock, 5000 * MS);
	assert_int_equal(b.bites, 0);
	assert_int_equal(mmio_read(&b.rig.space, b.bar + 0xc, 2), 0x200);
	bench_close(&b);
}

static void test_locks(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	mmio_write(&b.rig.space, b.bar, 4, 77);		/* without the sequence */
	assert_int_equal(mmio_read(&b.rig.space, b.bar, 4), 0xfffff);
	mmio_write(&b.rig.space, b.bar + 0xc, 2, 0x86);	/* its second half alone */
	mmio_write(&b.rig.space, b.bar, 4, 77);
	assert_int_equal(mmio_read(&b.rig.space, b.bar, 4), 0xfffff);
	unlocked(&b, 0, 4, 0xffffffff);
	mmio_write(&b.rig.space, b.bar + 4, 4, 5);	/* it is good for one write */
	assert_int_equal(mmio_read(&b.rig.space, b.bar, 4), 0xfffff);
	assert_int_equal(mmio_read(&b.rig.space, b.bar + 4, 4), 0xfffff);
	cfg_wr(&b, 0x68, 1, 3);
	cfg_wr(&b, 0x68, 1, 0);		/* locked: it cannot be stopped */
	assert_int_equal(cfg_rd(&b, 0x68, 1), 3);
	b.wdt->ops->reset(b.wdt);
	assert_int_equal(cfg_rd(&b, 0x68, 1), 0);
	bench_close(&b);
}

/* Preloads of nothing, free running: it does not hang, whatever is programmed. */
static void test_nonsense(void **state)
{
	uint64_t seed = 88172645463325252ULL;
	struct bench b;

	(void)state;
	bench_open(&b);
	unlocked(&b, 0, 4, 0);
	unlocked(&b, 4, 4, 0);
	cfg_wr(&b, 0x60, 2, 7);
	cfg_wr(&b, 0x68, 1, 6);
	clock_advance(&b.rig.clock, 1000 * MS);
	assert_int_equal(b.bites, 500);
	for (unsigned int i = 0; i < 20000; i++) {
		const uint64_t r = rig_random(&seed);
		const unsigned int size = 1U << (r >> 8) % 3;

		if (r % 4 == 0)
			cfg_wr(&b, 0x60 + ((r >> 16) % 12 & ~(size - 1)), size, r >> 32);
		else if (r % 4 == 1)
			unlocked(&b, (r >> 16) % 16 & ~(size - 1), size, r >> (32 + (r >> 20) % 32));
		else if (r % 4 == 2)
			mmio_read(&b.rig.space, b.bar + ((r >> 16) % 16 & ~(size - 1)), size);
		else
			clock_advance(&b.rig.clock, MS + (r >> 16) % (40 * MS));
	}
	b.wdt->ops->reset(b.wdt);
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_bites),
		cmocka_unit_test(test_first_stage_interrupts),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
