// SPDX-License-Identifier: Apache-2.0
/* The instruction table; see insn.h and insn_table.def. */
#include "x86/insn.h"

#define CLASS_0		CLASS_INNOCUOUS
#define CLASS_B		CLASS_BEHAVIOUR
#define CLASS_C		CLASS_CONTROL
#define CLASS_C_B	(CLASS_CONTROL | CLASS_BEHAVIOUR)
#define CLASS_P_B	(CLASS_PRIVILEGED | CLASS_BEHAVIOUR)
#define CLASS_P_C	(CLASS_PRIVILEGED | CLASS_CONTROL)
#define CLASS_P_C_B	(CLASS_PRIVILEGED | CLASS_CONTROL | CLASS_BEHAVIOUR)

static const struct insn_info table[INSN_ID_COUNT] = {
#define INSN(ID, mnemonic, class, who) \
	[INSN_ID_##ID] = { .name = #mnemonic, .id = INSN_ID_##ID, \
			   .insn_class = CLASS_##class, .how = HOW_##who },
#define INSN_FORM INSN
#include "x86/insn_table.def"
#undef INSN_FORM
#undef INSN
};

const struct insn_info *insn_info(enum insn_id id)
{
	if (id >= INSN_ID_COUNT || !table[id].name)
		return NULL;
	return &table[id];
}
