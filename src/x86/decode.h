/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoded instruction, in the form that engines keep.  Zydis decodes; this
 * struct holds what execution and translation need, compactly, with the raw bytes
 * and the places of their parts so that an instruction can be copied and rewritten.
 */
#ifndef VIREO_X86_DECODE_H
#define VIREO_X86_DECODE_H

#include "base/types.h"
#include "x86/insn.h"

#define INSN_MAX_LEN	15

enum operand_kind {
	OPND_NONE,
	OPND_GPR,	/* reg: REG_*; high: AH CH DH BH */
	OPND_MEM,	/* the instruction's one memory operand, in insn.mem */
	OPND_IMM,	/* insn.imm (sign- or zero-extended as the instruction means it) */
	OPND_IMM2,	/* insn.imm2: ENTER, far pointers */
	OPND_SEG,	/* reg: SEG_* */
	OPND_CR, OPND_DR,
	OPND_VEC,	/* x87, MMX, XMM-ZMM, mask: only the host's processor looks at it */
	OPND_REL,	/* branch target: insn.imm is the displacement from the next rip */
};

/* Which part of the encoding names an operand's register. */
enum operand_field { FIELD_NONE, FIELD_REG, FIELD_RM, FIELD_OPCODE, FIELD_VVVV };

struct operand {
	uint8_t kind;
	uint8_t reg;
	uint8_t field;		/* enum operand_field */
	uint8_t size;		/* bytes, 0 where it does not apply */
	uint8_t high : 1;	/* AH..BH */
	uint8_t read : 1, written : 1, implicit : 1;
};

#define REG_NONE	0xff
#define REG_RIP		0x10	/* mem.base only: disp is relative to the next rip */

/*
 * The explicit memory operand; of string instructions the one a segment override applies
 * to (rSI, else rDI), of XLAT rBX without AL, of MASKMOVQ rDI.  Stack accesses are not here.
 */
struct mem_operand {
	uint8_t base, index;	/* REG_*, REG_RIP or REG_NONE */
	uint8_t scale;		/* shift: 0-3 */
	uint8_t seg;		/* SEG_*, overrides applied */
	uint8_t addr_size;	/* bytes: 2, 4, 8 */
	bool vsib;		/* index is a vector register: index holds its number */
	bool is_address;	/* LEA, NOP, INVLPG...: the address is used, memory is not */
	uint16_t size;		/* bytes accessed, 0 if unknown or variable (XSAVE) */
	uint8_t elem;		/* vector instructions: bytes of one element */
	uint8_t mask;		/* EVEX: number of the mask register, 0: none */
	int64_t disp;
};

enum {
	INSN_LOCK = BIT(0), INSN_REP = BIT(1), INSN_REPNE = BIT(2),
	INSN_HAS_MEM = BIT(3),
	INSN_VEX = BIT(4),	/* VEX, EVEX or XOP encoded */
	INSN_BRANCH = BIT(5),	/* ends a block: control flow, or mode may change */
	INSN_MEM_READ = BIT(6), INSN_MEM_WRITE = BIT(7),	/* of insn.mem */
	INSN_FLAGS_DEAD = BIT(8),	/* set by engines: nobody will see the flags written */
};

enum insn_encoding { ENC_LEGACY, ENC_VEX2, ENC_VEX3, ENC_EVEX, ENC_XOP };

struct vcpu;

/* Two cache lines; the first holds what most handlers look at. */
struct insn {
	/* The interpreter's handler; enum exec_status of cpu/except.h as int. */
	int (*exec)(struct vcpu *v, const struct insn *i);
	int64_t imm;
	struct mem_operand mem;
	struct operand op[4];		/* the manual's operands in order, then implicit ones if
					 * there is room */
	uint8_t op_count;
	uint8_t len;
	uint8_t opsize;			/* effective operand size in bytes: 1, 2, 4, 8 */
	uint8_t cond;			/* Jcc, SETcc, CMOVcc: condition code 0-15 */

	uint16_t flags;			/* INSN_* */
	uint8_t stack_size;		/* of stack instructions: bytes moved by a push */
	uint8_t code_size;		/* enum code_size it was decoded for */
	uint16_t flags_read, flags_written; /* of RFLAGS_ARITH and DF; written includes undefined */
	const struct insn_info *info;	/* the row of the instruction table */
	void *host;			/* host-executed: the code made for it, or NULL */
	int64_t imm2;
	uint16_t gpr_read, gpr_written;	/* bit n: REG_n as an operand, implicit ones too, but not
					 * as part of an address */
	uint8_t encoding;		/* enum insn_encoding */
	uint8_t isa;			/* ZYDIS_ISA_SET_*: what a CPU model must have */
	uint8_t bytes[INSN_MAX_LEN];
	uint8_t prefix_len;		/* legacy and REX/VEX/EVEX bytes before the opcode */
	uint8_t ext_at;			/* the first REX/VEX/EVEX byte; prefix_len where there is none */
	uint8_t modrm_at, sib_at, disp_at, disp_len; /* offsets; 0: absent */
	uint8_t imm_at, imm_len;		/* of all immediates together, which come last */
};

enum decode_result {
	DECODE_OK,
	DECODE_UD,	/* not an instruction, or not in this mode: #UD */
	DECODE_LONG,	/* more than 15 bytes: #GP(0) */
	DECODE_MORE,	/* the bytes end within the instruction */
};

/* A CPU model without TZCNT and LZCNT executes their encodings as BSF and BSR. */
#define DECODE_NO_TZCNT	BIT(8)
#define DECODE_NO_LZCNT	BIT(9)

/*
 * Decodes the instruction at @bytes (@avail of them).  @mode is an enum code_size and
 * DECODE_* bits.  Uses Zydis and libc: SIMD state must be put away (cpu/fpu.h).
 * @out->exec and ->host are left NULL.  Instructions that only differ in real mode are
 * decoded as in protected mode; their handlers look at the mode.
 */
enum decode_result insn_decode(struct insn *out, const uint8_t *bytes, unsigned int avail,
			       unsigned int mode);

#endif
