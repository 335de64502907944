// SPDX-License-Identifier: Apache-2.0
/* What insn_decode() says of instructions: operands, sizes, prefixes, classes. */
#include "x86/decode.h"
#include "x86/regs.h"
#include "unit.h"

#include <string.h>

enum { MODE_16, MODE_32, MODE_64 };

#define BYTES(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

static struct insn must(unsigned int mode, const uint8_t *b, unsigned int n)
{
	struct insn i;

	assert_int_equal(insn_decode(&i, b, n, mode), DECODE_OK);
	assert_int_equal(i.len, n);
	assert_memory_equal(i.bytes, b, n);
	return i;
}
#define DECODE(mode, ...) must(mode, BYTES(__VA_ARGS__))

static enum decode_result result(unsigned int mode, const uint8_t *b, unsigned int n)
{
	struct insn i;

	return insn_decode(&i, b, n, mode);
}
#define RESULT(mode, ...) result(mode, BYTES(__VA_ARGS__))

static void test_operand_sizes(void **state)
{
	(void)state;
	assert_int_equal(DECODE(MODE_64, 0x01, 0xd8).opsize, 4);
	assert_int_equal(DECODE(MODE_64, 0x66, 0x01, 0xd8).opsize, 2);
	assert_int_equal(DECODE(MODE_64, 0x48, 0x01, 0xd8).opsize, 8);
	assert_int_equal(DECODE(MODE_64, 0x66, 0x48, 0x01, 0xd8).opsize, 8);
	assert_int_equal(DECODE(MODE_64, 0x00, 0xd8).opsize, 1);
	assert_int_equal(DECODE(MODE_32, 0x66, 0x01, 0xd8).opsize, 2);
	assert_int_equal(DECODE(MODE_16, 0x01, 0xd8).opsize, 2);
	assert_int_equal(DECODE(MODE_16, 0x66, 0x01, 0xd8).opsize, 4);
	/* Stack instructions: 64 bits by default, 16 with 66, never 32. */
	assert_int_equal(DECODE(MODE_64, 0x50).stack_size, 8);
	assert_int_equal(DECODE(MODE_64, 0x66, 0x50).stack_size, 2);
	assert_int_equal(DECODE(MODE_32, 0x50).stack_size, 4);
	assert_int_equal(DECODE(MODE_16, 0x9c).stack_size, 2);
	assert_int_equal(DECODE(MODE_64, 0xc3).opsize, 8);
}

static void test_registers(void **state)
{
	struct insn i;

	(void)state;
	i = DECODE(MODE_64, 0x00, 0xe1);		/* add cl, ah */
	assert_int_equal(i.op[0].reg, REG_RCX);
	assert_false(i.op[0].high);
	assert_int_equal(i.op[1].reg, REG_RAX);
	assert_true(i.op[1].high);
	i = DECODE(MODE_64, 0x40, 0x00, 0xe1);		/* add cl, spl */
	assert_int_equal(i.op[1].reg, REG_RSP);
	assert_false(i.op[1].high);
	i = DECODE(MODE_64, 0x45, 0x00, 0xe1);		/* add r9b, r12b */
	assert_int_equal(i.op[0].reg, REG_R9);
	assert_int_equal(i.op[1].reg, REG_R12);
	/* REX counts only directly before the opcode. */
	i = DECODE(MODE_64, 0x48, 0x66, 0x01, 0xd8);
	assert_int_equal(i.opsize, 2);
	assert_int_equal(i.ext_at, i.prefix_len);
	/* 40-4F outside 64-bit mode are INC and DEC. */
	assert_int_equal(DECODE(MODE_32, 0x48).info->id, INSN_ID_DEC);
}

static void test_memory(void **state)
{
	struct insn i;

	(void)state;
	i = DECODE(MODE_64, 0x8b, 0x84, 0xb3, 0x78, 0x56, 0x34, 0x92); /* [rbx+rsi*4+disp32] */
	assert_true(i.flags & INSN_HAS_MEM);
	assert_int_equal(i.mem.base, REG_RBX);
	assert_int_equal(i.mem.index, REG_RSI);
	assert_int_equal(i.mem.scale, 2);
	assert_int_equal(i.mem.disp, (int32_t)0x92345678);
	assert_int_equal(i.mem.seg, SEG_DS);
	assert_int_equal(i.mem.size, 4);
	assert_int_equal(i.flags & (INSN_MEM_READ | INSN_MEM_WRITE), INSN_MEM_READ);
	i = DECODE(MODE_64, 0x64, 0x8b, 0x05, 0x10, 0, 0, 0);	/* fs:[rip+10h] */
	assert_int_equal(i.mem.base, REG_RIP);
	assert_int_equal(i.mem.seg, SEG_FS);
	/* ES to DS overrides do nothing in 64-bit mode; rBP and rSP mean SS. */
	assert_int_equal(DECODE(MODE_64, 0x26, 0x8b, 0x00).mem.seg, SEG_DS);
	assert_int_equal(DECODE(MODE_32, 0x26, 0x8b, 0x00).mem.seg, SEG_ES);
	assert_int_equal(DECODE(MODE_32, 0x8b, 0x45, 0x04).mem.seg, SEG_SS);
	assert_int_equal(DECODE(MODE_32, 0x3e, 0x8b, 0x45, 0x04).mem.seg, SEG_DS);
	/* Address sizes */
	i = DECODE(MODE_16, 0x8b, 0x47, 0xfe);		/* [bx-2] */
	assert_int_equal(i.mem.base, REG_RBX);
	assert_int_equal(i.mem.addr_size, 2);
	assert_int_equal(i.mem.disp, -2);
	i = DECODE(MODE_16, 0x67, 0x8b, 0x04, 0x24);
	assert_int_equal(i.mem.base, REG_RSP);
	assert_int_equal(i.mem.addr_size, 4);
	assert_int_equal(DECODE(MODE_64, 0x67, 0x8b, 0x00).mem.addr_size, 4);
	/* moffs */
	i = DECODE(MODE_64, 0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 0x88);
	assert_int_equal(i.mem.base, REG_NONE);
	assert_int_equal((uint64_t)i.mem.disp, 0x8807060504030201);
	/* Addresses only */
	assert_true(DECODE(MODE_64, 0x48, 0x8d, 0x00).mem.is_address);
	assert_true(DECODE(MODE_64, 0x0f, 0x1f, 0x00).mem.is_address);
	assert_true(DECODE(MODE_64, 0x0f, 0x01, 0x38).mem.is_address);	/* invlpg */
	assert_false(DECODE(MODE_64, 0x0f, 0xae, 0x38).mem.is_address);	/* clflush */
}

static void test_strings(void **state)
{
	struct insn i;

	(void)state;
	i = DECODE(MODE_64, 0x64, 0xa4);		/* movsb from fs */
	assert_int_equal(i.mem.base, REG_RSI);
	assert_int_equal(i.mem.seg, SEG_FS);
	assert_false(i.flags & (INSN_HAS_MEM | INSN_BRANCH));
	i = DECODE(MODE_64, 0xf3, 0x48, 0xab);
	assert_int_equal(i.info->id, INSN_ID_STOSQ);
	assert_int_equal(i.mem.base, REG_RDI);
	assert_int_equal(i.flags & (INSN_REP | INSN_REPNE | INSN_BRANCH), INSN_REP | INSN_BRANCH);
	i = DECODE(MODE_64, 0xf2, 0xae);
	assert_int_equal(i.flags & (INSN_REP | INSN_REPNE), INSN_REPNE);
	/* MOVSD and CMPSD the string instructions, and the SSE2 ones */
	assert_int_equal(DECODE(MODE_64, 0xa5).info->id, INSN_ID_MOVSD);
	assert_int_equal(DECODE(MODE_64, 0xf2, 0x0f, 0x10, 0xc1).info->id, INSN_ID_MOVSD_SSE);
	assert_int_equal(DECODE(MODE_64, 0xf2, 0x0f, 0xc2, 0xc1, 0).info->how, HOW_HOST);
}

static void test_immediates(void **state)
{
	struct insn i;

	(void)state;
	assert_int_equal(DECODE(MODE_64, 0x48, 0x83, 0xc0, 0xf0).imm, -16);
	assert_int_equal((uint32_t)DECODE(MODE_64, 0xb8, 0, 0, 0, 0xf0).imm, 0xf0000000);
	assert_int_equal(DECODE(MODE_64, 0x48, 0xb8, 8, 7, 6, 5, 4, 3, 2, 1).imm, 0x0102030405060708);
	i = DECODE(MODE_64, 0xc8, 0x34, 0x12, 0x03);	/* enter */
	assert_int_equal(i.imm, 0x1234);
	assert_int_equal(i.imm2, 3);
	assert_int_equal(i.imm_len, 3);
	i = DECODE(MODE_64, 0xf2, 0x0f, 0x78, 0xc1, 16, 48);	/* insertq xmm0, xmm1, 16, 48 */
	assert_int_equal(i.imm_at, 4);
	assert_int_equal(i.imm_len, 2);
	i = DECODE(MODE_32, 0xea, 4, 3, 2, 1, 0x22, 0x11);
	assert_int_equal(i.info->id, INSN_ID_JMP_FAR);
	assert_int_equal(i.imm, 0x01020304);
	assert_int_equal(i.imm2, 0x1122);
	i = DECODE(MODE_64, 0xe8, 0xfb, 0xff, 0xff, 0xff);
	assert_int_equal(i.op[0].kind, OPND_REL);
	assert_int_equal(i.imm, -5);
	/* Intel's processors ignore 66 on near branches in 64-bit mode. */
	i = DECODE(MODE_64, 0x66, 0xe8, 1, 0, 0, 0);
	assert_int_equal(i.opsize, 8);
}

static void test_conditions(void **state)
{
	(void)state;
	for (uint8_t c = 0; c < 16; c++) {
		assert_int_equal(DECODE(MODE_64, 0x70 | c, 0).cond, c);
		assert_int_equal(DECODE(MODE_64, 0x0f, 0x80 | c, 0, 0, 0, 0).cond, c);
		assert_int_equal(DECODE(MODE_64, 0x0f, 0x90 | c, 0xc0).cond, c);
		assert_int_equal(DECODE(MODE_64, 0x0f, 0x40 | c, 0xc1).cond, c);
	}
}

static void test_flags(void **state)
{
	struct insn i;

	(void)state;
	i = DECODE(MODE_64, 0x11, 0xd8);
	assert_int_equal(i.flags_read, RFLAGS_CF);
	assert_int_equal(i.flags_written, RFLAGS_ARITH);
	i = DECODE(MODE_64, 0xff, 0xc0);		/* inc */
	assert_int_equal(i.flags_written, RFLAGS_ARITH & ~RFLAGS_CF);
	assert_int_equal(DECODE(MODE_64, 0xa4).flags_read, RFLAGS_DF);
	assert_int_equal(DECODE(MODE_64, 0x48, 0x8d, 0x00).flags_written, 0);
}

/* The registers an instruction uses without naming them. */
static void test_implicit_registers(void **state)
{
	struct insn i;

	(void)state;
	i = DECODE(MODE_64, 0x0f, 0xc7, 0x08);		/* cmpxchg8b */
	assert_int_equal(i.gpr_read, BIT(REG_RAX) | BIT(REG_RCX) | BIT(REG_RDX) | BIT(REG_RBX));
	assert_int_equal(i.gpr_written, BIT(REG_RAX) | BIT(REG_RDX));
	i = DECODE(MODE_64, 0x0f, 0x01, 0xf9);		/* rdtscp */
	assert_int_equal(i.gpr_written, BIT(REG_RAX) | BIT(REG_RCX) | BIT(REG_RDX));
	i = DECODE(MODE_64, 0x66, 0x0f, 0x3a, 0x61, 0xc1, 1); /* pcmpestri: six operands */
	assert_int_equal(i.gpr_read, BIT(REG_RAX) | BIT(REG_RDX));
	assert_int_equal(i.gpr_written, BIT(REG_RCX));
}

static void test_lock(void **state)
{
	(void)state;
	assert_true(DECODE(MODE_64, 0xf0, 0x01, 0x00).flags & INSN_LOCK);
	assert_int_equal(RESULT(MODE_64, 0xf0, 0x01, 0xc0), DECODE_UD);	/* register */
	assert_int_equal(RESULT(MODE_64, 0xf0, 0x03, 0x00), DECODE_UD);	/* memory is source */
	assert_int_equal(RESULT(MODE_64, 0xf0, 0x8b, 0x00), DECODE_UD);
	assert_int_equal(RESULT(MODE_64, 0xf0, 0x90), DECODE_UD);
	/* XACQUIRE and XRELEASE are hints. */
	assert_true(DECODE(MODE_64, 0xf2, 0xf0, 0x01, 0x00).flags & INSN_LOCK);
}

static void test_not_instructions(void **state)
{
	(void)state;
	assert_int_equal(DECODE(MODE_64, 0x0f, 0x0b).info->id, INSN_ID_UD2);	/* which is there to be #UD */
	assert_int_equal(RESULT(MODE_64, 0x0f, 0xb9, 0xc0), DECODE_UD);		/* ud1 */
	assert_int_equal(RESULT(MODE_64, 0x0f, 0xff, 0xc0), DECODE_UD);		/* ud0 */
	/* Gone in 64-bit mode */
	for (unsigned int op = 0; op < 256; op++) {
		static const uint8_t gone[] = { 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f,
			0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xea };

		if (memchr(gone, op, sizeof(gone))) {
			assert_int_equal(RESULT(MODE_64, op, 0xc0, 0, 0, 0, 0, 0), DECODE_UD);
			assert_int_not_equal(RESULT(MODE_32, op, 0xc0, 0, 0, 0, 0, 0), DECODE_UD);
		}
	}
	assert_int_equal(RESULT(MODE_64, 0x8e, 0xc8), DECODE_UD);	/* mov cs, ax */
	assert_int_equal(RESULT(MODE_64, 0x0f, 0x20, 0xc8), DECODE_UD);	/* cr1 */
	/* Not in any model: XBEGIN, 3DNow!, VMCALL's neighbours */
	assert_int_equal(RESULT(MODE_64, 0xc7, 0xf8, 0, 0, 0, 0), DECODE_UD);
	assert_int_equal(RESULT(MODE_64, 0x0f, 0x0f, 0xc1, 0x9e), DECODE_UD);
	assert_int_equal(RESULT(MODE_64, 0x0f, 0x01, 0xc2), DECODE_UD);	/* vmlaunch */
}

/* Encodings that are hints where the feature is missing, and prefixes that are none. */
static void test_hints(void **state)
{
	struct insn i;

	(void)state;
	assert_int_equal(DECODE(MODE_64, 0xf3, 0x0f, 0x1e, 0xfa).info->how, HOW_C);	/* endbr64 */
	assert_int_equal(DECODE(MODE_64, 0xf3, 0x48, 0x0f, 0x1e, 0xc8).info->how, HOW_C); /* rdsspq */
	assert_int_equal(DECODE(MODE_64, 0xf3, 0x90).info->id, INSN_ID_PAUSE);
	assert_int_equal(DECODE(MODE_64, 0x66, 0x90).info->id, INSN_ID_NOP);
	assert_int_equal(DECODE(MODE_64, 0x41, 0x90).info->id, INSN_ID_XCHG);	/* r8d, eax */
	assert_int_equal(DECODE(MODE_64, 0xf3, 0x0f, 0xbc, 0xc1).info->id, INSN_ID_TZCNT);
	assert_int_equal(must(MODE_64 | DECODE_NO_TZCNT, BYTES(0xf3, 0x0f, 0xbc, 0xc1)).info->id,
			 INSN_ID_BSF);
	assert_int_equal(must(MODE_64 | DECODE_NO_LZCNT, BYTES(0xf3, 0x0f, 0xbd, 0xc1)).info->id,
			 INSN_ID_BSR);
	i = DECODE(MODE_64, 0x36, 0x3e, 0x75, 0x00);	/* branch hints */
	assert_int_equal(i.info->id, INSN_ID_JNZ);
	assert_int_equal(i.prefix_len, 2);
}

static void test_length(void **state)
{
	uint8_t b[32];

	(void)state;
	memset(b, 0x66, sizeof(b));
	b[14] = 0x90;
	assert_int_equal(result(MODE_64, b, 15), DECODE_OK);
	assert_int_equal(result(MODE_64, b, 14), DECODE_MORE);
	memset(b, 0x66, sizeof(b));
	b[15] = 0x90;
	assert_int_equal(result(MODE_64, b, 16), DECODE_LONG);
	for (unsigned int n = 0; n < 7; n++) {
		const uint8_t mov[] = { 0x48, 0xc7, 0x00, 1, 2, 3, 4 };

		assert_int_equal(result(MODE_64, mov, n), DECODE_MORE);
	}
}

static void test_ends_of_blocks(void **state)
{
	(void)state;
	assert_true(DECODE(MODE_64, 0xeb, 0).flags & INSN_BRANCH);
	assert_true(DECODE(MODE_64, 0x0f, 0x05).flags & INSN_BRANCH);
	assert_true(DECODE(MODE_64, 0xfa).flags & INSN_BRANCH);
	assert_true(DECODE(MODE_64, 0x9d).flags & INSN_BRANCH);
	assert_true(DECODE(MODE_64, 0x0f, 0x22, 0xd8).flags & INSN_BRANCH);
	assert_true(DECODE(MODE_64, 0x8e, 0xd8).flags & INSN_BRANCH);
	assert_false(DECODE(MODE_64, 0x8c, 0xd8).flags & INSN_BRANCH);
	assert_true(DECODE(MODE_64, 0x0f, 0xa1).flags & INSN_BRANCH);	/* pop fs */
	assert_false(DECODE(MODE_64, 0x58).flags & INSN_BRANCH);
	assert_true(DECODE(MODE_64, 0xec).flags & INSN_BRANCH);
	assert_false(DECODE(MODE_64, 0x9c).flags & INSN_BRANCH);
}

static void test_classes(void **state)
{
	(void)state;
	assert_int_equal(DECODE(MODE_64, 0x01, 0xc0).info->insn_class, CLASS_INNOCUOUS);
	assert_int_equal(DECODE(MODE_64, 0xf4).info->insn_class, CLASS_PRIVILEGED | CLASS_CONTROL);
	/* The ones for which x86 was called not virtualizable */
	assert_int_equal(DECODE(MODE_64, 0x9d).info->insn_class, CLASS_CONTROL | CLASS_BEHAVIOUR);
	assert_int_equal(DECODE(MODE_64, 0x0f, 0x01, 0x00).info->insn_class, CLASS_BEHAVIOUR);
	assert_int_equal(DECODE(MODE_32, 0x0f, 0x02, 0xc0).info->insn_class, CLASS_BEHAVIOUR);
	assert_int_equal(DECODE(MODE_64, 0x0f, 0x20, 0xc0).info->id, INSN_ID_MOV_CR);
	assert_int_equal(DECODE(MODE_64, 0x8e, 0xd0).info->id, INSN_ID_MOV_SEG);
	assert_int_equal(DECODE(MODE_64, 0x89, 0xd0).info->id, INSN_ID_MOV);
	assert_int_equal(DECODE(MODE_64, 0xcb).info->id, INSN_ID_RET_FAR);
	assert_int_equal(DECODE(MODE_64, 0xc3).info->id, INSN_ID_RET);
}

/* Where the parts are, so that instructions can be rewritten. */
static void test_layout(void **state)
{
	struct insn i;

	(void)state;
	i = DECODE(MODE_64, 0x66, 0x41, 0x81, 0x84, 0x8c, 4, 3, 2, 1, 0x22, 0x11);
	assert_int_equal(i.encoding, ENC_LEGACY);
	assert_int_equal(i.ext_at, 1);
	assert_int_equal(i.prefix_len, 2);
	assert_int_equal(i.modrm_at, 3);
	assert_int_equal(i.sib_at, 4);
	assert_int_equal(i.disp_at, 5);
	assert_int_equal(i.disp_len, 4);
	assert_int_equal(i.imm_at, 9);
	assert_int_equal(i.imm_len, 2);
	i = DECODE(MODE_64, 0x64, 0xc5, 0xf8, 0x58, 0x00);
	assert_int_equal(i.encoding, ENC_VEX2);
	assert_int_equal(i.ext_at, 1);
	assert_int_equal(i.prefix_len, 3);
	i = DECODE(MODE_64, 0x62, 0xf1, 0x7c, 0x49, 0x58, 0x41, 0x02);	/* vaddps zmm0{k1} */
	assert_int_equal(i.encoding, ENC_EVEX);
	assert_int_equal(i.prefix_len, 4);
	assert_int_equal(i.mem.mask, 1);
	assert_int_equal(i.mem.elem, 4);
	assert_int_equal(i.mem.size, 64);
	assert_int_equal(i.mem.disp, 128);	/* disp8 times 64 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operand_sizes), cmocka_unit_test(test_registers),
		cmocka_unit_test(test_memory), cmocka_unit_test(test_strings),
		cmocka_unit_test(test_immediates), cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_flags), cmocka_unit_test(test_implicit_registers),
		cmocka_unit_test(test_lock), cmocka_unit_test(test_not_instructions),
		cmocka_unit_test(test_hints), cmocka_unit_test(test_length),
		cmocka_unit_test(test_ends_of_blocks), cmocka_unit_test(test_classes),
		cmocka_unit_test(test_layout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
