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

#include <emmintrin.h>
#include <string.h>

#define BEFORE	64	/* bytes that are decoded before a place, ... */
#define STARTS	4	/* ... from so many places on */
#define STRIDE	16	/* places that are searched together */

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

/* An instruction at some place: 0 bytes, if it was not decoded yet. */
struct extent {
	uint8_t len, prefix_len;
};

static struct extent extent_of(const uint8_t *code, unsigned int size, unsigned int at)
{
	struct insn i;

	if (insn_decode(&i, code + at, MIN(size - at, INSN_MAX_LEN), CODE_64) != DECODE_OK)
		return (struct extent){ 1, 0 };
	return (struct extent){ i.len, i.prefix_len };
}

/*
 * Does decoding from @at on come to the instruction of which @place is a byte behind its prefixes?  @known, of
 * the BEFORE bytes before @place and itself: ways soon meet, and what one found, the next one need not decode.
 */
static bool comes_to(const uint8_t *code, unsigned int size, unsigned int at, unsigned int place,
		     struct extent known[BEFORE + 1])
{
	while (at <= place) {
		struct extent *x = &known[at + BEFORE - place];

		if (!x->len)
			*x = extent_of(code, size, at);
		if (at + x->prefix_len == place)
			return true;
		at += x->len;
	}
	return false;
}

enum finding { INSIDE_ANOTHER, UNCLEAR, INSTRUCTION };

/* What is at @place, which has at least BEFORE bytes before it. */
static enum finding find(const uint8_t *code, unsigned int size, unsigned int place)
{
	struct extent known[BEFORE + 1] = { 0 };
	unsigned int hits = 0;

	for (unsigned int i = 0; i < STARTS; i++)
		hits += comes_to(code, size, place - BEFORE + i, place, known);
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

/* Of the STRIDE places from @p on, those where the first two bytes may be of such an instruction. */
static unsigned int candidates(const uint8_t *p)
{
	static const uint8_t second[] = { 0xa2, 0x31, 0x01, 0x03, 0xae, 0xc7 };	/* see tells() */
	__m128i next = _mm_loadu_si128((const __m128i *)(p + 1)), any = _mm_setzero_si128();

	for (unsigned int i = 0; i < ARRAY_SIZE(second); i++)
		any = _mm_or_si128(any, _mm_cmpeq_epi8(next, _mm_set1_epi8((char)second[i])));
	any = _mm_and_si128(any, _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)p), _mm_set1_epi8(0x0f)));
	return _mm_movemask_epi8(any);
}

/* The first such place from @p on, or NULL. */
static const uint8_t *next_place(const uint8_t *p, const uint8_t *end, bool same_xcr0)
{
	unsigned int found;

	for (; end - p > STRIDE; p += STRIDE)
		for (found = candidates(p); found; found &= found - 1)
			if (tells(p + __builtin_ctz(found), end - p - __builtin_ctz(found), same_xcr0))
				return p + __builtin_ctz(found);
	for (; p < end; p++)
		if (p[0] == 0x0f && tells(p, end - p, same_xcr0))
			return p;
	return NULL;
}

enum cell_code cell_code_look(const uint8_t page[4096], const uint8_t *before, bool same_xcr0,
			      uint8_t copy[4096])
{
	const uint8_t *end = page + GUEST_PAGE_SIZE;
	enum cell_code result = CELL_CODE_PLAIN;

	for (const uint8_t *p = page; (p = next_place(p, end, same_xcr0)); p++) {
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
