/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction table: what is true of an instruction for every engine.
 * One row a mnemonic, in insn_table.def.
 *
 * Classes are Popek and Goldberg's ("Formal requirements for virtualizable third
 * generation architectures"): privileged traps in user mode; control-sensitive changes
 * the machine's resources, behaviour-sensitive depends on them.  What is sensitive and
 * not privileged is why x86 was called not virtualizable, and is what a translator
 * must rewrite.
 */
#ifndef VIREO_X86_INSN_H
#define VIREO_X86_INSN_H

#include "base/types.h"

#include <Zydis/Mnemonic.h>
#include <Zydis/SharedTypes.h>

/* INSN_ID_*: Zydis's mnemonics, then the forms that have rows of their own. */
enum insn_id {
	INSN_ID_NONE,
#define INSN(ID, name, class, how) INSN_ID_##ID = ZYDIS_MNEMONIC_##ID,
#define INSN_FORM(ID, name, class, how)
#include "x86/insn_table.def"
#undef INSN
#undef INSN_FORM
	INSN_ID_LAST_MNEMONIC = ZYDIS_MNEMONIC_MAX_VALUE,
#define INSN(ID, name, class, how)
#define INSN_FORM(ID, name, class, how) INSN_ID_##ID,
#include "x86/insn_table.def"
#undef INSN
#undef INSN_FORM
	INSN_ID_COUNT
};

enum insn_class {
	CLASS_INNOCUOUS = 0,
	CLASS_PRIVILEGED = BIT(0),
	CLASS_CONTROL = BIT(1),		/* control-sensitive */
	CLASS_BEHAVIOUR = BIT(2),	/* behaviour-sensitive */
};

/* Who executes it in the interpreter. */
enum insn_how {
	HOW_C,		/* a handler of ours */
	HOW_HOST,	/* the host's processor, on the guest's registers */
	HOW_UD,		/* not part of any model of ours */
};

struct insn_info {
	const char *name;	/* mnemonic, lower case; NULL: no row */
	uint16_t id;		/* INSN_ID_* */
	uint8_t insn_class;	/* CLASS_* */
	uint8_t how;
};

/* The row of @id, or NULL: not part of any CPU model of ours. */
const struct insn_info *insn_info(enum insn_id id);

#endif
