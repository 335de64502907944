// SPDX-License-Identifier: Apache-2.0
/*
 * Decoding with a memory: the same bytes are decoded again and again, by the interpreter
 * and then by the translator, after a store beside them, and where code changes so often
 * that no block of it is kept.
 *
 * What matters most is an instruction's shape, the bytes before its displacement and immediate:
 * those two are put into what was decoded for another instruction of that shape.  Which
 * bytes belong to it is guessed from the opcode (shape_length()), and a shape is only used after
 * Zydis has said twice, of the instruction at hand and of one with all bits set in displacement
 * and immediate, that these are what lies behind it and that nothing else depends on them.
 *
 * For all others the key is the 15 bytes that an instruction may have at most, so that
 * its length need not be known.
 */
#include "cpu/fpu.h"
#include "engine/soft/soft_priv.h"

#define SHAPE_MAX	8	/* bytes */

/* The bytes of an instruction, the first one lowest. */
typedef unsigned __int128 insn_bytes;

static insn_bytes low_bytes(insn_bytes all, unsigned int count)
{
	return all & (((insn_bytes)1 << 8 * count) - 1);
}

static struct decode_memo *memo_entry(struct soft_vcpu *sv, uint64_t low, uint64_t high)
{
	uint64_t h = (low ^ (high << 13 | high >> 51)) * 0x9e3779b97f4a7c15ULL;

	return &sv->memo[h >> (64 - MEMO_BITS)];
}

static bool is_prefix(uint8_t byte, unsigned int code_size)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
		return true;
	default:
		return code_size == CODE_64 && (byte & 0xf0) == 0x40;
	}
}

/* Has opcode @op of the first map, or behind 0F, a ModRM byte? */
static bool has_modrm(unsigned int op, bool second)
{
	static const uint16_t first_map[16] = {
		0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a08, 0,
		0xffff, 0, 0, 0, 0x00c3, 0xff0f, 0, 0xc0c0,
	};
	static const uint16_t second_map[16] = {
		0xa00f, 0xffff, 0xff0f, 0, 0xffff, 0xffff, 0xffff, 0xff7f,
		0, 0xffff, 0xf838, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff,
	};

	return (second ? second_map : first_map)[op >> 4] >> (op & 15) & 1;
}

/* Of the bytes up to ModRM and SIB; 0: nothing is known of such an encoding. */
static unsigned int shape_length(insn_bytes all, unsigned int code_size)
{
	unsigned int n = 0, op, modrm;
	bool second = false;

	while (n < SHAPE_MAX - 4 && is_prefix(all >> 8 * n, code_size))
		n++;
	op = (uint8_t)(all >> 8 * n++);
	if (op == 0x0f) {
		second = true;
		op = (uint8_t)(all >> 8 * n++);
	}
	if (!has_modrm(op, second))
		return n;
	modrm = (uint8_t)(all >> 8 * n++);
	if (code_size != CODE_16 && modrm >> 6 != 3 && (modrm & 7) == 4)
		n++;
	return n;
}

/* What displacement and immediate of @i mean, @all being its bytes. */
static int64_t field(insn_bytes all, unsigned int at, unsigned int len, bool extend)
{
	uint64_t value = all >> 8 * at;
	unsigned int unused = 64 - 8 * len;

	if (!len)
		return 0;
	value <<= unused;
	return extend ? (int64_t)value >> unused : (int64_t)(value >> unused);
}

static void put_fields(struct insn *i, insn_bytes all, bool imm_extend)
{
	insn_bytes own = low_bytes(all, i->len);

	if (i->disp_len)
		i->mem.disp = field(all, i->disp_at, i->disp_len, true);
	if (i->imm_len)
		i->imm = field(all, i->imm_at, i->imm_len, imm_extend);
	__builtin_memcpy(i->bytes, &own, INSN_MAX_LEN);
}

/* Are displacement and immediate, one of each at most, all that is behind the shape? */
static bool is_shaped(const struct insn *i, unsigned int shape)
{
	unsigned int end = i->disp_len ? i->disp_at : shape;

	if (end != shape || i->encoding != ENC_LEGACY)
		return false;
	end += i->disp_len;
	if (i->imm_len && i->imm_at != end)
		return false;
	return i->len == end + i->imm_len;
}

static bool same_insn(const struct insn *a, const struct insn *b)
{
	const uint8_t *p = (const uint8_t *)a, *q = (const uint8_t *)b;

	for (unsigned int n = 0; n < sizeof(*a); n++)
		if (p[n] != q[n])
			return false;
	return true;
}

/* Does m->insn, just decoded from @all, stand for every instruction of its shape? */
static bool find_shape(struct decode_memo *m, insn_bytes all, unsigned int shape, unsigned int mode)
{
	insn_bytes ones = low_bytes(all, shape) | ~low_bytes(~(insn_bytes)0, shape);
	const struct insn *i = &m->insn;
	struct insn other, put;

	if (!shape || m->result != DECODE_OK || !is_shaped(i, shape))
		return false;
	if (insn_decode(&other, (const uint8_t *)&ones, INSN_MAX_LEN, mode) != DECODE_OK)
		return false;
	m->imm_extend = other.imm < 0;
	put = *i;
	put_fields(&put, ones, m->imm_extend);
	if (!same_insn(&put, &other))
		return false;
	put_fields(&put, all, m->imm_extend);
	return same_insn(&put, i);
}

static enum decode_result decode_new(struct soft_vcpu *sv, struct insn *out, const uint8_t *bytes,
				     insn_bytes all, unsigned int shape, unsigned int mode)
{
	uint64_t low = all, high = all >> 56;
	struct decode_memo *m, made = { .mode = mode + 1 };

	fpu_put(sv->v);		/* Zydis uses SIMD registers */
	made.result = insn_decode(&made.insn, bytes, INSN_MAX_LEN, mode);
	made.shape = find_shape(&made, all, shape, mode) ? shape : 0;
	if (made.shape) {
		low = low_bytes(all, shape);
		high = 0;
	}
	made.low = low;
	made.high = high;
	m = memo_entry(sv, low, high);
	*m = made;
	*out = made.insn;
	return made.result;
}

enum decode_result memo_decode(struct soft_vcpu *sv, struct insn *out, const uint8_t *bytes,
			       unsigned int avail, unsigned int code_size)
{
	unsigned int mode = code_size | sv->decode_mode, shape;
	const struct decode_memo *m;
	insn_bytes all = 0;
	uint64_t low;

	if (avail < INSN_MAX_LEN || sv->engine->config.translator_no & BIT(TRANSLATOR_OPT_MEMO)) {
		fpu_put(sv->v);
		return insn_decode(out, bytes, MIN(avail, INSN_MAX_LEN), mode);
	}
	__builtin_memcpy(&all, bytes, INSN_MAX_LEN);
	shape = shape_length(all, code_size);
	low = low_bytes(all, shape);
	m = memo_entry(sv, low, 0);
	if (m->low == low && m->shape == shape && m->mode == mode + 1 && shape) {
		*out = m->insn;
		put_fields(out, all, m->imm_extend);
		return DECODE_OK;
	}
	low = all;
	m = memo_entry(sv, low, all >> 56);
	if (m->low == low && m->high == (uint64_t)(all >> 56) && m->mode == mode + 1 && !m->shape) {
		*out = m->insn;
		return m->result;
	}
	return decode_new(sv, out, bytes, all, shape, mode);
}
