// SPDX-License-Identifier: Apache-2.0
/*
 * Decoding with a memory: the same bytes are decoded again and again, by the interpreter
 * and then by the translator, after a store beside them, and where code changes so often
 * that no block of it is kept.  The key is the 15 bytes that an instruction may have at
 * most, so that its length need not be known.
 */
#include "cpu/fpu.h"
#include "engine/soft/soft_priv.h"

static struct decode_memo *memo_entry(struct soft_vcpu *sv, uint64_t low, uint64_t high)
{
	uint64_t h = (low ^ (high << 13 | high >> 51)) * 0x9e3779b97f4a7c15ULL;

	return &sv->memo[h >> (64 - MEMO_BITS)];
}

enum decode_result memo_decode(struct soft_vcpu *sv, struct insn *out, const uint8_t *bytes,
			       unsigned int avail, unsigned int code_size)
{
	unsigned int mode = code_size | sv->decode_mode;
	struct decode_memo *m;
	uint64_t low, high;

	if (avail < INSN_MAX_LEN || sv->engine->config.translator_no & BIT(TRANSLATOR_OPT_MEMO)) {
		fpu_put(sv->v);
		return insn_decode(out, bytes, MIN(avail, INSN_MAX_LEN), mode);
	}
	__builtin_memcpy(&low, bytes, 8);
	__builtin_memcpy(&high, bytes + INSN_MAX_LEN - 8, 8);
	m = memo_entry(sv, low, high);
	if (m->low != low || m->high != high || m->mode != mode + 1) {
		fpu_put(sv->v);		/* Zydis uses SIMD registers */
		m->mode = 0;
		m->result = insn_decode(&m->insn, bytes, INSN_MAX_LEN, mode);
		m->low = low;
		m->high = high;
		m->mode = mode + 1;
	}
	*out = m->insn;
	return m->result;
}
