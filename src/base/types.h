/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address spaces, small helpers.  A guest-virtual address (after segmentation),
 * a guest-physical address and a host pointer never share a variable; functions
 * that convert are named for it (gva_to_gpa, gpa_to_hva).
 */
#ifndef VIREO_BASE_TYPES_H
#define VIREO_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gva_t;	/* guest-virtual ("linear" in the manual) */
typedef uint64_t gpa_t;	/* guest-physical */

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define BIT(n)		(1ULL << (n))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define MAX(a, b)	((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)	(((x) + (a) - 1) & ~((uint64_t)(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((uint64_t)(a) - 1))
#define container_of(p, type, member) \
	((type *)((char *)(p) - offsetof(type, member)))

#define GUEST_PAGE_SHIFT	12
#define GUEST_PAGE_SIZE		4096ULL
#define GUEST_PAGE_MASK		(GUEST_PAGE_SIZE - 1)

#endif
