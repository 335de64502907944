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
	const char *name;	/* mnemonic, lower case */
	uint16_t id;		/* INSN_ID_* */
	uint8_t insn_class;	/* CLASS_* */
	uint8_t how;
};

#endif
