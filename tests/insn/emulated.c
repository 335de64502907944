// SPDX-License-Identifier: Apache-2.0
/* Explained differences of a KVM that emulates; see emulated.h. */
#include "emulated.h"

#include <string.h>

#define PF_FETCH	BIT(4)

static const struct {
	const char *form, *encoding, *why;	/* encoding "": any */
} known_forms[] = {
#define KNOWN(form, encoding, why) { form, encoding, why },
#include "emulated.def"
#undef KNOWN
};

/*
 * INT3, which ends our cases, is unknown in user mode: #UD comes at it, in 16-bit and 32-bit code
 * as a page fault, since the emulator delivers it with what is left of 64-bit addresses.
 */
void emulated_adjust(const struct outcome *want, struct outcome *got)
{
	if (want->out.vector != EXC_BP || got->out.rip != want->out.rip - 1 ||
	    (got->out.vector != EXC_UD && got->out.vector != EXC_PF))
		return;
	got->out.rip++;
	got->out.vector = EXC_BP;
	got->out.rflags = (got->out.rflags & ~RFLAGS_RF) | (want->out.rflags & RFLAGS_RF);
	got->out.cr2 = want->out.cr2;
}

/* The same for an instruction that it does not know. */
static bool unknown_to_it(const struct test_case *c, const struct outcome *got)
{
	return got->out.rip == c->in.rip &&
	       (got->out.vector == EXC_UD || (got->out.vector == EXC_PF && got->out.error & PF_FETCH));
}

/* The host's bits of CPUID are there for the guest, and so are their instructions. */
static bool of_the_host(const struct outcome *want, const struct outcome *got)
{
	return want->out.vector == EXC_UD &&
	       (got->out.vector != EXC_UD || got->out.rip != want->out.rip);
}

/*
 * An access across two pages: which of them faulted is told otherwise, or the first was written
 * before the second faulted.  And is the kernel's half present, when user mode jumps there?
 */
static bool of_a_page_fault(const struct outcome *want, const struct outcome *got)
{
	if (want->out.vector != EXC_PF || got->out.vector != EXC_PF || want->out.rip != got->out.rip)
		return false;
	return want->out.cr2 / GUEST_PAGE_SIZE != got->out.cr2 / GUEST_PAGE_SIZE ||
	       !(want->out.cr2 & GUEST_PAGE_MASK) || want->out.cr2 >> 63;
}

/* It checks no alignment. */
static bool of_alignment(const struct outcome *want)
{
	return want->out.vector == EXC_AC;
}

/*
 * A violation of a segment, or an address that is not canonical, is told as one of another, in
 * 16-bit and 32-bit code as a page fault too.
 */
static bool of_a_segment(const struct test_case *c, const struct outcome *want,
			 const struct outcome *got)
{
	return want->out.rip == got->out.rip &&
	       (want->out.vector == EXC_GP || want->out.vector == EXC_SS) &&
	       (got->out.vector == EXC_GP || got->out.vector == EXC_SS ||
		(c->code_size != CODE_64 && got->out.vector == EXC_PF));
}

static bool is_known_form(const struct test_case *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(known_forms); i++)
		if (!strcmp(known_forms[i].form, c->form->name) &&
		    !strncmp(known_forms[i].encoding, c->form->encoding,
			     strlen(known_forms[i].encoding)))
			return true;
	return false;
}

bool emulated_otherwise(const struct test_case *c, const struct outcome *want,
			const struct outcome *got)
{
	return unknown_to_it(c, got) || of_the_host(want, got) || of_a_page_fault(want, got) ||
	       of_alignment(want) || of_a_segment(c, want, got) || is_known_form(c);
}
