/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A piece of a list of buffers: what is read into or written from, without copying the list.
 * The functions look at the list as it is; a span never reaches outside of it.
 */
#ifndef VIREO_BACKEND_SPAN_H
#define VIREO_BACKEND_SPAN_H

#include "base/types.h"

#include <sys/uio.h>

struct span {
	const struct iovec *iov;
	unsigned int count;
	size_t skip;		/* bytes of iov[0] that are not of it; at most its length */
	size_t len;		/* bytes of it; the list has at least these */
};

/* All of a list whose buffers hold at least @len bytes. */
static inline struct span span_of(const struct iovec *iov, unsigned int count, size_t len)
{
	return (struct span){ .iov = iov, .count = count, .len = len };
}

/* Bytes in the list: what @len of span_of() may be at most. */
size_t iov_bytes(const struct iovec *iov, unsigned int count);
/* Drops the first @n bytes; @n at most s->len. */
void span_skip(struct span *s, size_t n);
/* @len bytes from byte @from on; both within @s. */
struct span span_part(const struct span *s, size_t from, size_t len);
/*
 * Up to @max iovecs that stand for the beginning of @s, and in *bytes how much they are.
 * Empty buffers are left out; 0 only for an empty span.
 */
unsigned int span_iov(const struct span *s, struct iovec *out, unsigned int max, size_t *bytes);
void span_zero(const struct span *s);
void span_copy_in(const struct span *s, const void *buf);	/* s->len bytes to the buffers */
void span_copy_out(const struct span *s, void *buf);		/* s->len bytes from them */

#endif
