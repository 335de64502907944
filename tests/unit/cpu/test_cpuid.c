// SPDX-License-Identifier: Apache-2.0
/* CPU models: fixed answers of vireo-v1, relations that hold in every model. */

#include "cpu/cpuid.h"
#include "x86/regs.h"
#include "unit.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct cpu_model *model(const char *name)
{
	struct cpu_model *m = calloc(1, sizeof(*m));

	assert_int_equal(cpu_model_init(m, name, NULL), 0);
	return m;
}

static uint32_t reg(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf, int which)
{
	uint32_t out[4];

	cpu_model_cpuid(m, leaf, subleaf, 0, 0, XCR0_X87, out);
	return out[which];
}

enum { A, B, C, D };

static void test_names(void **state)
{
	struct cpu_model m;
	struct err e = { 0 };
	int count = 0;

	(void)state;
	assert_int_equal(cpu_model_init(&m, "vireo-v9", &e), -ENOENT);
	for (const struct cpu_model_name *n = cpu_model_names; n->name; n++, count++) {
		assert_non_null(strstr(e.text, n->name));
		assert_int_equal(cpu_model_init(&m, n->name, NULL), 0);
		assert_string_equal(m.name, n->name);
	}
	assert_int_equal(count, 3);
}

/* The model is a promise: these words may not change under the name vireo-v1. */
static void test_v1_is_fixed(void **state)
{
	struct cpu_model *m = model("vireo-v1");
	uint32_t out[4];

	(void)state;
	cpu_model_cpuid(m, 0, 0, 0, 0, 1, out);
	assert_int_equal(out[A], 0x1f);
	assert_memory_equal(&out[B], "Genu", 4);
	assert_memory_equal(&out[D], "ineI", 4);
	assert_memory_equal(&out[C], "ntel", 4);
	assert_int_equal(reg(m, 1, 0, A), 0x106a5);
	assert_int_equal(reg(m, 1, 0, C), 0x85ba2201);
	assert_int_equal(reg(m, 1, 0, D), 0x0789fbfd);
	assert_int_equal(reg(m, 7, 0, A), 2);
	assert_int_equal(reg(m, 7, 0, B), 0x00100683);
	assert_int_equal(reg(m, 7, 0, C), 0x00000004);
	assert_int_equal(reg(m, 7, 0, D), 0xac000010);
	assert_int_equal(reg(m, 7, 1, A), 0);
	assert_int_equal(reg(m, 7, 2, D), 0x10);
	assert_int_equal(reg(m, 0xd, 0, A), 3);
	assert_int_equal(reg(m, 0xd, 0, C), 576);
	assert_int_equal(reg(m, 0xd, 1, A), 1);
	assert_int_equal(reg(m, 0x80000001, 0, C), 1);
	assert_int_equal(reg(m, 0x80000001, 0, D), 0x2c100800);
	assert_int_equal(reg(m, 0x80000008, 0, A), 0x302e);
	free(m);
}

static void test_dynamic_bits(void **state)
{
	struct cpu_model *m = model("vireo-v1");
	uint32_t out[4];

	(void)state;
	m->cpus = 6;
	cpu_model_cpuid(m, 1, 0, 5, CR4_OSXSAVE, 1, out);
	assert_true(out[C] & BIT(27));
	assert_true(out[D] & BIT(28));
	assert_int_equal(out[B] >> 24, 5);
	assert_int_equal(out[B] >> 16 & 0xff, 8);
	cpu_model_cpuid(m, 0xb, 1, 5, 0, 1, out);
	assert_int_equal(out[A], 3);
	assert_int_equal(out[B], 6);
	assert_int_equal(out[C], 0x201);
	assert_int_equal(out[D], 5);
	cpu_model_cpuid(m, 0x1f, 2, 5, 0, 1, out);
	assert_int_equal(out[B], 0);
	assert_int_equal(out[C], 2);
	free(m);
}

static void test_hypervisor_leaves(void **state)
{
	struct cpu_model *m = model("vireo-v1");
	uint32_t out[4];

	(void)state;
	cpu_model_cpuid(m, 0x40000000, 0, 0, 0, 1, out);
	assert_int_equal(out[A], 0x40000001);
	assert_memory_equal(&out[B], "KVMKVMKVM\0\0", 12);
	cpu_model_cpuid(m, 0x40000001, 0, 0, 0, 1, out);
	assert_int_equal(out[A], 1 << 3 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 13 | 1 << 24);
	assert_int_equal(out[B] | out[C] | out[D], 0);
	cpu_model_cpuid(m, 0x40000100, 0, 0, 0, 1, out);
	assert_int_equal(out[A] | out[B] | out[C] | out[D], 0);
	/* Beyond the last leaf: as the last basic one. */
	assert_int_equal(reg(m, 0x20, 0, C), reg(m, 0x1f, 0, C));
	assert_int_equal(reg(m, 0x80000009, 1, C), reg(m, 0x1f, 1, C));
	free(m);
}

static void test_brand(void **state)
{
	struct cpu_model *m = model("host");
	char brand[49] = { 0 };

	(void)state;
	for (int i = 0; i < 3; i++)
		for (int r = 0; r < 4; r++)
			memcpy(brand + i * 16 + r * 4,
			       &(uint32_t){ reg(m, 0x80000002 + i, 0, r) }, 4);
	assert_string_equal(brand, m->brand);
	assert_memory_equal(brand, "Vireo", 5);
	free(m);
}

/* As Linux computes it, in 32 bits; within three millionths for any plausible frequency. */
static void test_tsc_leaf(void **state)
{
	struct cpu_model *m = model("vireo-v1");

	(void)state;
	assert_in_range(m->tsc_khz, 500000, 6000000);
	for (uint32_t khz = 1000007; khz < 4200000; khz += 7919) {
		uint32_t num, den, got, margin = 1 + khz / 333333;

		m->tsc_khz = khz;
		den = reg(m, 0x15, 0, A);
		num = reg(m, 0x15, 0, B);
		assert_int_equal(reg(m, 0x15, 0, C), CRYSTAL_HZ);
		got = CRYSTAL_HZ / 1000 * num / den;
		assert_in_range(got, khz - margin, khz + margin);
	}
	free(m);
}

static void test_v0_is_fixed(void **state)
{
	struct cpu_model *m = model("vireo-v0");

	(void)state;
	assert_int_equal(reg(m, 1, 0, C), 0x81202000);
	assert_int_equal(reg(m, 1, 0, D), 0x0789fbfd);
	assert_int_equal(reg(m, 7, 0, B), 2);
	assert_int_equal(reg(m, 7, 0, C), 4);
	assert_int_equal(reg(m, 7, 0, D), 0x20000000);
	assert_int_equal(reg(m, 0xd, 0, A), 0);
	assert_int_equal(reg(m, 0x80000001, 0, C), 1);
	assert_int_equal(reg(m, 0x80000001, 0, D), 0x20100800);
	free(m);
}

static void test_models_are_supersets(void **state)
{
	struct cpu_model *v0 = model("vireo-v0"), *v1 = model("vireo-v1"), *host = model("host");
	uint32_t a, b, c, d;

	(void)state;
	for (enum feature f = 1; f < FEAT_COUNT; f++)
		assert_true(model_has(v0, f) <= model_has(v1, f) &&
			    model_has(v1, f) <= model_has(host, f));
	assert_int_equal(v1->xcr0_max & ~host->xcr0_max, 0);
	assert_int_equal(model_has(host, FEAT_AVX), (host->xcr0_max & XCR0_AVX) != 0);
	assert_int_equal(model_has(host, FEAT_AVX512F), (host->xcr0_max & XCR0_AVX512) != 0);
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		assert_int_equal(model_has(host, FEAT_BMI2), b >> 8 & 1);
	for (int i = 2; i < 64; i++)
		if (host->xcr0_max >> i & 1) {
			assert_int_not_equal(host->xsave_size[i], 0);
			assert_true(host->xsave_offset[i] + host->xsave_size[i] <=
				    reg(host, 0xd, 0, C));
		}
	/* TSX, MPX, PKU, CET, AMX are in no model. */
	assert_int_equal(reg(host, 7, 0, B) & (BIT(4) | BIT(11) | BIT(14)), 0);
	assert_int_equal(reg(host, 7, 0, C) & (BIT(3) | BIT(7)), 0);
	assert_int_equal(reg(host, 7, 0, D) & (BIT(20) | BIT(22) | BIT(24) | BIT(25)), 0);
	free(v0);
	free(v1);
	free(host);
}

static void test_xsave_size_follows_xcr0(void **state)
{
	struct cpu_model *m = model("host");
	uint32_t out[4];

	(void)state;
	cpu_model_cpuid(m, 0xd, 0, 0, 0, XCR0_X87 | XCR0_SSE, out);
	assert_int_equal(out[B], 576);
	cpu_model_cpuid(m, 0xd, 0, 0, 0, m->xcr0_max, out);
	assert_int_equal(out[B], out[C]);
	if (model_has(m, FEAT_AVX))
		assert_true(out[B] >= 576 + 256);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names), cmocka_unit_test(test_v1_is_fixed),
		cmocka_unit_test(test_dynamic_bits), cmocka_unit_test(test_hypervisor_leaves),
		cmocka_unit_test(test_brand), cmocka_unit_test(test_tsc_leaf),
		cmocka_unit_test(test_models_are_supersets), cmocka_unit_test(test_v0_is_fixed),
		cmocka_unit_test(test_xsave_size_follows_xcr0),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
