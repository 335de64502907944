// SPDX-License-Identifier: Apache-2.0
/*
 * The ACPI tables as a system reads them: from the RSDP on, checksums, the facts that
 * must agree with the devices, and all of it through iasl where that is installed.
 */
#include "dev/acpi_pm.h"
#include "dev/hpet.h"
#include "machine/acpi.h"
#include "machine/layout.h"
#include "machine/vm.h"
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CPUS	3
#define MEMORY	(2ULL << 30)

static struct acpi_image image;

static const uint8_t *at(gpa_t gpa)
{
	assert_true(gpa >= LAYOUT_ACPI && gpa < LAYOUT_ACPI + image.size);
	return image.data + (gpa - LAYOUT_ACPI);
}

static uint64_t get(const uint8_t *p, unsigned int off, unsigned int size)
{
	uint64_t v = 0;

	for (unsigned int i = 0; i < size; i++)
		v |= (uint64_t)p[off + i] << (8 * i);
	return v;
}

static uint8_t sum(const uint8_t *p, uint32_t len)
{
	uint8_t s = 0;

	while (len--)
		s += *p++;
	return s;
}

static uint32_t length(const uint8_t *table)
{
	return get(table, 4, 4);
}

static const uint8_t *xsdt(void)
{
	return at(get(image.data, 24, 8));
}

/* A table by signature, as found through the XSDT (the DSDT: through the FADT). */
static const uint8_t *find(const char *signature)
{
	const uint8_t *x = xsdt(), *t;

	if (!strcmp(signature, "DSDT"))
		return at(get(find("FACP"), 140, 8));
	for (uint32_t off = 36; off < length(x); off += 8) {
		t = at(get(x, off, 8));
		if (!memcmp(t, signature, 4))
			return t;
	}
	fail_msg("the XSDT has no %s", signature);
	return NULL;
}

static void test_structure(void **state)
{
	const uint8_t *x;

	(void)state;
	assert_memory_equal(image.data, "RSD PTR ", 8);
	assert_int_equal(sum(image.data, 20), 0);
	assert_int_equal(sum(image.data, ACPI_RSDP_SIZE), 0);
	assert_int_equal(image.data[15], 2);
	x = xsdt();
	assert_memory_equal(x, "XSDT", 4);
	assert_int_equal(sum(x, length(x)), 0);
	assert_int_equal((length(x) - 36) / 8, 4);
	for (uint32_t off = 36; off < length(x); off += 8) {
		const uint8_t *t = at(get(x, off, 8));

		assert_true(t + length(t) <= image.data + image.size);
		assert_int_equal(sum(t, length(t)), 0);
	}
	assert_int_equal(sum(find("DSDT"), length(find("DSDT"))), 0);
}

static void test_fadt(void **state)
{
	const uint8_t *f = find("FACP"), *facs;

	(void)state;
	assert_int_equal(length(f), 276);
	assert_int_equal(f[8], 6);
	facs = at(get(f, 36, 4));
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(get(f, 36, 4) % 64, 0);
	assert_int_equal(length(facs), 64);
	assert_true(get(f, 40, 4) == get(f, 140, 8));
	assert_int_equal(get(f, 46, 2), IRQ_SCI);
	assert_int_equal(get(f, 48, 4), PORT_SMI_COMMAND);
	assert_int_equal(f[52], SMI_ACPI_ENABLE);
	assert_int_equal(get(f, 56, 4), PORT_ACPI_PM);
	assert_int_equal(get(f, 64, 4), PORT_ACPI_PM + PM1_CONTROL);
	assert_int_equal(get(f, 76, 4), PORT_ACPI_PM + PM_TIMER);
	assert_int_equal(f[91], 4);
	assert_int_equal(get(f, 112, 4) & 1 << 20, 0);		/* not hardware-reduced */
	assert_int_equal(get(f, 112, 4) & 1 << 8, 0);		/* a 24-bit timer */
	assert_int_equal(get(f, 112, 4) & 1 << 10, 1 << 10);	/* reset register */
	assert_int_equal(f[116], 1);
	assert_int_equal(get(f, 120, 8), PORT_RESET_CONTROL);
	assert_int_equal(f[128] & 4, 4);
	/* The extended addresses say the same as the old ones. */
	assert_int_equal(get(f, 148 + 4, 8), get(f, 56, 4));
	assert_int_equal(get(f, 172 + 4, 8), get(f, 64, 4));
	assert_int_equal(get(f, 208 + 4, 8), get(f, 76, 4));
	assert_int_equal(get(f, 220 + 4, 8), get(f, 80, 4));
}

static void test_madt(void **state)
{
	const uint8_t *m = find("APIC");
	unsigned int cpus = 0, ioapics = 0, overrides = 0, nmis = 0;

	(void)state;
	assert_true(get(m, 36, 4) == LAYOUT_LAPIC);
	assert_int_equal(get(m, 40, 4), 1);
	for (uint32_t off = 44; off < length(m); off += m[off + 1]) {
		const uint8_t *r = m + off;

		assert_true(r[1] >= 2 && off + r[1] <= length(m));
		switch (r[0]) {
		case 0:
			assert_int_equal(r[3], cpus++);
			assert_int_equal(get(r, 4, 4), 1);
			break;
		case 1:
			ioapics++;
			assert_true(get(r, 4, 4) == LAYOUT_IOAPIC);
			assert_int_equal(get(r, 8, 4), 0);
			break;
		case 2:
			overrides++;
			assert_true(r[3] == IRQ_PIT || r[3] == IRQ_SCI);
			assert_int_equal(get(r, 4, 4), r[3] == IRQ_PIT ? GSI_PIT : IRQ_SCI);
			assert_int_equal(get(r, 8, 2), r[3] == IRQ_PIT ? 0x05 : 0x0d);
			break;
		case 4:
			nmis++;
			assert_int_equal(r[2], 0xff);
			assert_int_equal(r[5], 1);
			break;
		default:
			fail_msg("an entry of type %u", r[0]);
		}
	}
	assert_int_equal(cpus, CPUS);
	assert_int_equal(ioapics, 1);
	assert_int_equal(overrides, 2);
	assert_int_equal(nmis, 1);
}

static void test_mcfg_hpet(void **state)
{
	const uint8_t *m = find("MCFG"), *h = find("HPET");

	(void)state;
	assert_int_equal(length(m), 60);
	assert_true(get(m, 44, 8) == LAYOUT_ECAM);
	assert_int_equal(m[54], 0);
	assert_true((m[55] + 1) * (1ULL << 20) == LAYOUT_ECAM_SIZE);
	assert_int_equal(length(h), 56);
	assert_true(get(h, 36, 4) == hpet_block_id());
	assert_true(get(h, 44, 8) == LAYOUT_HPET);
}

/* --- the DSDT through our own eyes: an EISA ID is there as its bytes --- */

static bool holds(const uint8_t *t, const void *bytes, size_t len)
{
	return memmem(t + 36, length(t) - 36, bytes, len) != NULL;
}

static void test_dsdt(void **state)
{
	static const uint8_t s5[] = { '_', 'S', '5', '_', 0x12 };
	static const uint8_t ids[][5] = {
		{ 0x0c, 0x41, 0xd0, 0x0a, 0x08 },	/* PNP0A08 */
		{ 0x0c, 0x41, 0xd0, 0x05, 0x01 },	/* PNP0501 */
		{ 0x0c, 0x41, 0xd0, 0x0b, 0x00 },	/* PNP0B00 */
		{ 0x0c, 0x41, 0xd0, 0x03, 0x03 },	/* PNP0303 */
		{ 0x0c, 0x41, 0xd0, 0x01, 0x03 },	/* PNP0103 */
	};
	const uint8_t *d = find("DSDT"), *p;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(ids); i++)
		assert_true(holds(d, ids[i], 5));
	p = memmem(d, length(d), s5, sizeof(s5));
	assert_non_null(p);
	/* Three length bytes, the count, then the first value. */
	assert_int_equal(p[8], 4);
	assert_int_equal(p[9], 0x0a);
	assert_int_equal(p[10], SLP_TYP_S5);
}

static void test_sizes(void **state)
{
	struct acpi_image many;

	(void)state;
	assert_int_equal(acpi_build(&many, MEMORY, VM_CPUS_MAX, true, NULL), 0);
	assert_true(many.size <= LAYOUT_ACPI_END - LAYOUT_ACPI);
	acpi_set_present(&many, VM_CPUS_MAX - 1, false);
	assert_int_equal(sum(many.data + many.madt, length(many.data + many.madt)), 0);
	acpi_image_free(&many);
}

/* Memory, and a window of 64-bit addresses (QWord, of memory) that is nowhere in it. */
static void window_beside(uint64_t memory, uint64_t limit)
{
	const uint64_t ram_end = LAYOUT_HIGH_RAM + memory;
	struct acpi_image some;
	const uint8_t *p = NULL;

	assert_int_equal(acpi_build(&some, memory, 1, false, NULL), 0);
	for (uint32_t i = 0; i + 46 <= some.size && !p; i++)
		if (!memcmp(some.data + i, "\x8a\x2b\x00\x00", 4))
			p = some.data + i;
	assert_non_null(p);
	assert_true(get(p, 14, 8) >= ram_end);
	assert_true(get(p, 22, 8) > get(p, 14, 8) && get(p, 22, 8) < limit);
	assert_int_equal(get(p, 38, 8), get(p, 22, 8) - get(p, 14, 8) + 1);
	acpi_image_free(&some);
}

static void test_high_window(void **state)
{
	(void)state;
	window_beside(MEMORY, BIT(39));
	window_beside(252ULL << 30, BIT(39));
	window_beside(253ULL << 30, BIT(GPA_BITS));
	window_beside(4096ULL << 30, BIT(GPA_BITS));
}

/* --- iasl --- */

static void write_table(const char *dir, const char *signature)
{
	const uint8_t *t = find(signature);
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.aml", dir, signature);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(t, 1, length(t), f), length(t));
	fclose(f);
}

static int run_iasl(const char *dir, const char *what)
{
	char command[512];

	snprintf(command, sizeof(command), "cd %s && iasl %s >iasl.log 2>&1", dir, what);
	return system(command);
}

/* Does the log of the last run have a line with @text? */
static bool logged(const char *dir, const char *text)
{
	char command[512];

	snprintf(command, sizeof(command), "grep -q '%s' %s/iasl.log", text, dir);
	return system(command) == 0;
}

static void test_iasl(void **state)
{
	static const char *const names[] = { "DSDT", "FACP", "APIC", "MCFG", "HPET" };
	char dir[] = "/tmp/vireo-acpi-XXXXXX", what[64];

	(void)state;
	if (system("command -v iasl >/dev/null 2>&1")) {
		print_message("iasl is not installed (package acpica-tools)\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		write_table(dir, names[i]);
		snprintf(what, sizeof(what), "-d %s.aml", names[i]);
		assert_int_equal(run_iasl(dir, what), 0);
		assert_false(logged(dir, "rror\\b"));
		assert_false(logged(dir, "ncorrect checksum"));
		snprintf(what, sizeof(what), "-p again %s.dsl", names[i]);
		assert_int_equal(run_iasl(dir, what), 0);
		assert_true(logged(dir, "0 Errors"));
		if (i == 0)
			assert_true(logged(dir, "0 Warnings"));
	}
	snprintf(what, sizeof(what), "rm -r %s", dir);
	assert_int_equal(system(what), 0);
}

static int setup(void **state)
{
	(void)state;
	return acpi_build(&image, MEMORY, CPUS, true, NULL);
}

static int teardown(void **state)
{
	(void)state;
	acpi_image_free(&image);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structure),
		cmocka_unit_test(test_fadt),
		cmocka_unit_test(test_madt),
		cmocka_unit_test(test_mcfg_hpet),
		cmocka_unit_test(test_dsdt),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_high_window),
		cmocka_unit_test(test_iasl),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
