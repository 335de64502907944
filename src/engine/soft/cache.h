/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for generated code: one memfd mapped twice, writable here and executable there,
 * so that no page is ever both.  Allocation only goes up; the owner drops everything at
 * once when it is full.
 */
#ifndef VIREO_ENGINE_SOFT_CACHE_H
#define VIREO_ENGINE_SOFT_CACHE_H

#include "base/err.h"
#include "base/types.h"

struct code_cache {
	uint8_t *rw;		/* write here ... */
	uint8_t *rx;		/* ... and run there, at the same offset */
	size_t size, used;
};

int code_cache_init(struct code_cache *c, size_t size, struct err *e);
void code_cache_destroy(struct code_cache *c);

/* Copies @len bytes of position-independent code in; its executable address, NULL: full. */
void *code_cache_add(struct code_cache *c, const uint8_t *code, size_t len);

static inline size_t code_cache_room(const struct code_cache *c)
{
	return c->size - c->used;
}

static inline bool code_cache_contains(const struct code_cache *c, uint64_t address)
{
	return address - (uintptr_t)c->rx < c->size;
}

#endif
