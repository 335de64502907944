// SPDX-License-Identifier: Apache-2.0
/*
 * Which code may run in a cell.
 *
 * Searched for are the bytes of the instructions that tell a program of the host, and are not
 * refused to it.  Most places where there are such bytes are parts of other instructions.  So the code before
 * is decoded, from some places that are as good as any: instructions are soon found where they
 * are, wherever one begins to decode.
 *
 * Where it is one, it is replaced by a privileged instruction in a copy of the page, which is shown instead,
 * and the interpreter executes what is in the guest's memory.  (A program that reads its own code
 * may see that.)  Where it may be one, the page is not for cells.
 *
 * A program that wants to can have such an instruction all the same, by jumping into the middle of
 * another one, and learns what its host is.
 */
#include "cpu/cell_map.h"

#include "cpu/vcpu.h"
#include "x86/decode.h"

#include <string.h>

#define BEFORE	64	/* bytes that are decoded before a place, ... */
#define STARTS	4	/* ... from so many places on */

/* XSAVE and its kin, XRSTOR: more than the guest knows of goes to memory, or comes from there. */
static bool is_xsave(uint8_t opcode, uint8_t modrm)
{
	unsigned int reg = modrm >> 3 & 7;

	return modrm < 0xc0 && (opcode == 0xae ? reg >= 4 && reg <= 6 : reg >= 3 && reg <= 5);
}

/* The second byte and those that follow, of instructions whose first is 0x0f. */
static bool tells(const uint8_t *p, unsigned int avail, bool same_xcr0)
{
	if (avail < 2)
		return false;
	if (!same_xcr0 && avail > 2 && (p[1] == 0xae || p[1] == 0xc7) && is_xsave(p[1], p[2]))
		return true;
	switch (p[1]) {
	case 0xa2:	/* CPUID */
	case 0x31:	/* RDTSC */
		return true;
	case 0x01:	/* XGETBV, RDTSCP */
		return avail > 2 && (p[2] == 0xd0 || p[2] == 0xf9);
	case 0x03:	/* LSL of a register: how Linux learns its processor's number */
		return avail > 2 && p[2] >= 0xc0;
	case 0xc7:	/* RDPID */
		return avail > 2 && p[2] >= 0xf8;
	default:
		return false;
	}
}

/* Does decoding from @at on come to the instruction of which @place is a byte behind its prefixes? */
static bool comes_to(const uint8_t *code, unsigned int size, unsigned int at, unsigned int place)
{
	struct insn i;

	while (at <= place) {
		if (insn_decode(&i, code + at, MIN(size - at, INSN_MAX_LEN), CODE_64) != DECODE_OK)
			i.len = 1, i.prefix_len = 0;
		if (at + i.prefix_len == place)
			return true;
		at += i.len;
	}
	return false;
}

enum finding { INSIDE_ANOTHER, UNCLEAR, INSTRUCTION };

/* What is at @place, which has at least BEFORE bytes before it. */
static enum finding find(const uint8_t *code, unsigned int size, unsigned int place)
{
	unsigned int hits = 0;

	for (unsigned int i = 0; i < STARTS; i++)
		hits += comes_to(code, size, place - BEFORE + i, place);
	return !hits ? INSIDE_ANOTHER : hits == STARTS ? INSTRUCTION : UNCLEAR;
}

/* The same at the beginning of a page, with what is before it. */
static enum finding find_early(const uint8_t *page, const uint8_t *before, unsigned int place)
{
	uint8_t code[BEFORE + BEFORE + INSN_MAX_LEN];

	if (before)
		memcpy(code, before + GUEST_PAGE_SIZE - BEFORE, BEFORE);
	else
		memset(code, 0x90, BEFORE);	/* nothing comes from there: NOPs */
	memcpy(code + BEFORE, page, BEFORE + INSN_MAX_LEN);
	return find(code, sizeof(code), BEFORE + place);
}

enum cell_code cell_code_look(const uint8_t page[4096], const uint8_t *before, bool same_xcr0,
			      uint8_t copy[4096])
{
	const uint8_t *end = page + GUEST_PAGE_SIZE;
	enum cell_code result = CELL_CODE_PLAIN;

	for (const uint8_t *p = page; (p = memchr(p, 0x0f, end - p)); p++) {
		if (!tells(p, end - p, same_xcr0))
			continue;
		switch (p - page < BEFORE ? find_early(page, before, p - page) :
					    find(page, GUEST_PAGE_SIZE, p - page)) {
		case INSIDE_ANOTHER:
			continue;
		case UNCLEAR:
			return CELL_CODE_UNFIT;
		case INSTRUCTION:
			break;
		}
		if (result == CELL_CODE_PLAIN)
			memcpy(copy, page, GUEST_PAGE_SIZE);
		copy[p - page] = 0xf4;		/* HLT, whatever prefixes it has */
		result = CELL_CODE_PATCHED;
	}
	return result;
}
