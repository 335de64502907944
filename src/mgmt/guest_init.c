// SPDX-License-Identifier: Apache-2.0
/* The guest's first program (src/guest), which is part of this one; see run_root.h. */
#include "mgmt/run_root.h"

__asm__(".section .rodata\n"
	".balign 16\n"
	"guest_init_begin:\n"
	".incbin \"" GUEST_INIT "\"\n"
	"guest_init_end:\n"
	".previous");

extern const char guest_init_begin[], guest_init_end[];

const char *guest_init(size_t *size)
{
	*size = guest_init_end - guest_init_begin;
	return guest_init_begin;
}
