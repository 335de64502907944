// SPDX-License-Identifier: Apache-2.0
/* A debugger's break- and watchpoints; see debugger.h. */
#include "cpu/debugger.h"

bool debugger_breaks_in(const struct debugger *d, gva_t first, unsigned int len)
{
	for (unsigned int i = 0; i < d->break_count; i++)
		if (d->brk[i] - first < len)
			return true;
	return false;
}

bool debugger_stops(struct vcpu *v, gva_t rip)
{
	if (!v->debug_hit.kind && debugger_breaks_in(v->debugger, rip, 1))
		v->debug_hit = (struct debug_hit){ DEBUG_BREAK, rip };
	return v->debug_hit.kind != DEBUG_NONE;
}

bool debugger_watches_page(const struct debugger *d, gva_t gva)
{
	const gva_t page = gva & ~GUEST_PAGE_MASK;

	for (unsigned int i = 0; i < d->watch_count; i++) {
		const struct debug_watch *w = &d->watch[i];

		if (w->first <= page + GUEST_PAGE_MASK && page <= w->first + (w->len - 1))
			return true;
	}
	return false;
}

static bool watches(enum debug_point kind, bool write)
{
	return kind == DEBUG_ACCESS || kind == (write ? DEBUG_WRITE : DEBUG_READ);
}

void debugger_note_access(struct vcpu *v, gva_t gva, unsigned int size, bool write)
{
	const struct debugger *d = v->debugger;

	for (unsigned int i = 0; i < d->watch_count && !v->debug_hit.kind; i++) {
		const struct debug_watch *w = &d->watch[i];

		if (watches(w->kind, write) && w->first <= gva + (size - 1) &&
		    gva <= w->first + (w->len - 1))
			v->debug_hit = (struct debug_hit){ w->kind, w->first };
	}
}
