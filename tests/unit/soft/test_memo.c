// SPDX-License-Identifier: Apache-2.0
/*
 * The decoder with a memory says what Zydis says: for each opcode, with prefixes, in each code
 * size, instructions of one shape with other displacements and immediates.
 */
#include "soft_rig.h"
#include "unit.h"

#include "engine/soft/soft_priv.h"

#define VARIANTS	12

static int setup(void **state)
{
	*state = rig_create("vireo-v1");
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void compare(struct rig *r, const uint8_t *bytes, unsigned int code_size)
{
	struct soft_vcpu *sv = r->v->engine;
	struct insn want, got;
	enum decode_result rw, rg;

	rw = insn_decode(&want, bytes, INSN_MAX_LEN, code_size | sv->decode_mode);
	rg = memo_decode(sv, &got, bytes, INSN_MAX_LEN, code_size);
	assert_int_equal(rw, rg);
	if (rw == DECODE_OK)
		assert_memory_equal(&want, &got, sizeof(want));
}

/* Random bytes behind the same first ones; values that are small, negative, at the edges. */
static void compare_variants(struct rig *r, const uint8_t *first, unsigned int len, uint64_t *x)
{
	for (unsigned int code_size = CODE_16; code_size <= CODE_64; code_size++)
		for (unsigned int n = 0; n < VARIANTS; n++) {
			uint8_t bytes[16], fill = n == 1 ? 0xff : n == 2 ? 0x80 : n == 3 ? 0x7f : 0;

			for (unsigned int k = 0; k < sizeof(bytes); k++)
				bytes[k] = k < len ? first[k] : n && n <= 3 ? fill : next_random(x);
			compare(r, bytes, code_size);
		}
}

/* All of one map: with each of some ModRM bytes, a prefix or two in front. */
static void test_opcodes(void **state)
{
	static const uint8_t prefixes[][2] = {
		{ 0 }, { 0x66 }, { 0x67 }, { 0xf2 }, { 0xf3 }, { 0x48 }, { 0x41 }, { 0x4f },
		{ 0x66, 0x48 }, { 0x65, 0x48 }, { 0x67, 0x44 }, { 0xf0, 0x49 },
	};
	static const uint8_t modrms[] = { 0x00, 0x04, 0x05, 0x44, 0x4c, 0x85, 0x94, 0xb8, 0xc1, 0xf0, 0xff };
	uint64_t x = 0x1234567;

	for (unsigned int op = 0; op < 512; op++)
		for (unsigned int p = 0; p < ARRAY_SIZE(prefixes); p++)
			for (unsigned int m = 0; m < ARRAY_SIZE(modrms); m++) {
				uint8_t first[8];
				unsigned int n = 0;

				for (unsigned int k = 0; k < 2 && prefixes[p][k]; k++)
					first[n++] = prefixes[p][k];
				if (op >= 256)
					first[n++] = 0x0f;
				first[n++] = op;
				first[n++] = modrms[m];
				compare_variants(*state, first, n, &x);
			}
}

/* An instruction of a known shape is not decoded again, whatever its immediate. */
static void test_shape_is_kept(void **state)
{
	struct rig *r = *state;
	struct soft_vcpu *sv = r->v->engine;
	uint8_t bytes[16] = { 0x48, 0x81, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 0x88 };
	unsigned int kept = 0;
	struct insn i;

	for (unsigned int n = 0; n < 100; n++) {
		bytes[4] = n;
		bytes[9] = 3 * n;
		assert_int_equal(memo_decode(sv, &i, bytes, INSN_MAX_LEN, CODE_64), DECODE_OK);
		assert_int_equal(i.info->id, INSN_ID_ADD);
		assert_int_equal(i.mem.disp, 0x04030200 | n);
		assert_int_equal(i.imm, (int32_t)(0x88070005U | (uint8_t)(3 * n) << 8));
	}
	for (unsigned int n = 0; n < ARRAY_SIZE(sv->memo); n++)
		kept += sv->memo[n].mode != 0;
	assert_int_equal(kept, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_opcodes), T(test_shape_is_kept) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
