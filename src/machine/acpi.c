// SPDX-License-Identifier: Apache-2.0
/*
 * The ACPI tables: RSDP, FACS, DSDT, FADT, MADT, MCFG, HPET, XSDT, in this order.
 *
 * Source: ACPI specification 6, "ACPI Software Programming Model"; PCI Firmware
 * Specification, "MCFG Table Description"; IA-PC HPET Specification, "The ACPI 2.0 HPET
 * Description Table".
 *
 * The machine is a PC with fixed hardware: not hardware-reduced, with ACPI off until the
 * system asks for it at the SMI command port.
 */
#include "machine/acpi.h"

#include "dev/acpi_pm.h"
#include "dev/hpet.h"
#include "dev/mc146818.h"
#include "machine/acpi_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OEM_ID		"VIREO"
#define OEM_TABLE_ID	"VIREOPC"
#define OEM_REVISION	1
#define CREATOR_ID	"VIRE"
#define HEADER_SIZE	36
#define FACS_SIZE	64
#define TABLES_MAX	8	/* in the XSDT */

/* Where the parts stand, guest-physical. */
struct tables {
	struct aml a;		/* at LAYOUT_ACPI */
	gpa_t facs, dsdt, madt, xsdt;
	gpa_t listed[TABLES_MAX];
	unsigned int listed_count;
};

static gpa_t here(const struct tables *t)
{
	return LAYOUT_ACPI + t->a.len;
}

static void align(struct tables *t, unsigned int to)
{
	while (t->a.len % to)
		put8(&t->a, 0);
}

static uint8_t checksum(const uint8_t *p, uint32_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

/* --- table frames --- */

static gpa_t table_begin(struct tables *t, const char *signature, uint8_t revision)
{
	gpa_t at;

	align(t, 8);
	at = here(t);
	put_text(&t->a, signature, 4);
	put32(&t->a, 0);		/* length, at the end */
	put8(&t->a, revision);
	put8(&t->a, 0);			/* checksum, at the end */
	put_text(&t->a, OEM_ID, 6);
	put_text(&t->a, OEM_TABLE_ID, 8);
	put32(&t->a, OEM_REVISION);
	put_text(&t->a, CREATOR_ID, 4);
	put32(&t->a, OEM_REVISION);
	return at;
}

static void table_end(struct tables *t, gpa_t at)
{
	uint8_t *p = t->a.buf + (at - LAYOUT_ACPI);
	uint32_t len = here(t) - at;

	if (t->a.overflow)
		return;
	for (unsigned int i = 0; i < 4; i++)
		p[4 + i] = len >> (8 * i);
	p[9] = checksum(p, len);
}

static void list(struct tables *t, gpa_t at)
{
	t->listed[t->listed_count++] = at;
}

/* Generic Address Structure. */
static void gas(struct aml *a, uint8_t space, uint8_t bits, uint8_t access, uint64_t addr)
{
	put8(a, space);		/* 0 memory, 1 I/O */
	put8(a, bits);
	put8(a, 0);
	put8(a, access);	/* 1 byte, 2 word, 3 dword */
	put64(a, addr);
}

static void gas_none(struct aml *a)
{
	gas(a, 0, 0, 0, 0);
}

/* --- the tables --- */

static void facs(struct tables *t)
{
	align(t, 64);
	t->facs = here(t);
	put_text(&t->a, "FACS", 4);
	put32(&t->a, FACS_SIZE);
	put_zeros(&t->a, 24);	/* signature, waking vectors, global lock, flags */
	put8(&t->a, 2);		/* version */
	put_zeros(&t->a, FACS_SIZE - 33);
}

static void dsdt(struct tables *t, uint64_t memory, unsigned int vcpus, bool virtio_mmio)
{
	t->dsdt = table_begin(t, "DSDT", 2);
	dsdt_body(&t->a, memory, vcpus, virtio_mmio);
	table_end(t, t->dsdt);
}

/* The FADT's first part: what ACPI 1.0 had. */
static void fadt_ports(struct aml *a)
{
	put32(a, PORT_ACPI_PM + PM1_EVENT);
	put32(a, 0);			/* PM1b event */
	put32(a, PORT_ACPI_PM + PM1_CONTROL);
	put32(a, 0);			/* PM1b control */
	put32(a, 0);			/* PM2 control */
	put32(a, PORT_ACPI_PM + PM_TIMER);
	put32(a, PORT_ACPI_GPE0);
	put32(a, 0);			/* GPE1 */
	put8(a, 4);			/* lengths: PM1 event, */
	put8(a, 2);			/* PM1 control, */
	put8(a, 0);			/* PM2 control, */
	put8(a, 4);			/* PM timer, */
	put8(a, GPE0_SIZE);
	put8(a, 0);			/* GPE1 */
	put8(a, 0);			/* GPE1 base */
	put8(a, 0);			/* _CST support */
	put16(a, 0xffff);		/* C2 latency: no C2 */
	put16(a, 0xffff);		/* C3 latency: no C3 */
	put16(a, 0);			/* flush size and stride: WBINVD works */
	put16(a, 0);
	put8(a, 0);			/* duty cycle offset, width */
	put8(a, 0);
	put8(a, 0);			/* RTC day alarm, month alarm */
	put8(a, 0);
	put8(a, CMOS_CENTURY);
}

#define BOOT_LEGACY	BIT(0)	/* there are devices on an ISA bus */
#define BOOT_8042	BIT(1)
#define BOOT_NO_VGA	BIT(2)
#define FADT_WBINVD	BIT(0)
#define FADT_PROC_C1	BIT(2)
#define FADT_SLP_BUTTON	BIT(5)	/* no fixed one; the power button is (bit 4 clear) */
#define FADT_FIX_RTC	BIT(6)	/* RTC wake status is not in PM1 */
#define FADT_RESET_REG	BIT(10)
#define RESET_VALUE	0x06	/* of port cf9h: hard reset */

static void fadt_flags(struct aml *a)
{
	put16(a, BOOT_LEGACY | BOOT_8042 | BOOT_NO_VGA);
	put8(a, 0);
	put32(a, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
		 FADT_RESET_REG);
	gas(a, 1, 8, 1, PORT_RESET_CONTROL);
	put8(a, RESET_VALUE);
	put16(a, 0);			/* ARM boot flags */
	put8(a, 3);			/* minor revision: ACPI 6.3 */
}

static void fadt_extended(struct tables *t)
{
	struct aml *a = &t->a;

	put64(a, 0);			/* X_FIRMWARE_CTRL: the 32-bit field is used */
	put64(a, t->dsdt);
	gas(a, 1, 32, 2, PORT_ACPI_PM + PM1_EVENT);
	gas_none(a);
	gas(a, 1, 16, 2, PORT_ACPI_PM + PM1_CONTROL);
	gas_none(a);
	gas_none(a);
	gas(a, 1, 32, 3, PORT_ACPI_PM + PM_TIMER);
	gas(a, 1, GPE0_SIZE * 8, 1, PORT_ACPI_GPE0);
	gas_none(a);
	gas_none(a);			/* sleep control and status: hardware-reduced only */
	gas_none(a);
	put64(a, 0);			/* hypervisor vendor */
}

static void fadt(struct tables *t)
{
	gpa_t at = table_begin(t, "FACP", 6);

	put32(&t->a, t->facs);
	put32(&t->a, t->dsdt);
	put8(&t->a, 0);
	put8(&t->a, 0);			/* preferred profile: unspecified */
	put16(&t->a, IRQ_SCI);
	put32(&t->a, PORT_SMI_COMMAND);
	put8(&t->a, SMI_ACPI_ENABLE);
	put8(&t->a, SMI_ACPI_DISABLE);
	put8(&t->a, 0);			/* S4BIOS_REQ, PSTATE_CNT: none */
	put8(&t->a, 0);
	fadt_ports(&t->a);
	fadt_flags(&t->a);
	fadt_extended(t);
	table_end(t, at);
	list(t, at);
}

#define MADT_PROCESSORS	44	/* offset of the first processor's entry */
#define MADT_IOAPIC	1
#define MADT_OVERRIDE	2
#define MADT_LAPIC_NMI	4
#define MADT_PCAT	1	/* there are two 8259s as well */
#define FLAGS_LEVEL_HIGH 0x0d
#define FLAGS_EDGE_HIGH	0x05

static void madt_override(struct aml *a, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	put8(a, MADT_OVERRIDE);
	put8(a, 10);
	put8(a, 0);		/* ISA */
	put8(a, irq);
	put32(a, gsi);
	put16(a, flags);
}

static void madt(struct tables *t, unsigned int vcpus)
{
	struct aml *a = &t->a;
	gpa_t at = table_begin(t, "APIC", 5);
	uint8_t entry[MADT_LAPIC_SIZE];

	put32(a, LAYOUT_LAPIC);
	put32(a, MADT_PCAT);
	for (unsigned int i = 0; i < vcpus; i++) {
		madt_lapic(entry, i, LAPIC_ENABLED);
		for (unsigned int b = 0; b < MADT_LAPIC_SIZE; b++)
			put8(a, entry[b]);
	}
	put8(a, MADT_IOAPIC);
	put8(a, 12);
	put8(a, 0);			/* I/O APIC ID */
	put8(a, 0);
	put32(a, LAYOUT_IOAPIC);
	put32(a, 0);			/* its first GSI */
	madt_override(a, IRQ_PIT, GSI_PIT, FLAGS_EDGE_HIGH);
	madt_override(a, IRQ_SCI, IRQ_SCI, FLAGS_LEVEL_HIGH);
	put8(a, MADT_LAPIC_NMI);
	put8(a, 6);
	put8(a, 0xff);			/* all processors */
	put16(a, 0);			/* polarity and trigger as the bus has them */
	put8(a, 1);			/* LINT1 */
	table_end(t, at);
	list(t, at);
	t->madt = at;
}

static void mcfg(struct tables *t)
{
	gpa_t at = table_begin(t, "MCFG", 1);

	put64(&t->a, 0);
	put64(&t->a, LAYOUT_ECAM);
	put16(&t->a, 0);		/* segment */
	put8(&t->a, 0);			/* first and last bus */
	put8(&t->a, 255);
	put32(&t->a, 0);
	table_end(t, at);
	list(t, at);
}

static void hpet(struct tables *t)
{
	gpa_t at = table_begin(t, "HPET", 1);

	put32(&t->a, hpet_block_id());
	gas(&t->a, 0, 64, 0, LAYOUT_HPET);
	put8(&t->a, 0);			/* number */
	put16(&t->a, 128);		/* smallest tick for periodic mode */
	put8(&t->a, 0);			/* page protection */
	table_end(t, at);
	list(t, at);
}

static void xsdt(struct tables *t)
{
	t->xsdt = table_begin(t, "XSDT", 1);
	for (unsigned int i = 0; i < t->listed_count; i++)
		put64(&t->a, t->listed[i]);
	table_end(t, t->xsdt);
}

/* Written last, into the room left at the beginning. */
static void rsdp(const struct tables *t)
{
	uint8_t *p = t->a.buf;
	struct aml a = { .buf = p, .size = ACPI_RSDP_SIZE };

	put_text(&a, "RSD PTR ", 8);
	put8(&a, 0);			/* checksum of the first 20 bytes */
	put_text(&a, OEM_ID, 6);
	put8(&a, 2);			/* revision */
	put32(&a, 0);			/* RSDT: none, there is an XSDT */
	put32(&a, ACPI_RSDP_SIZE);
	put64(&a, t->xsdt);
	put8(&a, 0);			/* checksum of all */
	put_zeros(&a, 3);
	p[8] = checksum(p, 20);
	p[32] = checksum(p, ACPI_RSDP_SIZE);
}

int acpi_build(struct acpi_image *out, uint64_t memory, unsigned int vcpus, bool virtio_mmio,
	       struct err *e)
{
	struct tables t = { .a.size = LAYOUT_ACPI_END - LAYOUT_ACPI };

	t.a.buf = calloc(1, t.a.size);
	if (!t.a.buf)
		return err_set(e, ENOMEM, "out of memory for the ACPI tables");
	put_zeros(&t.a, ACPI_RSDP_SIZE);
	facs(&t);
	dsdt(&t, memory, vcpus, virtio_mmio);
	fadt(&t);
	madt(&t, vcpus);
	mcfg(&t);
	hpet(&t);
	xsdt(&t);
	rsdp(&t);
	if (t.a.overflow) {
		free(t.a.buf);
		return err_set(e, ENOSPC, "the ACPI tables of %u processors are too large", vcpus);
	}
	*out = (struct acpi_image){ .data = t.a.buf, .size = t.a.len,
				    .madt = t.madt - LAYOUT_ACPI };
	return 0;
}

void acpi_set_present(struct acpi_image *image, unsigned int index, bool present)
{
	uint8_t *madt = image->data + image->madt, *length = madt + 4, *sum = madt + 9;
	uint8_t *flags = madt + MADT_PROCESSORS + index * MADT_LAPIC_SIZE + MADT_LAPIC_FLAGS;

	*flags = present ? LAPIC_ENABLED : LAPIC_ONLINE_CAPABLE;
	*sum = 0;
	*sum = checksum(madt, length[0] | length[1] << 8);
}

void acpi_image_free(struct acpi_image *image)
{
	free(image->data);
	*image = (struct acpi_image){ 0 };
}
