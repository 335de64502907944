// SPDX-License-Identifier: Apache-2.0
/* More different short host-executed instructions than the table of snippets has places. */
#include "soft_rig.h"
#include "unit.h"

#define CODE_STRIDE	0x800	/* 256 instructions of 5 bytes and HLT */

/* PSHUFD or PSHUFLW xmm, xmm, imm8 for each immediate, then HLT. */
static void make(struct rig *r, gpa_t at, uint8_t prefix, uint8_t modrm)
{
	uint8_t code[256 * 5 + 1], *p = code;

	for (unsigned int imm = 0; imm < 256; imm++) {
		*p++ = prefix;
		*p++ = 0x0f;
		*p++ = 0x70;
		*p++ = modrm;
		*p++ = imm;
	}
	*p++ = 0xf4;
	rig_code(r, at, code, p - code);
}

static void every_instruction_finds_a_place(void **state)
{
	struct rig *r = rig_create("vireo-v1");

	(void)state;
	for (unsigned int modrm = 0; modrm < 64; modrm++) {
		make(r, RIG_CODE, 0x66, 0xc0 | modrm);
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		make(r, RIG_CODE + CODE_STRIDE, 0xf2, 0xc0 | modrm);
		assert_int_equal(rig_run(r, RIG_CODE + CODE_STRIDE), -1);
	}
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_instruction_finds_a_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
