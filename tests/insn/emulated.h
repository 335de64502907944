/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a KVM that emulates every instruction, since it has no hardware behind it, is known to do
 * otherwise in user mode; emulated.def has what belongs to single forms.  On a KVM with hardware
 * nothing of this is asked.
 */
#ifndef VIREO_TESTS_INSN_EMULATED_H
#define VIREO_TESTS_INSN_EMULATED_H

#include "case.h"

/* Takes the end of @got's case for what it means; @want: what the software engine came to. */
void emulated_adjust(const struct outcome *want, struct outcome *got);
/* They differ.  Is it known that they do? */
bool emulated_otherwise(const struct test_case *c, const struct outcome *want,
			const struct outcome *got);

#endif
