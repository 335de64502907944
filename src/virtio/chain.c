// SPDX-License-Identifier: Apache-2.0
/* Bytes of a chain: copies over pieces, headers cut off; see virtio.h. */
#include "virtio/virtio.h"

#include <assert.h>
#include <string.h>

/* The piece that byte *@off lies in, with *@off relative to it; @count: behind the end. */
static unsigned int find_piece(const struct iovec *iov, unsigned int count, size_t *off)
{
	unsigned int i;

	for (i = 0; i < count && *off >= iov[i].iov_len; i++)
		*off -= iov[i].iov_len;
	return i;
}

size_t chain_read(const struct virtq_chain *c, size_t off, void *buf, size_t len)
{
	unsigned int i = find_piece(c->out, c->out_count, &off);
	size_t done = 0, n;

	for (; i < c->out_count && done < len; i++, off = 0) {
		n = MIN(c->out[i].iov_len - off, len - done);
		memcpy((char *)buf + done, (char *)c->out[i].iov_base + off, n);
		done += n;
	}
	return done;
}

size_t chain_write(struct virtq_chain *c, size_t off, const void *buf, size_t len)
{
	unsigned int i = find_piece(c->in, c->in_count, &off);
	size_t done = 0, n;

	for (; i < c->in_count && done < len; i++, off = 0) {
		n = MIN(c->in[i].iov_len - off, len - done);
		memcpy((char *)c->in[i].iov_base + off, (const char *)buf + done, n);
		done += n;
	}
	return done;
}

static void skip(struct iovec **iov, unsigned int *count, size_t *total, size_t len)
{
	unsigned int i;

	assert(len <= *total);
	*total -= len;
	i = find_piece(*iov, *count, &len);
	*iov += i;
	*count -= i;
	if (len) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + len;
		(*iov)->iov_len -= len;
	}
}

static void trim(struct iovec *iov, unsigned int *count, size_t *total, size_t len)
{
	unsigned int i;

	assert(len <= *total);
	*total = len;
	i = find_piece(iov, *count, &len);
	if (len)
		iov[i++].iov_len = len;
	*count = i;
}

void chain_skip_out(struct virtq_chain *c, size_t len)
{
	skip(&c->out, &c->out_count, &c->out_len, len);
}

void chain_skip_in(struct virtq_chain *c, size_t len)
{
	skip(&c->in, &c->in_count, &c->in_len, len);
}

void chain_trim_out(struct virtq_chain *c, size_t len)
{
	trim(c->out, &c->out_count, &c->out_len, len);
}

void chain_trim_in(struct virtq_chain *c, size_t len)
{
	trim(c->in, &c->in_count, &c->in_len, len);
}
