/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Break- and watchpoints of a debugger outside the guest, which cannot see them.  Addresses
 * are linear and hold in all address spaces.  One set for all vCPUs, changed only while none
 * of them runs; after a change of watchpoints the TLBs are flushed (vm_set_debugger()).
 */
#ifndef VIREO_CPU_DEBUGGER_H
#define VIREO_CPU_DEBUGGER_H

#include "cpu/vcpu.h"

#define DEBUG_BREAKS_MAX	64
#define DEBUG_WATCHES_MAX	16
#define DEBUG_WATCH_LEN_MAX	4096U

struct debug_watch {
	enum debug_point kind;
	gva_t first;
	uint32_t len;		/* 1 to DEBUG_WATCH_LEN_MAX, not around the end of the space */
};

struct debugger {
	gva_t brk[DEBUG_BREAKS_MAX];
	unsigned int break_count;
	struct debug_watch watch[DEBUG_WATCHES_MAX];
	unsigned int watch_count;
};

/* Is there a breakpoint in [first, first+len)? */
bool debugger_breaks_in(const struct debugger *d, gva_t first, unsigned int len);
/* Must @v stop before the instruction at @rip?  Then v->debug_hit says why. */
bool debugger_stops(struct vcpu *v, gva_t rip);
/* Does a watchpoint touch the page of @gva? */
bool debugger_watches_page(const struct debugger *d, gva_t gva);
/* Sets v->debug_hit if a watchpoint is for this access. */
void debugger_note_access(struct vcpu *v, gva_t gva, unsigned int size, bool write);

#endif
