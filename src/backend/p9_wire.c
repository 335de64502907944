// SPDX-License-Identifier: Apache-2.0
/*
 * 9P messages: integers (little-endian), strings, qids; and pieces of memory.
 *
 * A reader that runs past its end is marked bad and gives zeros from there on, so a request is
 * read as a whole and checked once; a writer that runs out of room is marked full.
 */
#include "backend/p9_priv.h"

#include <string.h>

uint64_t p9_get(struct p9_in *in, unsigned int bytes)
{
	uint64_t value = 0;

	if ((size_t)(in->end - in->p) < bytes) {
		in->bad = true;
		in->p = in->end;
		return 0;
	}
	for (unsigned int i = 0; i < bytes; i++)
		value |= (uint64_t)*in->p++ << (8 * i);
	return value;
}

/* The text moves one byte to the front, over its length, which makes room for the zero. */
char *p9_get_string(struct p9_in *in)
{
	const size_t len = p9_get(in, 2);
	uint8_t *s = in->p - 1;

	if (in->bad || len > (size_t)(in->end - in->p) || memchr(in->p, 0, len)) {
		in->bad = true;
		in->p = in->end;
		return "";
	}
	memmove(s, in->p, len);
	in->p += len;
	s[len] = '\0';
	return (char *)s;
}

void p9_put_bytes(struct p9_out *out, const void *data, size_t len)
{
	if (len > out->room - out->at) {
		out->full = true;
		return;
	}
	memcpy(out->data + out->at, data, len);
	out->at += len;
}

void p9_put(struct p9_out *out, unsigned int bytes, uint64_t value)
{
	uint8_t b[8];

	for (unsigned int i = 0; i < bytes; i++)
		b[i] = value >> (8 * i);
	p9_put_bytes(out, b, bytes);
}

void p9_put_string(struct p9_out *out, const char *s)
{
	const size_t len = strlen(s);

	p9_put(out, 2, len);
	p9_put_bytes(out, s, len);
}

void p9_put_qid(struct p9_out *out, const struct p9_qid *q)
{
	p9_put(out, 1, q->type);
	p9_put(out, 4, q->version);
	p9_put(out, 8, q->path);
}

/* --- pieces --- */

size_t p9_iov_len(const struct iovec *iov, unsigned int count)
{
	size_t len = 0;

	for (unsigned int i = 0; i < count; i++)
		len += iov[i].iov_len;
	return len;
}

unsigned int p9_iov_slice(struct iovec *to, const struct iovec *iov, unsigned int count,
			  size_t off, size_t len)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < count && len && n < P9_IOV_MAX; i++) {
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - off, len);
		to[n++] = (struct iovec){ (char *)iov[i].iov_base + off, part };
		len -= part;
		off = 0;
	}
	return n;
}

size_t p9_iov_read(const struct iovec *iov, unsigned int count, size_t off, void *buf, size_t len)
{
	struct iovec part[P9_IOV_MAX];
	const unsigned int n = p9_iov_slice(part, iov, count, off, len);
	size_t done = 0;

	for (unsigned int i = 0; i < n; i++) {
		memcpy((char *)buf + done, part[i].iov_base, part[i].iov_len);
		done += part[i].iov_len;
	}
	return done;
}

size_t p9_iov_write(const struct iovec *iov, unsigned int count, size_t off, const void *buf,
		    size_t len)
{
	struct iovec part[P9_IOV_MAX];
	const unsigned int n = p9_iov_slice(part, iov, count, off, len);
	size_t done = 0;

	for (unsigned int i = 0; i < n; i++) {
		memcpy(part[i].iov_base, (const char *)buf + done, part[i].iov_len);
		done += part[i].iov_len;
	}
	return done;
}
