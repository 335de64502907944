// SPDX-License-Identifier: Apache-2.0
/*
 * PCI functions: sizing and moving BARs of each kind, BARs in each other's way, capabilities,
 * MSI-X with its masks and pending bits, INTx, resets and unplugging.
 */
#include "dev_rig.h"

#include "dev/pci.h"

#include <errno.h>
#include <string.h>

#define ECAM	0xe0000000ULL
#define WINDOW	0xc0000000ULL

struct bench {
	struct rig rig;
	struct device *host;
	struct pci_function f[2];
	struct probe intx;
	unsigned int messages;
	uint64_t msg_addr;
	uint32_t msg_data;
	uint64_t written;
};

static uint64_t regs_read(void *dev, uint64_t off, unsigned int size)
{
	(void)dev;
	(void)size;
	return 0x1000 + off;
}

static void regs_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	(void)off;
	(void)size;
	((struct bench *)dev)->written = value;
}

static const struct io_ops regs_io = { .read = regs_read, .write = regs_write };

static void message(void *sink, uint64_t addr, uint32_t data)
{
	struct bench *b = sink;

	b->messages++;
	b->msg_addr = addr;
	b->msg_data = data;
}

static const struct pci_ident ident = {
	.name = "test", .vendor = 0x1234, .device = 0x5678, .subsystem_vendor = 0x9abc,
	.subsystem = 0xdef0, .class_code = 0x020000, .revision = 7,
};

static void add_function(struct bench *b, unsigned int i)
{
	const struct pci_wires w = {
		.space = &b->rig.space, .msi = { .send = message, .sink = b },
		.intx = probe_line(&b->intx),
	};
	struct pci_function *f = &b->f[i];

	pci_function_init(f, &ident, &w);
	pci_add_bar(f, 0, PCI_BAR_MEM64, 0x4000, &regs_io, b);
	pci_add_bar(f, 2, PCI_BAR_MEM32, 0x1000, &regs_io, b);
	pci_add_bar(f, 3, PCI_BAR_IO, 0x20, &regs_io, b);
	assert_int_equal(pci_add_capability(f, PCI_CAP_VENDOR, 6), 0x40);
	assert_int_equal(pci_add_msix(f, 4, 70, NULL), 0);
	assert_int_equal(pci_plug(b->host, PCI_DEVFN(1 + i, 0), f, NULL), 0);
}

static void init(struct bench *b)
{
	const struct pci_host_wires wires = {
		.ecam = ECAM, .memory = WINDOW, .memory_end = ECAM, .io = 0xd00,
	};

	memset(b, 0, sizeof(*b));
	rig_init(&b->rig);
	assert_int_equal(pci_host_create(&b->host, &b->rig.space, &wires, NULL), 0);
	assert_int_equal(pci_host_free_slot(b->host), 1);
	add_function(b, 0);
	add_function(b, 1);
	assert_int_equal(pci_host_free_slot(b->host), 3);
}

static void done(struct bench *b)
{
	pci_function_destroy(&b->f[0]);
	pci_function_destroy(&b->f[1]);
	rig_destroy(&b->rig, b->host);
}

static uint32_t rd(struct bench *b, unsigned int fn, unsigned int off, unsigned int size)
{
	return mmio_read(&b->rig.space, ECAM + ((fn + 1) << 15) + off, size);
}

static void wr(struct bench *b, unsigned int fn, unsigned int off, unsigned int size, uint32_t v)
{
	mmio_write(&b->rig.space, ECAM + ((fn + 1) << 15) + off, size, v);
}

static bool answers(struct bench *b, gpa_t at)
{
	return mmio_read(&b->rig.space, at + 4, 4) == 0x1004;
}

static void test_header(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(rd(&b, 0, 0, 4), 0x56781234);
	assert_int_equal(rd(&b, 0, 8, 4), 0x02000007);
	assert_int_equal(rd(&b, 0, 0x2c, 4), 0xdef09abc);
	assert_int_equal(rd(&b, 0, 0x3c, 4), 0x100);
	assert_int_equal(rd(&b, 0, 6, 2), 0x10);
	assert_int_equal(rd(&b, 0, 0x100, 4), 0);
	/* What is read-only stays. */
	for (unsigned int off = 0; off < 0x1000; off += 4)
		if (off < 0x10 || off >= 0x28)
			wr(&b, 0, off, 4, UINT32_MAX);
	assert_int_equal(rd(&b, 0, 0, 4), 0x56781234);
	assert_int_equal(rd(&b, 0, 8, 4), 0x02000007);
	assert_int_equal(rd(&b, 0, 4, 4), 0x00100547);
	assert_int_equal(rd(&b, 0, 0x34, 1), 0x40);
	assert_int_equal(rd(&b, 0, 0x40, 2), 0x4809);
	assert_int_equal(rd(&b, 0, 0x48, 2), 0x0011);
	assert_int_equal(rd(&b, 0, 0x3c, 4), 0x1ff);
	done(&b);
}

static void test_homes_and_sizes(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(rd(&b, 0, 0x10, 4), WINDOW | 4);
	assert_int_equal(rd(&b, 0, 0x14, 4), 0);
	assert_int_equal(rd(&b, 0, 0x18, 4), WINDOW + 0x4000);
	assert_int_equal(rd(&b, 0, 0x1c, 4), 0xd01);
	assert_int_equal(rd(&b, 1, 0x10, 4), (WINDOW + 0x8000) | 4);
	assert_int_equal(rd(&b, 1, 0x1c, 4), 0xd21);
	/* Not decoded yet. */
	assert_false(answers(&b, WINDOW));
	for (unsigned int off = 0x10; off < 0x28; off += 4)
		wr(&b, 0, off, 4, UINT32_MAX);
	assert_int_equal(rd(&b, 0, 0x10, 4), 0xffffc004);
	assert_int_equal(rd(&b, 0, 0x14, 4), 0xffffffff);
	assert_int_equal(rd(&b, 0, 0x18, 4), 0xfffff000);
	assert_int_equal(rd(&b, 0, 0x1c, 4), 0xffffffe1);
	assert_int_equal(rd(&b, 0, 0x20, 4), 0xfffff000);
	assert_int_equal(rd(&b, 0, 0x24, 4), 0);
	done(&b);
}

static void test_decode(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0, 4, 2, 2);
	assert_true(answers(&b, WINDOW));
	assert_true(answers(&b, WINDOW + 0x4000));
	assert_int_equal(pio_read(&b.rig.space, 0xd04, 4), UINT32_MAX);
	wr(&b, 0, 4, 2, 1);
	assert_false(answers(&b, WINDOW));
	assert_int_equal(pio_read(&b.rig.space, 0xd04, 4), 0x1004);
	wr(&b, 0, 4, 2, 0);
	assert_int_equal(pio_read(&b.rig.space, 0xd04, 4), UINT32_MAX);
	done(&b);
}

static void test_moves(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0, 4, 2, 3);
	/* Above 4 GiB, in two steps, with a place in between. */
	wr(&b, 0, 0x10, 4, 0xd0000000);
	assert_false(answers(&b, WINDOW));
	assert_true(answers(&b, 0xd0000000));
	wr(&b, 0, 0x14, 4, 0x2000);
	assert_true(answers(&b, 0x2000d0000000));
	assert_false(answers(&b, 0xd0000000));
	/* By bytes, and low bits that are not there. */
	wr(&b, 0, 0x1b, 1, 0xd1);
	assert_true(answers(&b, 0xd1004000));
	wr(&b, 0, 0x18, 4, 0xd2000fff);
	assert_true(answers(&b, 0xd2000000));
	wr(&b, 0, 0x1c, 4, 0x2000);
	assert_int_equal(pio_read(&b.rig.space, 0x2004, 1), 0x04);
	/* Nowhere: beyond the address space, beyond the ports, zero. */
	wr(&b, 0, 0x14, 4, 0x80000000);
	wr(&b, 0, 0x1c, 4, 0x12000);
	wr(&b, 0, 0x18, 4, 0);
	assert_int_equal(b.rig.space.pio_count, 2);
	wr(&b, 0, 0x14, 4, 0);
	wr(&b, 0, 0x10, 4, WINDOW);
	assert_true(answers(&b, WINDOW));
	done(&b);
}

static void test_in_the_way(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0, 4, 2, 2);
	wr(&b, 1, 4, 2, 2);
	/* On top of the other's, half over it, over the ECAM window: it answers nowhere. */
	wr(&b, 1, 0x10, 4, WINDOW);
	wr(&b, 1, 0x18, 4, WINDOW + 0x3000);
	mmio_write(&b.rig.space, WINDOW, 4, 77);
	assert_int_equal(b.written, 77);
	wr(&b, 1, 0x10, 4, ECAM);
	assert_int_equal(rd(&b, 0, 0, 4), 0x56781234);
	/* And does again when there is room. */
	wr(&b, 1, 0x10, 4, 0xd0000000);
	assert_true(answers(&b, 0xd0000000));
	assert_true(answers(&b, WINDOW));
	/* Two of one function change places, as far as the order of writes lets them. */
	wr(&b, 0, 4, 2, 0);
	wr(&b, 0, 0x18, 4, WINDOW);
	wr(&b, 0, 0x10, 4, WINDOW + 0x4000);
	wr(&b, 0, 4, 2, 2);
	assert_true(answers(&b, WINDOW));
	assert_true(answers(&b, WINDOW + 0x4000));
	done(&b);
}

/* --- MSI-X --- */

static gpa_t table_of(struct bench *b)
{
	return rd(b, 0, 0x20, 4);
}

static void set_entry(struct bench *b, unsigned int v, uint64_t addr, uint32_t data, uint32_t ctl)
{
	gpa_t at = table_of(b) + 16 * v;

	mmio_write(&b->rig.space, at, 8, addr);
	mmio_write(&b->rig.space, at + 8, 4, data);
	mmio_write(&b->rig.space, at + 12, 4, ctl);
}

static bool pending(struct bench *b, unsigned int v)
{
	return mmio_read(&b->rig.space, table_of(b) + 0x800 + v / 32 * 4, 4) >> (v % 32) & 1;
}

static void test_msix(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0, 4, 2, 6);
	assert_int_equal(rd(&b, 0, 0x4a, 2), 69);
	assert_int_equal(rd(&b, 0, 0x4c, 4), 4);
	assert_int_equal(rd(&b, 0, 0x50, 4), 0x804);
	assert_int_equal(mmio_read(&b.rig.space, table_of(&b) + 12, 4), 1);
	/* Not enabled: there is no such thing. */
	pci_msix_send(&b.f[0], 0);
	assert_false(pending(&b, 0));
	wr(&b, 0, 0x4a, 2, 0x8000);
	set_entry(&b, 65, 0xfee01000, 0x41, 0);
	pci_msix_send(&b.f[0], 65);
	assert_int_equal(b.messages, 1);
	assert_true(b.msg_addr == 0xfee01000);
	assert_int_equal(b.msg_data, 0x41);
	/* Masked alone, masked all, no master: pending, and sent once. */
	set_entry(&b, 65, 0xfee02000, 0x42, 1);
	pci_msix_send(&b.f[0], 65);
	pci_msix_send(&b.f[0], 65);
	assert_int_equal(b.messages, 1);
	assert_true(pending(&b, 65));
	set_entry(&b, 65, 0xfee02000, 0x43, 0);
	assert_int_equal(b.messages, 2);
	assert_int_equal(b.msg_data, 0x43);
	assert_false(pending(&b, 65));
	wr(&b, 0, 0x4a, 2, 0xc000);
	pci_msix_send(&b.f[0], 65);
	wr(&b, 0, 4, 2, 2);
	wr(&b, 0, 0x4a, 2, 0x8000);
	assert_int_equal(b.messages, 2);
	wr(&b, 0, 4, 2, 6);
	assert_int_equal(b.messages, 3);
	/* Out of range, and accesses that are not words. */
	pci_msix_send(&b.f[0], 70);
	pci_msix_send(&b.f[0], UINT32_MAX);
	set_entry(&b, 70, 1, 1, 0);
	mmio_write(&b.rig.space, table_of(&b) + 2, 2, 0xffff);
	mmio_write(&b.rig.space, table_of(&b) + 0x800, 8, UINT64_MAX);
	mmio_write(&b.rig.space, table_of(&b) + 0xffc, 4, UINT32_MAX);
	assert_int_equal(mmio_read(&b.rig.space, table_of(&b) + 0xff8, 8), 0);
	assert_int_equal(b.messages, 3);
	assert_false(pending(&b, 0));
	done(&b);
}

static void test_intx(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	pci_intx(&b.f[0], true);
	assert_true(b.intx.level);
	assert_int_equal(rd(&b, 0, 6, 1), 0x18);
	assert_int_equal(rd(&b, 0, 4, 4), 0x00180000);
	assert_int_equal(rd(&b, 0, 7, 1), 0);
	wr(&b, 0, 4, 2, 0x400);
	assert_false(b.intx.level);
	wr(&b, 0, 4, 2, 0);
	assert_true(b.intx.level);
	wr(&b, 0, 0x4a, 2, 0x8000);
	assert_false(b.intx.level);
	wr(&b, 0, 0x4a, 2, 0);
	pci_intx(&b.f[0], false);
	assert_false(b.intx.level);
	done(&b);
}

static void test_reset_and_unplug(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0, 4, 2, 7);
	wr(&b, 0, 0x10, 4, 0xd0000000);
	wr(&b, 0, 0x4a, 2, 0x8000);
	set_entry(&b, 0, 0xfee00000, 1, 1);
	pci_msix_send(&b.f[0], 0);
	pci_intx(&b.f[0], true);
	pci_function_reset(&b.f[0]);
	assert_int_equal(rd(&b, 0, 4, 2), 0);
	assert_int_equal(rd(&b, 0, 0x10, 4), WINDOW | 4);
	assert_int_equal(rd(&b, 0, 0x4a, 2), 69);
	assert_false(b.intx.level);
	wr(&b, 0, 4, 2, 7);
	assert_true(answers(&b, WINDOW));
	assert_false(pending(&b, 0));
	pci_intx(&b.f[0], true);
	pci_unplug(&b.f[0]);
	assert_false(b.intx.level);
	assert_false(answers(&b, WINDOW));
	assert_int_equal(rd(&b, 0, 0, 4), UINT32_MAX);
	assert_int_equal(pci_host_free_slot(b.host), 1);
	assert_int_equal(pci_plug(b.host, PCI_DEVFN(1, 0), &b.f[0], NULL), 0);
	assert_int_equal(rd(&b, 0, 0, 4), 0x56781234);
	done(&b);
}

static void test_full(void **state)
{
	struct bench b;
	struct pci_function f;
	uint64_t at;
	struct err e;

	(void)state;
	init(&b);
	assert_int_equal(pci_host_find_home(b.host, false, 0x20000000, &at, &e), -ENOSPC);
	assert_int_equal(pci_host_find_home(b.host, false, 0x10000000, &at, &e), 0);
	assert_true(at == 0xd0000000);
	assert_int_equal(pci_host_find_home(b.host, true, 0x10000, &at, &e), -ENOSPC);
	pci_function_init(&f, &ident, &b.f[0].wires);
	assert_int_equal(pci_plug(b.host, PCI_DEVFN(1, 0), &f, &e), -EEXIST);
	pci_function_destroy(&f);
	assert_int_equal(rd(&b, 0, 0, 4), 0x56781234);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_homes_and_sizes),
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_in_the_way),
		cmocka_unit_test(test_msix),
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_reset_and_unplug),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
