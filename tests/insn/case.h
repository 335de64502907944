/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instruction case: an encoded instruction, the state it starts in, the state it
 * ends in.  The same case runs on the host's processor (host.c) and on an engine
 * (guest.c), both in user mode, both with an arena of pages at the same addresses:
 *
 *   page 0, 1	code, filled with INT3 around the instruction
 *   page 2	nothing
 *   page 3, 4	data
 *   page 5	data, read-only
 *   page 6, 7	nothing
 *   page 8	stack
 *
 * A case ends with an exception: the INT3 behind the instruction (or where it jumped
 * to), or the instruction's own.
 */
#ifndef VIREO_TESTS_INSN_CASE_H
#define VIREO_TESTS_INSN_CASE_H

#include "base/types.h"
#include "cpu/vcpu.h"
#include "x86/regs.h"

#define ARENA_VA	0x10000000ULL
#define ARENA_PAGES	9
#define CODE_PAGE	0
#define DATA_PAGE	3
#define RO_PAGE		5
#define STACK_PAGE	8
#define ARENA_MAPPED	0x13bU		/* pages 0 1 3 4 5 8 */
#define PAGE_VA(n)	(ARENA_VA + (n) * GUEST_PAGE_SIZE)
#define ARENA_SIZE	(ARENA_PAGES * GUEST_PAGE_SIZE)

/* Selectors as Linux has them, and the entries of our LDT. */
#define SEL_CODE32	0x23
#define SEL_DATA	0x2b
#define SEL_CODE64	0x33
#define SEL_LDT(n)	((n) << 3 | 7)
enum { LDT_CODE32, LDT_CODE16, LDT_DATA32, LDT_DATA16, LDT_RO, LDT_DOWN, LDT_ABSENT,
       LDT_XONLY, LDT_TLS, LDT_COUNT };

struct ldt_entry {
	uint32_t base, limit;		/* bytes, or pages */
	bool pages, big, code, down, no_write, absent;	/* no_write: code: not readable */
};
extern const struct ldt_entry ldt_entries[LDT_COUNT];

#define XSAVE_MAX	2880
#define XFEATURES	0xe7ULL		/* x87 SSE AVX AVX-512, as far as the host has them */

struct cpu_image {
	uint64_t gpr[16], rip, rflags;
	uint16_t sel[6];
	uint64_t fs_base, gs_base;
	uint32_t vector;		/* how it ended */
	uint32_t error;
	uint64_t cr2;
	uint8_t xsave[XSAVE_MAX] __attribute__((aligned(64)));
};

/* How a form's instruction is used; see forms.def. */
enum {
	F_BYTE = BIT(0), F_V = BIT(1), F_Y = BIT(2), F_D64 = BIT(3), F_LOCK = BIT(4),
	F_REP = BIT(5), F_MEM = BIT(6), F_REG = BIT(7), F_NO64 = BIT(8), F_ONLY64 = BIT(9),
	F_BITSTR = BIT(10), F_STACK = BIT(11), F_STRING = BIT(12), F_VVVV = BIT(13),
	F_SIMD = BIT(14), F_X87 = BIT(15), F_JUMP = BIT(16), F_SEGREG = BIT(17),
	F_MASKED = BIT(18), F_FAR = BIT(19), F_F64 = BIT(20), F_POPF = BIT(21),
	F_NO_REXW = BIT(22), F_NO_CR2 = BIT(23), F_KREG = BIT(24), F_SEG16 = BIT(25),
	F_PARTIAL = BIT(26), F_FAULT_FLAGS = BIT(27), F_NO_LOCK = BIT(28), F_NO_AC = BIT(29),
	F_ANY_FAULT = BIT(30), F_INSIDE = BIT(31),
};

struct form {
	const char *name;
	const char *encoding;
	uint32_t flags;
	uint32_t undef;		/* flags not compared, with the reason in forms.def */
};
extern const struct form forms[];
extern const unsigned int form_count;
#define BLOCK_FORM	(form_count - 1)	/* not an instruction: see block.c */
#define CODE_MAX	4096

struct test_case {
	const struct form *form;
	uint64_t number;
	unsigned int code_size;		/* enum code_size */
	uint8_t code[CODE_MAX];
	unsigned int len;
	struct cpu_image in;
	uint8_t arena[ARENA_SIZE];
};

struct outcome {
	bool valid;			/* false: the subject could not run the case */
	struct cpu_image out;
	uint8_t arena[ARENA_SIZE];
};

/* gen.c: makes case @number of @seed; only forms whose name starts with @only if given. */
void case_make(struct test_case *c, uint64_t seed, uint64_t number, const char *only);

/* host.c: runs @n cases in a child process. */
int host_open(unsigned int batch);
struct test_case *host_case(unsigned int i);
struct outcome *host_outcome(unsigned int i);
int host_run(unsigned int n);

/* guest.c: runs one case on an engine, @runs times; the last counts. */
struct guest;
struct engine_ops;
struct engine_config;
int guest_open(struct guest **out, const struct engine_ops *ops,
	       const struct engine_config *config, const char *model, unsigned int runs);
void guest_run(struct guest *g, const struct test_case *c, struct outcome *o);
void guest_close(struct guest *g);

/* xstate.c: the XSAVE area's parts on this host. */
struct xpart { uint32_t offset, size; };
struct xpart xstate_part(unsigned int feature);
uint64_t xstate_host_features(void);

#endif
