// SPDX-License-Identifier: Apache-2.0
/*
 * The DSDT's processors, which may come and go: each asks the registers of dev/cpu_hotplug.h
 * whether it is there.
 *
 * Source: ACPI specification, "Declaring Processors", "_MAT (Multiple APIC Table Entry)",
 * "_STA (Device Status)", "_EJx (Eject)".
 */
#include "machine/acpi_priv.h"

#include "dev/cpu_hotplug.h"

#include <stdio.h>

#define STA_PRESENT	0x0f	/* present, enabled, shown, working */

/* The register of 32 processors that @index is among: "CPP0" or "CPP1". */
static const char *half(char name[5], const char *reg, unsigned int index)
{
	snprintf(name, 5, "%.3s%u", reg, index / 32 & 1);
	return name;
}

static void processor_name(char name[5], unsigned int index)
{
	snprintf(name, 5, "C%03X", index & 0xfff);
}

static void processor(struct aml *a, unsigned int index)
{
	uint8_t mat[MADT_LAPIC_SIZE];
	char name[5];

	processor_name(name, index);
	aml_device(a, name);
	aml_name(a, "_HID");
	aml_string(a, "ACPI0007");
	aml_name(a, "_UID");
	aml_integer(a, index);	/* the MADT's processor UID */
	madt_lapic(mat, index, LAPIC_ENABLED);
	aml_name(a, "_MAT");
	aml_buffer(a, mat, sizeof(mat));
	aml_method(a, "_STA", 0);
	aml_if_field_has(a, half(name, "CPP", index), BIT(index % 32));
	aml_return(a, STA_PRESENT);
	aml_end(a);
	aml_return(a, 0);
	aml_end(a);
	if (index) {	/* the first one stays */
		aml_method(a, "_EJ0", 1);
		aml_store(a, BIT(index % 32), half(name, "CPE", index));
		aml_end(a);
	}
	aml_end(a);
}

/* CNOT (first 32, the others, what): each of them hears what. */
static void processor_notify(struct aml *a, unsigned int vcpus)
{
	char name[5];

	aml_method(a, "CNOT", 3);
	for (unsigned int i = 1; i < vcpus; i++) {
		processor_name(name, i);
		aml_if_argument_has(a, i / 32, BIT(i % 32));
		aml_notify(a, name, 2);
		aml_end(a);
	}
	aml_end(a);
}

void dsdt_processors(struct aml *a, unsigned int vcpus)
{
	static const char *const fields[] = {
		"CPP0", "CPP1", "CPU0", "CPU1", "CPD0", "CPD1", "CPE0", "CPE1",
	};

	aml_ports(a, "CPHP", PORT_CPU_HOTPLUG, CPU_HOTPLUG_SIZE, fields, ARRAY_SIZE(fields));
	for (unsigned int i = 0; i < vcpus; i++)
		processor(a, i);
	processor_notify(a, vcpus);
}

static void notify_of(struct aml *a, const char *low, const char *high, unsigned int what)
{
	aml_reference(a, "\\_SB_.CNOT");
	aml_reference(a, low);
	aml_reference(a, high);
	aml_integer(a, what);
}

void dsdt_processor_event(struct aml *a)
{
	aml_scope(a, "\\_GPE");
	aml_method(a, "_E02", 0);
	notify_of(a, "\\_SB_.CPU0", "\\_SB_.CPU1", 1);	/* device check */
	notify_of(a, "\\_SB_.CPD0", "\\_SB_.CPD1", 3);	/* request to eject */
	aml_end(a);
	aml_end(a);
}
