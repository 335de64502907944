// SPDX-License-Identifier: Apache-2.0
/* Pieces of lists of buffers; see span.h. */
#include "backend/span.h"

#include <string.h>

size_t iov_bytes(const struct iovec *iov, unsigned int count)
{
	size_t n = 0;

	for (unsigned int i = 0; i < count; i++)
		if (__builtin_add_overflow(n, iov[i].iov_len, &n))
			return SIZE_MAX;
	return n;
}

void span_skip(struct span *s, size_t n)
{
	s->len -= n;
	n += s->skip;
	while (s->count && n >= s->iov->iov_len) {
		n -= s->iov->iov_len;
		s->iov++;
		s->count--;
	}
	s->skip = n;
}

struct span span_part(const struct span *s, size_t from, size_t len)
{
	struct span part = *s;

	span_skip(&part, from);
	part.len = len;
	return part;
}

unsigned int span_iov(const struct span *s, struct iovec *out, unsigned int max, size_t *bytes)
{
	size_t skip = s->skip, left = s->len;
	unsigned int n = 0;

	for (unsigned int i = 0; i < s->count && left && n < max; i++) {
		const size_t len = MIN(s->iov[i].iov_len - skip, left);

		if (len)
			out[n++] = (struct iovec){ (char *)s->iov[i].iov_base + skip, len };
		left -= len;
		skip = 0;
	}
	*bytes = s->len - left;
	return n;
}

void span_zero(const struct span *s)
{
	struct span left = *s;
	struct iovec v;
	size_t n;

	while (span_iov(&left, &v, 1, &n)) {
		memset(v.iov_base, 0, n);
		span_skip(&left, n);
	}
}

void span_copy_in(const struct span *s, const void *buf)
{
	struct span left = *s;
	struct iovec v;
	size_t n;

	while (span_iov(&left, &v, 1, &n)) {
		memcpy(v.iov_base, buf, n);
		buf = (const char *)buf + n;
		span_skip(&left, n);
	}
}

void span_copy_out(const struct span *s, void *buf)
{
	struct span left = *s;
	struct iovec v;
	size_t n;

	while (span_iov(&left, &v, 1, &n)) {
		memcpy(buf, v.iov_base, n);
		buf = (char *)buf + n;
		span_skip(&left, n);
	}
}
