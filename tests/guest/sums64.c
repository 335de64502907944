// SPDX-License-Identifier: Apache-2.0
/*
 * A checksum that goes on from itself: each round takes the CRC-32 of a page, from the sum so
 * far, and writes the sum into the page.  The APIC's timer interrupts it all the while, and
 * the time-stamp counter must not go back.
 *
 * Alone it makes a few rounds, whose sum is known.  With "until q" on its command line it goes
 * on until it is sent a q, and prints "sum ROUNDS CRC" now and then, for a host that does what
 * a guest must not notice meanwhile (tests/kvm/set_engine.py).
 */
#include "guest.h"
#include "paging.h"

#define COM1		0x3f8
#define PAGE		4096
#define ROUNDS		20
#define SUM		0xf721e57f
#define PRINT_EVERY	(1ULL << 26)	/* of the time-stamp counter */
#define APIC		0xfee00000UL
#define VECTOR		0x40

static uint32_t table[256];
static uint8_t page[PAGE];
static volatile uint32_t ticks;
static uint32_t backwards;
static uint64_t last_tsc;

static volatile uint32_t *apic(unsigned int reg)
{
	return (volatile uint32_t *)(APIC + reg);
}

static void tick(struct regs *r)
{
	(void)r;
	ticks++;
	*apic(0xb0) = 0;
}

static void start_timer(void)
{
	page_map(APIC, APIC, P_P | P_W);
	set_handler(VECTOR, tick);
	*apic(0xf0) = 0x1ff;
	*apic(0x3e0) = 0x0b;		/* by 1 */
	*apic(0x320) = 0x20000 | VECTOR;
	*apic(0x380) = 100000;
	asm volatile("sti");
}

static void make_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (unsigned int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
		table[i] = c;
	}
	for (unsigned int i = 0; i < PAGE; i++)
		page[i] = i ^ i >> 8;
}

/* Round @n on top of @sum. */
static uint32_t one_round(uint32_t sum, uint32_t n)
{
	uint32_t c = ~sum;

	for (unsigned int i = 0; i < PAGE; i++)
		c = table[(uint8_t)(c ^ page[i])] ^ c >> 8;
	memcpy(page + n * 4 % PAGE, &(uint32_t){ ~c }, 4);
	return ~c;
}

static uint64_t look_at_tsc(void)
{
	const uint64_t now = rdtsc();

	if (now < last_tsc)
		backwards++;
	last_tsc = now;
	return now;
}

static bool told_to_stop(void)
{
	return inb(COM1 + 5) & 1 && inb(COM1) == 'q';
}

static void until_q(void)
{
	uint64_t due = 0;
	uint32_t sum = 0, n = 0;
	bool stop = false;

	while (!stop) {
		sum = one_round(sum, n++);
		if (look_at_tsc() < due)
			continue;
		due = last_tsc + PRINT_EVERY;
		stop = told_to_stop();
		print("sum %u %x\n", n, sum);
	}
}

void guest_main(void)
{
	uint32_t sum = 0;

	make_table();
	start_timer();
	if (guest_told("until q")) {
		until_q();
	} else {
		for (uint32_t n = 0; n < ROUNDS; n++) {
			sum = one_round(sum, n);
			look_at_tsc();
		}
		check_eq(sum, SUM, "sum");
	}
	for (uint32_t i = 0; i < 100000000 && !ticks; i++)
		asm volatile("pause");
	asm volatile("cli");
	check(ticks > 0, "timer-ticks", "none");
	check_eq(backwards, 0, "tsc-forward");
}
