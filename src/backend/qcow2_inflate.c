// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: compressed clusters, which are read and never written.  The one inflated last is kept,
 * since a guest reads a cluster in several pieces.  It cannot become stale: a place of the file
 * becomes a compressed cluster only through other programs, before the image was opened.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

static bool inflate_deflate(const uint8_t *in, size_t len, uint8_t *out, size_t size)
{
	z_stream z = { .next_in = (uint8_t *)in, .avail_in = len, .next_out = out, .avail_out = size };
	int rc;

	/* Raw deflate, with the largest window that there is. */
	if (inflateInit2(&z, -15) != Z_OK)
		return false;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && !z.avail_out;
}

static bool inflate_zstd(const uint8_t *in, size_t len, uint8_t *out, size_t size)
{
	ZSTD_inBuffer from = { in, len, 0 };
	ZSTD_outBuffer to = { out, size, 0 };
	ZSTD_DCtx *d = ZSTD_createDCtx();
	size_t rc = 1, before;

	if (!d)
		return false;
	do {
		before = from.pos + to.pos;
		rc = ZSTD_decompressStream(d, &to, &from);
	} while (!ZSTD_isError(rc) && to.pos < to.size && from.pos + to.pos > before);
	ZSTD_freeDCtx(d);
	return !ZSTD_isError(rc) && to.pos == to.size;
}

static int inflate_cluster(struct qcow2 *q, uint64_t entry)
{
	uint64_t off, len;
	uint8_t *in;
	bool ok;
	int rc;

	if (!q->inflated)
		q->inflated = malloc(q->cluster_size);
	map_compressed(q, entry, &off, &len);
	in = malloc(len);
	if (!in || !q->inflated) {
		free(in);
		return -ENOMEM;
	}
	q->inflated_entry = 0;
	rc = file_read(q, off, in, len);
	if (!rc) {
		ok = (q->zstd ? inflate_zstd : inflate_deflate)(in, len, q->inflated, q->cluster_size);
		if (!ok) {
			pthread_mutex_lock(&q->lock);
			rc = damaged(q, "the compressed cluster at offset %#llx cannot be unpacked",
				     (unsigned long long)off);
			pthread_mutex_unlock(&q->lock);
		} else {
			q->inflated_entry = entry;
		}
	}
	free(in);
	return rc;
}

int inflate_read(struct qcow2 *q, uint64_t entry, uint64_t at, const struct span *s)
{
	int rc = 0;

	pthread_mutex_lock(&q->inflate_lock);
	if (q->inflated_entry != entry)
		rc = inflate_cluster(q, entry);
	if (!rc)
		span_copy_in(s, q->inflated + at);
	pthread_mutex_unlock(&q->inflate_lock);
	return rc;
}
