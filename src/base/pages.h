/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large tables: zeroed memory that takes room as it is used, in huge pages where the host
 * has them for the asking.  Tables of megabytes that are looked into at random cost a walk of
 * the host's page tables each time else.
 */
#ifndef VIREO_BASE_PAGES_H
#define VIREO_BASE_PAGES_H

#include <stddef.h>

/* At least @size bytes, the caller's to free; NULL: no room. */
void *pages_alloc(size_t size);
/* The same in small pages, for what is used here and there. */
void *pages_alloc_small(size_t size);
/* Memory of @p, of one of them with @size, from offset @from on is zeroes again and takes none. */
void pages_give_back(void *p, size_t from, size_t size);
/* @p: of one of them with @size, or NULL. */
void pages_free(void *p, size_t size);

#endif
