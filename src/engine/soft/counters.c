// SPDX-License-Identifier: Apache-2.0
/* What the software engine counted, as names and values. */
#include "engine/soft/soft_priv.h"

#define STEPPED_SHOWN	10

/* The instructions that the translator left to the interpreter most often. */
static void tell_stepped(const struct dbt_stats *s, counter_fn *tell, void *arg)
{
	uint64_t limit = UINT64_MAX;
	unsigned int last = 0;

	/* Each time the next lower count; among equals, the next id. */
	for (unsigned int k = 0; k < STEPPED_SHOWN; k++) {
		unsigned int best = INSN_ID_COUNT;
		char name[48] = "translator: steps of ";
		const struct insn_info *info;
		const char *word;
		unsigned int n = 21;

		for (unsigned int id = 0; id < INSN_ID_COUNT; id++) {
			uint64_t c = s->stepped[id];

			if (c && (c < limit || (c == limit && id > last)) &&
			    (best == INSN_ID_COUNT || c > s->stepped[best]))
				best = id;
		}
		if (best == INSN_ID_COUNT)
			return;
		limit = s->stepped[best];
		last = best;
		info = insn_info(best);
		word = info && info->name ? info->name : "others";
		while (*word && n < sizeof(name) - 1)
			name[n++] = *word++;
		name[n] = 0;
		tell(arg, name, limit);
	}
}

static void tell_lockstep(const struct dbt_stats *s, counter_fn *tell, void *arg)
{
	tell(arg, "lockstep: instructions compared", s->compared);
	tell(arg, "lockstep: runs compared", s->compared_runs);
	tell(arg, "lockstep: runs that went too far to compare", s->beyond);
}

static void tell_translator(const struct dbt_stats *s, counter_fn *tell, void *arg)
{
	tell(arg, "translator: blocks translated", s->blocks);
	tell(arg, "translator: bytes of code made", s->bytes);
	tell(arg, "translator: blocks invalidated", s->invalidated);
	tell(arg, "translator: blocks moved", s->moved);
	tell(arg, "translator: blocks right again after a change", s->woken);
	tell(arg, "translator: parts of the code cache emptied", s->flushes);
	tell(arg, "translator: jumps chained", s->chains);
	tell(arg, "translator: lookups", s->lookups);
	tell(arg, "translator: entries", s->entries);
	tell(arg, "translator: exits that came to translated code at once", s->events);
	tell(arg, "translator: exits, jump not chained", s->exits[REASON_CHAIN]);
	tell(arg, "translator: exits, indirect jump not known", s->exits[REASON_INDIRECT]);
	tell(arg, "translator: exits, instruction to step", s->exits[REASON_STEP]);
	tell(arg, "translator: exits, attention", s->exits[REASON_POLL]);
	tell(arg, "translator: exits, host fault", s->exits[REASON_SIGNAL]);
	tell(arg, "translator: windows given", s->windows);
	tell(arg, "translator: window faults", s->window_faults);
	tell(arg, "translator: window pages mapped on a fault", s->window_fills);
	tell(arg, "translator: steps", s->steps);
	tell_stepped(s, tell, arg);
}

static void tell_direct(const struct direct_stats *s, counter_fn *tell, void *arg)
{
	tell(arg, "direct: cells given", s->given);
	tell(arg, "direct: cells taken from programs that left them too often", s->taken);
	tell(arg, "direct: runs", s->runs);
	tell(arg, "direct: left by a page fault", s->faults);
	tell(arg, "direct: pages found and mapped then", s->fills);
	tell(arg, "direct: left by a system call", s->calls);
	tell(arg, "direct: left by another instruction", s->others);
	tell(arg, "direct: left for attention", s->kicks);
}

void soft_counters(struct engine *en, const struct vcpu *v, counter_fn *tell, void *arg)
{
	const struct soft *s = (const struct soft *)en;
	const struct soft_vcpu *sv = v->engine;

	tell(arg, "instructions interpreted", stat_get(&v->stats.insns));
	tell(arg, "blocks decoded", stat_get(&v->stats.blocks_decoded));
	tell(arg, "blocks invalidated", stat_get(&v->stats.blocks_invalidated));
	if (sv->dbt)
		tell_translator(dbt_get_stats(sv->dbt), tell, arg);
	if (sv->direct)
		tell_direct(direct_get_stats(sv->direct), tell, arg);
	if (sv->dbt && s->config.lockstep)
		tell_lockstep(dbt_get_stats(sv->dbt), tell, arg);
}
