// SPDX-License-Identifier: Apache-2.0
/* Large tables in huge pages: see pages.h.  Source: madvise(2), MADV_HUGEPAGE. */
#include "base/pages.h"

#include "base/types.h"

#include <sys/mman.h>

#define HUGE_PAGE	(2UL << 20)

static uint8_t *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static size_t rounded(size_t size)
{
	return ALIGN_UP(size, size < HUGE_PAGE ? 4096 : HUGE_PAGE);
}

void *pages_alloc(size_t size)
{
	uint8_t *p, *start;

	size = rounded(size);
	if (size < HUGE_PAGE)
		return map(size);
	p = map(size + HUGE_PAGE);
	if (!p)
		return NULL;
	start = (uint8_t *)ALIGN_UP((uintptr_t)p, HUGE_PAGE);
	if (start > p)
		munmap(p, start - p);
	munmap(start + size, p + HUGE_PAGE - start);
	(void)madvise(start, size, MADV_HUGEPAGE);	/* a wish: without, it is only slower */
	return start;
}

void *pages_alloc_small(size_t size)
{
	void *p = map(rounded(size));

	if (p)
		(void)madvise(p, rounded(size), MADV_NOHUGEPAGE);
	return p;
}

void pages_give_back(void *p, size_t from, size_t size)
{
	from = rounded(from);
	if (from < rounded(size))
		(void)madvise((uint8_t *)p + from, rounded(size) - from, MADV_DONTNEED);
}

void pages_free(void *p, size_t size)
{
	if (p)
		munmap(p, rounded(size));
}
