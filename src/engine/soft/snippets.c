// SPDX-License-Identifier: Apache-2.0
/*
 * The store of snippets.  A snippet depends on the instruction's bytes alone, so there is
 * one copy of each, however often the guest's code has it or changes.
 */
#include "engine/soft/host.h"
#include "engine/soft/snippet.h"
#include "engine/soft/soft_priv.h"

#define CACHE_SIZE	(2UL << 20)

int snippets_init(struct soft_vcpu *sv, struct err *e)
{
	int rc = code_cache_init(&sv->snippets, CACHE_SIZE, e);

	if (rc)
		return rc;
	sv->region = (struct trap_region){
		.start = (uintptr_t)sv->snippets.rx, .size = sv->snippets.size,
		.redirect = host_redirect,
	};
	return 0;
}

void snippets_destroy(struct soft_vcpu *sv)
{
	code_cache_destroy(&sv->snippets);
}

static uint32_t hash_bytes(const uint8_t *p, unsigned int len)
{
	uint32_t h = 2166136261u;

	while (len--)
		h = (h ^ *p++) * 16777619u;
	return h;
}

static bool same(const struct snippet_slot *slot, uint32_t hash, const uint8_t *code,
		 unsigned int len)
{
	if (slot->hash != hash || slot->len != len)
		return false;
	for (unsigned int i = 0; i < len; i++)
		if (slot->code[i] != code[i])
			return false;
	return true;
}

void *snippet_store(struct soft_vcpu *sv, const uint8_t *code, unsigned int len)
{
	uint32_t hash = hash_bytes(code, len);
	struct snippet_slot *slot;
	void *entry;

	for (unsigned int i = 0; i < ARRAY_SIZE(sv->snippet_slot); i++) {
		slot = &sv->snippet_slot[(hash + i) % ARRAY_SIZE(sv->snippet_slot)];
		if (slot->len && !same(slot, hash, code, len))
			continue;
		if (slot->len)
			return (void *)slot->code;
		entry = code_cache_add(&sv->snippets, code, len);
		if (entry) {
			*slot = (struct snippet_slot){ .hash = hash, .len = len, .code = entry };
			sv->snippet_count++;
		}
		return entry;
	}
	return NULL;
}

/* A quarter of the table stays free, so that searches stay short. */
bool snippets_full(const struct soft_vcpu *sv)
{
	return sv->snippet_count + BLOCK_INSNS > ARRAY_SIZE(sv->snippet_slot) * 3 / 4 ||
	       code_cache_room(&sv->snippets) < BLOCK_INSNS * (SNIPPET_MAX + 16);
}

void snippets_flush(struct soft_vcpu *sv)
{
	blocks_flush(sv);
	sv->snippets.used = 0;
	sv->snippet_count = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(sv->snippet_slot); i++)
		sv->snippet_slot[i].len = 0;
}
