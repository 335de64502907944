// SPDX-License-Identifier: Apache-2.0
/*
 * Configuration space by ports and by ECAM, the host bridge, a function of the test's
 * own, empty slots, and the reset control register between the ports.
 */
#include "dev_rig.h"

#include "dev/pci_host.h"

#include <errno.h>
#include <string.h>

#define ECAM	0xe0000000ULL

struct bench {
	struct rig rig;
	struct device *host;
	unsigned int resets;
	uint8_t config[PCI_CONFIG_SIZE];	/* of the test's function */
};

static void power(void *sink, enum machine_event what, unsigned int value)
{
	(void)value;
	assert_int_equal(what, MACHINE_RESET);
	((struct bench *)sink)->resets++;
}

static uint32_t fn_read(void *fn, unsigned int off, unsigned int size)
{
	struct bench *b = fn;
	uint32_t v = 0;

	assert_true((off & 3) + size <= 4 && off + size <= PCI_CONFIG_SIZE);
	memcpy(&v, b->config + off, size);
	return v;
}

static void fn_write(void *fn, unsigned int off, unsigned int size, uint32_t value)
{
	struct bench *b = fn;

	assert_true((off & 3) + size <= 4 && off + size <= PCI_CONFIG_SIZE);
	memcpy(b->config + off, &value, size);
}

static const struct pci_function_ops fn_ops = { .config_read = fn_read, .config_write = fn_write };

static void init(struct bench *b)
{
	const struct pci_host_wires wires = {
		.ecam = ECAM, .power = { .event = power, .sink = b },
	};

	memset(b, 0, sizeof(*b));
	rig_init(&b->rig);
	assert_int_equal(pci_host_create(&b->host, &b->rig.space, &wires, NULL), 0);
	assert_int_equal(pci_host_attach(b->host, PCI_DEVFN(3, 1), "test", &fn_ops, b, NULL), 0);
}

static void done(struct bench *b)
{
	rig_destroy(&b->rig, b->host);
}

static void address(struct bench *b, unsigned int bus, unsigned int devfn, unsigned int off)
{
	pio_write(&b->rig.space, 0xcf8, 4, 0x80000000 | bus << 16 | devfn << 8 | off);
}

static uint32_t rd(struct bench *b, uint16_t port, unsigned int size)
{
	return pio_read(&b->rig.space, port, size);
}

static void test_bridge(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	address(&b, 0, 0, 0);
	assert_int_equal(rd(&b, 0xcfc, 4), 0x29c08086);
	assert_int_equal(rd(&b, 0xcfe, 2), 0x29c0);
	assert_int_equal(rd(&b, 0xcfd, 1), 0x80);
	address(&b, 0, 0, 8);
	assert_int_equal(rd(&b, 0xcfc, 4) >> 8, 0x060000);
	address(&b, 0, 0, 0x60);
	assert_int_equal(rd(&b, 0xcfc, 4), ECAM | 1);
	pio_write(&b.rig.space, 0xcfc, 4, 0);
	assert_int_equal(rd(&b, 0xcfc, 4), ECAM | 1);
	assert_int_equal(mmio_read(&b.rig.space, ECAM, 4), 0x29c08086);
	assert_true(mmio_read(&b.rig.space, ECAM, 8) == 0x0000000629c08086ULL);
	done(&b);
}

static void test_empty(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	address(&b, 0, PCI_DEVFN(1, 0), 0);
	assert_int_equal(rd(&b, 0xcfc, 4), 0xffffffff);
	assert_int_equal(rd(&b, 0xcfc, 1), 0xff);
	address(&b, 1, 0, 0);
	assert_int_equal(rd(&b, 0xcfc, 4), 0xffffffff);
	assert_int_equal(mmio_read(&b.rig.space, ECAM + (1 << 20), 4), 0xffffffff);
	assert_int_equal(mmio_read(&b.rig.space, ECAM + (256 << 20) - 1, 1), 0xff);
	/* Not enabled: no configuration cycle. */
	pio_write(&b.rig.space, 0xcf8, 4, 0);
	assert_int_equal(rd(&b, 0xcfc, 4), 0xffffffff);
	done(&b);
}

static void test_function(void **state)
{
	gpa_t ecam = ECAM + ((3 << 3 | 1) << 12);
	struct bench b;

	(void)state;
	init(&b);
	address(&b, 0, PCI_DEVFN(3, 1), 0x40);
	pio_write(&b.rig.space, 0xcfc, 4, 0x11223344);
	pio_write(&b.rig.space, 0xcff, 1, 0x99);
	assert_int_equal(mmio_read(&b.rig.space, ecam + 0x40, 4), 0x99223344);
	mmio_write(&b.rig.space, ecam + 0x42, 2, 0xaabb);
	assert_int_equal(rd(&b, 0xcfc, 4), 0xaabb3344);
	/* The extended space is ECAM's alone. */
	mmio_write(&b.rig.space, ecam + 0x100, 8, 0x1122334455667788ULL);
	assert_true(mmio_read(&b.rig.space, ecam + 0x100, 8) == 0x1122334455667788ULL);
	/* Accesses across a dword reach nothing, at the very end of it neither. */
	assert_int_equal(mmio_read(&b.rig.space, ecam + 0x102, 4), 0xffffffff);
	mmio_write(&b.rig.space, ecam + 0xffe, 4, 0);
	assert_true(mmio_read(&b.rig.space, ecam + 0xffc, 8) == UINT64_MAX);
	done(&b);
}

static void test_attach(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(pci_host_attach(b.host, 0, "x", &fn_ops, &b, NULL), -EEXIST);
	assert_int_equal(pci_host_attach(b.host, 256, "x", &fn_ops, &b, NULL), -EINVAL);
	done(&b);
}

static void test_reset_control(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	address(&b, 0, 0, 0x60);
	outb(&b.rig, 0xcf9, 0x02);
	assert_int_equal(b.resets, 0);
	assert_int_equal(inb(&b.rig, 0xcf9), 0x02);
	/* It did not disturb the address. */
	assert_int_equal(rd(&b, 0xcf8, 4), 0x80000060);
	outb(&b.rig, 0xcf9, 0x06);
	assert_int_equal(b.resets, 1);
	b.host->ops->reset(b.host);
	assert_int_equal(rd(&b, 0xcf8, 4), 0);
	assert_int_equal(inb(&b.rig, 0xcf9), 0);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bridge),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_function),
		cmocka_unit_test(test_attach),
		cmocka_unit_test(test_reset_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
