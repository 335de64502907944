/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snippet: host code that executes one guest instruction on guest registers; see
 * snippet.c.
 */
#ifndef VIREO_ENGINE_SOFT_SNIPPET_H
#define VIREO_ENGINE_SOFT_SNIPPET_H

#include "x86/decode.h"

struct vcpu;

#define SNIPPET_MAX	192	/* bytes, at most */

/*
 * Called with guest SIMD state live and the host address of the memory operand.  0, or
 * the vector of the host's exception if the instruction did not complete.
 */
typedef int (*snippet_fn)(struct vcpu *v, void *mem);

/* The code for @i into @out (SNIPPET_MAX bytes); its length, 0: cannot be done this way. */
unsigned int snippet_make(const struct insn *i, uint8_t *out);

#endif
