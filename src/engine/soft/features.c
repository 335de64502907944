// SPDX-License-Identifier: Apache-2.0
/* Which instruction sets a CPU model has: what CPUID does not say raises #UD. */
#include "engine/soft/soft_priv.h"

#include <Zydis/MetaInfo.h>

static bool has(const struct cpu_model *m, enum feature f)
{
	return f == FEAT_NONE || model_has(m, f);
}

void soft_features(struct soft_vcpu *sv)
{
	static const struct { uint8_t isa, need, also; } sets[] = {
#define ISA(set, need, also) { ZYDIS_ISA_SET_##set, FEAT_##need, FEAT_##also },
#include "engine/soft/isa.def"
#undef ISA
	};
	const struct cpu_model *m = sv->v->model;

	_Static_assert(FEAT_COUNT <= 256, "features fit a byte");
	for (unsigned int i = 0; i < ARRAY_SIZE(sets); i++)
		if (has(m, sets[i].need) && has(m, sets[i].also))
			sv->isa_ok[sets[i].isa / 8] |= BIT(sets[i].isa % 8);
	if (!model_has(m, FEAT_BMI1))
		sv->decode_mode |= DECODE_NO_TZCNT;
	if (!model_has(m, FEAT_LZCNT))
		sv->decode_mode |= DECODE_NO_LZCNT;
}
