/* SPDX-License-Identifier: Apache-2.0 */
/* What the translator made of a piece of guest code, for who wants to see it. */
#ifndef VIREO_ENGINE_TRACE_H
#define VIREO_ENGINE_TRACE_H

#include "base/types.h"

struct trace_insn {
	gva_t gva;
	uint8_t bytes[15];
	unsigned int len;
	bool code32;		/* not 64-bit code */
	const char *insn_class;	/* innocuous, sensitive, ... */
	const char *why;	/* what was done with it, and the reason */
	const uint8_t *code;	/* its host code, in ... */
	unsigned int code_len;	/* ... bytes; 0: all of it is shared or nothing */
};

struct trace_block {
	gva_t gva;
	gpa_t gpa;
	bool user;
	unsigned int count;
	const struct trace_insn *insn;
	const uint8_t *rest;	/* behind the instructions: ways out */
	unsigned int rest_len;
	const uint8_t *cold;	/* elsewhere: what hardly runs */
	unsigned int cold_len;
};

/*
 * Tells @block about each translation that has an instruction at @at, when it was made; on the
 * vCPU's thread.  The code is readable until the call returns.
 */
struct engine_trace {
	gva_t at;
	void (*block)(void *arg, const struct trace_block *b);
	void *arg;
};

#endif
