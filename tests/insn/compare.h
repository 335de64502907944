/* SPDX-License-Identifier: Apache-2.0 */
/* What two runs of one instruction left: said in words where it differs. */
#ifndef VIREO_TESTS_INSN_COMPARE_H
#define VIREO_TESTS_INSN_COMPARE_H

#include "case.h"
#include "cpu/vcpu.h"

#include <stdio.h>

/* How many things differ; @f (may be NULL) gets a line for each. */
unsigned int case_compare(FILE *f, const struct test_case *c, const struct outcome *host,
			  const struct outcome *engine);
/* The decoder knows the instruction. */
bool case_decodes(const struct test_case *c);
/* One line: the form and the instruction. */
void case_print(FILE *f, const struct test_case *c);
/* The registers before and after. */
void case_dump(FILE *f, const struct test_case *c, const struct outcome *o);

#endif
