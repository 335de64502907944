// SPDX-License-Identifier: Apache-2.0
/* Random numbers, addresses, ports and code; see random.h. */
#include "random.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define BIT(n)		(1ULL << (n))

uint64_t seed;

uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed ^ seed >> 32;
}

uint64_t rnd_device_address(void)
{
	static const uint32_t bases[] = {
		0xfec00000, 0xfed00000, 0xfee00000, 0xe0000000, 0xa0000, 0xfffff000,
		0xc0000000, 0xf0000000,
	};
	uint64_t at = bases[rnd_below(ARRAY_SIZE(bases))];

	switch (rnd_below(4)) {
	case 0: return at + rnd_below(4096);
	case 1: return at + rnd_below(0x400);
	case 2: return at + 16 * rnd_below(0x40);
	default: return at + 8 * rnd_below(0x100);
	}
}

uint64_t rnd_value(void)
{
	switch (rnd_below(10)) {
	case 0: return rnd_below(16);
	case 1: return -rnd_below(16);
	case 2: return BIT(rnd_below(64));
	case 3: return BIT(rnd_below(64)) - 1;
	case 4: return 0x00007ffffffffff0 + rnd_below(32);
	case 5: return 0xffff7ffffffffff0 + rnd_below(32);
	case 6: return rnd_device_address();
	case 7: return 0x100000 + rnd_below(0x4000000);	/* the image, and the end of the RAM */
	case 8: return (uint32_t)rnd();
	default: return rnd();
	}
}

/* Mostly where a chip is. */
uint16_t rnd_port(void)
{
	static const struct { uint16_t base, count; } chips[] = {
		{ 0x20, 2 }, { 0xa0, 2 }, { 0x4d0, 2 }, { 0x40, 4 }, { 0x60, 5 }, { 0x70, 2 },
		{ 0x80, 1 }, { 0x92, 1 }, { 0xb2, 2 }, { 0xf4, 4 }, { 0x2f8, 8 }, { 0x3f8, 8 },
		{ 0x505, 1 }, { 0x510, 12 }, { 0x600, 16 }, { 0x620, 8 }, { 0xcf8, 8 },
		{ 0xfff8, 8 },
	};
	unsigned int k = rnd_below(ARRAY_SIZE(chips) + 2);

	if (k >= ARRAY_SIZE(chips))
		return rnd();
	return chips[k].base + rnd_below(chips[k].count);
}

bool port_ends_it(uint16_t port)
{
	return port == 0x64 || port == 0x92 || port == 0x505 || (port >= 0xcf6 && port <= 0xcf9) ||
	       (port >= 0xf1 && port <= 0xf7) || (port >= 0x601 && port <= 0x605);
}

/* --- code --- */

struct code {
	uint8_t *p;
	unsigned int bits;
};

static void put8(struct code *c, unsigned int v) { *c->p++ = v; }

static void put_bytes(struct code *c, uint64_t v, unsigned int n)
{
	while (n--) {
		put8(c, v);
		v >>= 8;
	}
}

/* Every register but the stack pointer gets a value. */
static void put_registers(struct code *c)
{
	for (unsigned int r = 0; r < (c->bits == 64 ? 16 : 8); r++) {
		if (r == 4)
			continue;
		if (c->bits == 64)
			put8(c, r < 8 ? 0x48 : 0x49);
		put8(c, 0xb8 + r % 8);
		put_bytes(c, rnd_value(), c->bits / 8);
	}
}

/* Opcodes with a meaning to the system; the second byte of those that begin with 0f. */
static const uint8_t one_byte[] = {
	0x8e, 0x8c, 0x9a, 0xea, 0xcf, 0xca, 0xcb, 0xcd, 0xcc, 0xf1, 0xce, 0xe4, 0xe5, 0xe6, 0xe7,
	0xec, 0xed, 0xee, 0xef, 0x6c, 0x6d, 0x6e, 0x6f, 0xfa, 0xfb, 0x9c, 0x9d, 0xff, 0xc4, 0xc5,
	0x62, 0x63, 0xc8, 0xc9, 0xc2, 0xc3, 0xe8, 0xe9, 0xe0, 0xe3, 0xa4, 0xa5, 0xa6, 0xaa, 0xab,
	0xac, 0xae, 0xf6, 0xf7, 0xd0, 0xd3, 0xd9, 0xdd, 0xdf, 0x9b, 0x07, 0x17, 0x1f,
};
static const uint8_t two_byte[] = {
	0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0d, 0x20, 0x21, 0x22, 0x23,
	0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x37, 0xa0, 0xa1, 0xa2, 0xa9, 0xaa, 0xae, 0xb0, 0xb1,
	0xb2, 0xb4, 0xb5, 0xc7, 0x78, 0x79, 0x77, 0x10, 0x11, 0x28, 0x29, 0x6f, 0x7f, 0xe7, 0xc3,
	0x38, 0x3a, 0xff, 0xb9,
};
static const uint8_t prefixes[] = {
	0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x40, 0x48, 0x4f,
};

static void put_instruction(struct code *c, bool system)
{
	unsigned int kind = rnd_below(system ? 4 : 8);

	while (!rnd_below(3))
		put8(c, prefixes[rnd_below(ARRAY_SIZE(prefixes))]);
	switch (kind) {
	case 0:
		put8(c, one_byte[rnd_below(ARRAY_SIZE(one_byte))]);
		break;
	case 1:
		put8(c, 0x0f);
		put8(c, two_byte[rnd_below(ARRAY_SIZE(two_byte))]);
		break;
	case 2:				/* arithmetic, moves: short forms with a memory operand */
		put8(c, rnd_below(0x40));
		break;
	default:
		put8(c, rnd());
		break;
	}
	put8(c, rnd());			/* ModRM, and what may follow */
	put_bytes(c, rnd_value(), rnd_below(6));
}

void code_make(uint8_t *code, unsigned int bits, bool system)
{
	struct code c = { code, bits };
	uint8_t *end;

	put_registers(&c);
	end = c.p + 8 + rnd_below(64);
	while (c.p < end) {
		if (!rnd_below(4))
			put_bytes(&c, rnd(), 1 + rnd_below(4));
		else
			put_instruction(&c, system);
	}
	/* Wherever it goes on within the page, it comes to an end. */
	while (c.p + 2 <= code + CODE_MAX) {
		put8(&c, 0xcd);		/* int 0x80 */
		put8(&c, 0x80);
	}
}
