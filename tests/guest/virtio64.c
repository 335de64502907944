// SPDX-License-Identifier: Apache-2.0
/*
 * A driver of virtio-rng over PCI: requests that are rung in at a doorbell and answered by an
 * MSI-X interrupt, while the BAR moves, messages change and wait, and the device is reset.
 * Source: VIRTIO 1.2, "Virtio Over PCI Bus", "Entropy Device"; PCI Local Bus Specification 3.0,
 * "MSI-X Capability and Table Structures".
 */
#include "guest.h"
#include "paging.h"

#define DEVICE		0x10441af4	/* virtio-rng, modern */
#define APIC		0xfee00000UL
#define REGS		0x60000000UL	/* where we map its BARs */
#define TABLE		0x60100000UL
#define REGS_SIZE	0x4000
#define FIRST_VECTOR	0x40
#define SECOND_VECTOR	0x50
#define REQUESTS	60		/* ten times as many with "many" on the command line */
#define QUEUE_SIZE	8
#define BUFFER		64
#define PATIENCE	3000000		/* turns: a move between engines may make the TSC leap */

static struct {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
} desc[QUEUE_SIZE] __attribute__((aligned(4096)));
static struct { volatile uint16_t flags, index, ring[QUEUE_SIZE]; } avail __attribute__((aligned(4096)));
static struct {
	volatile uint16_t flags, index;
	struct { uint32_t id, len; } ring[QUEUE_SIZE];
} used __attribute__((aligned(4096)));
static uint8_t buffer[BUFFER] __attribute__((aligned(64)));

static unsigned int devfn, bar_regs, bar_table, msix;
static uint32_t common, notify, notify_step, table_at;
static volatile unsigned int fired[256];
static unsigned int requests = REQUESTS;

/* --- configuration space --- */

static void config_select(unsigned int off)
{
	outl(0xcf8, 0x80000000 | devfn << 8 | (off & ~3U));
}

static uint32_t config_read(unsigned int off)
{
	uint32_t v;

	config_select(off);
	asm volatile("inl %1, %0" : "=a" (v) : "Nd" ((uint16_t)0xcfc));
	return v >> 8 * (off & 3);
}

static void config_write(unsigned int off, uint32_t value)
{
	config_select(off);
	outl(0xcfc, value);
}

static bool find_device(void)
{
	for (devfn = 0; devfn < 256; devfn += 8)
		if (config_read(0) == DEVICE)
			return true;
	return false;
}

static uint64_t bar_address(unsigned int n)
{
	uint64_t at = config_read(0x10 + 4 * n);

	if ((at & 6) == 4)
		at |= (uint64_t)config_read(0x14 + 4 * n) << 32;
	return at & ~15ULL;
}

static void find_structures(void)
{
	for (unsigned int at = config_read(0x34) & 0xfc; at; at = config_read(at + 1) & 0xfc) {
		const unsigned int id = config_read(at) & 0xff, type = config_read(at + 3) & 0xff;

		if (id == 0x11) {
			msix = at;
			bar_table = config_read(at + 4) & 7;
			table_at = config_read(at + 4) & ~7U;
		} else if (id == 9 && type == 1) {
			bar_regs = config_read(at + 4) & 0xff;
			common = config_read(at + 8);
		} else if (id == 9 && type == 2) {
			notify = config_read(at + 8);
			notify_step = config_read(at + 16);
		}
	}
}

static void map_bars(void)
{
	const uint64_t regs = bar_address(bar_regs), table = bar_address(bar_table);

	for (unsigned int i = 0; i < REGS_SIZE; i += 4096) {
		page_map(REGS + i, regs + i, P_P | P_W);
		invlpg((void *)(REGS + i));
	}
	page_map(TABLE, table + (table_at & ~4095U), P_P | P_W);
	invlpg((void *)TABLE);
}

/* --- registers --- */

static void write8(uint32_t off, uint8_t v) { *(volatile uint8_t *)(REGS + off) = v; }
static void write16(uint32_t off, uint16_t v) { *(volatile uint16_t *)(REGS + off) = v; }
static void write32(uint32_t off, uint32_t v) { *(volatile uint32_t *)(REGS + off) = v; }
static uint8_t read8(uint32_t off) { return *(volatile uint8_t *)(REGS + off); }
static uint16_t read16(uint32_t off) { return *(volatile uint16_t *)(REGS + off); }

static void write_address(uint32_t off, const volatile void *p)
{
	write32(off, (ulong)p);
	write32(off + 4, 0);
}

static volatile uint32_t *entry(unsigned int word)
{
	return (volatile uint32_t *)(TABLE + table_at % 4096 + 4 * word);
}

static void set_message(unsigned int vector)
{
	*entry(3) = 1;
	*entry(0) = APIC;
	*entry(1) = 0;
	*entry(2) = vector;
	*entry(3) = 0;
}

static void start_device(unsigned int vector)
{
	memset(desc, 0, sizeof(desc));
	memset((void *)&avail, 0, sizeof(avail));
	memset((void *)&used, 0, sizeof(used));
	write8(common + 0x14, 1);
	write8(common + 0x14, 3);
	write32(common + 0x08, 1);		/* bit 32: VERSION_1 */
	write32(common + 0x0c, 1);
	write32(common + 0x08, 0);
	write32(common + 0x0c, 0);
	write8(common + 0x14, 11);
	set_message(vector);
	config_write(msix, config_read(msix) | 0x80000000);
	write16(common + 0x16, 0);
	write16(common + 0x18, QUEUE_SIZE);
	write16(common + 0x1a, 0);
	write_address(common + 0x20, desc);
	write_address(common + 0x28, &avail);
	write_address(common + 0x30, &used);
	write16(common + 0x1c, 1);
	write8(common + 0x14, 15);
}

/* --- requests --- */

static void on_interrupt(struct regs *r)
{
	fired[r->vector]++;
	*(volatile uint32_t *)(APIC + 0xb0) = 0;
}

static void ring(void)
{
	desc[0].addr = (ulong)buffer;
	desc[0].len = BUFFER;
	desc[0].flags = 2;
	avail.ring[avail.index % QUEUE_SIZE] = 0;
	asm volatile("" : : : "memory");
	avail.index++;
	asm volatile("mfence" : : : "memory");
	write16(notify + read16(common + 0x1e) * notify_step, 0);
}

/* Until @vector came once more than @before. */
static bool wait_for(unsigned int vector, unsigned int before)
{
	for (unsigned int i = 0; fired[vector] == before && i < PATIENCE; i++)
		asm volatile("sti; nop; cli" : : : "memory");
	return fired[vector] != before;
}

static void say_what_waits(unsigned int vector)
{
	const unsigned int reg = vector / 32 * 16;

	print("# rung %u, answered %u; IRR %x, ISR %x, TPR %x\n", avail.index, used.index,
	      *(volatile uint32_t *)(APIC + 0x200 + reg), *(volatile uint32_t *)(APIC + 0x100 + reg),
	      *(volatile uint32_t *)(APIC + 0x80));
}

static unsigned int answered(unsigned int vector, unsigned int count)
{
	unsigned int good = 0;

	for (unsigned int i = 0; i < count; i++) {
		const unsigned int before = fired[vector];
		const uint16_t index = used.index;
		uint64_t sum = 0;

		memset(buffer, 0, BUFFER);
		ring();
		if (!wait_for(vector, before)) {
			say_what_waits(vector);
			return good;
		}
		for (unsigned int k = 0; k < BUFFER; k++)
			sum += buffer[k];
		good += sum && used.index == (uint16_t)(index + 1);
	}
	return good;
}

/* --- what may change under way --- */

static void test_bar_moves(void)
{
	const uint64_t old = bar_address(bar_regs);
	const uint32_t command = config_read(4) & 0xffff;
	/* A BAR of 16 KiB; the next place of that size that nobody has is in the next MiB. */
	const uint64_t there = old + 0x100000;

	config_write(4, command & ~2U);
	config_write(0x10 + 4 * bar_regs, there);
	config_write(4, command);
	map_bars();
	check_eq(bar_address(bar_regs), there, "bar-moved");
	check_eq(answered(FIRST_VECTOR, requests), requests, "rings-at-its-new-place");
	config_write(4, command & ~2U);
	config_write(0x10 + 4 * bar_regs, old);
	config_write(4, command);
	map_bars();
	check_eq(answered(FIRST_VECTOR, requests), requests, "rings-where-it-was");
}

static void test_message_changes(void)
{
	const unsigned int first = fired[FIRST_VECTOR];

	set_message(SECOND_VECTOR);
	check_eq(answered(SECOND_VECTOR, 20), 20, "another-vector");
	check_eq(fired[FIRST_VECTOR], first, "not-the-old-vector");
	set_message(FIRST_VECTOR);
	check_eq(answered(FIRST_VECTOR, 20), 20, "the-first-vector-again");
}

static void test_message_waits(void)
{
	const unsigned int before = fired[FIRST_VECTOR];
	const uint16_t index = used.index;
	*entry(3) = 1;
	ring();
	for (unsigned int i = 0; used.index == index && i < PATIENCE; i++)
		asm volatile("sti; nop; cli" : : : "memory");
	check(used.index != index && fired[FIRST_VECTOR] == before, "masked", "%u",
	      fired[FIRST_VECTOR] - before);
	*entry(3) = 0;
	check(wait_for(FIRST_VECTOR, before), "unmasked", "nothing came");
}

static void test_reset(void)
{
	write8(common + 0x14, 0);
	while (read8(common + 0x14))
		;
	start_device(SECOND_VECTOR);
	check_eq(answered(SECOND_VECTOR, requests), requests, "after-a-reset");
}

void guest_main(void)
{
	if (guest_told("many"))
		requests *= 10;
	page_map(APIC, APIC, P_P | P_W);
	*(volatile uint32_t *)(APIC + 0xf0) = 0x1ff;
	set_handler(FIRST_VECTOR, on_interrupt);
	set_handler(SECOND_VECTOR, on_interrupt);
	if (!check(find_device(), "device", "no virtio-rng"))
		return;
	find_structures();
	config_write(4, (config_read(4) & 0xffff) | 6);
	map_bars();
	start_device(FIRST_VECTOR);
	check_eq(answered(FIRST_VECTOR, requests), requests, "requests");
	test_bar_moves();
	test_message_changes();
	test_message_waits();
	test_reset();
}
