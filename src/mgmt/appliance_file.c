// SPDX-License-Identifier: Apache-2.0
/* What exporting and importing share: names, checksums, data of archives. */
#include "mgmt/appliance_priv.h"
#include "mgmt/image_priv.h"

#include <archive.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE	65536U

bool appliance_name_ok(const char *name)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	const size_t n = strlen(name);

	return n && n <= APPLIANCE_NAME_MAX && name[0] != '.' && name[0] != '-' &&
	       strspn(name, chars) == n;
}

/* --- checksums --- */

void digest_zeroes(struct sha256_ctx *h, uint64_t count)
{
	static const uint8_t zeroes[PIECE];

	while (count) {
		const size_t n = MIN(count, sizeof(zeroes));

		sha256_update(h, n, zeroes);
		count -= n;
	}
}

void digest_text(struct sha256_ctx *h, char text[DIGEST_TEXT])
{
	uint8_t d[SHA256_DIGEST_SIZE];

	sha256_digest(h, sizeof(d), d);
	for (unsigned int i = 0; i < sizeof(d); i++)
		sprintf(text + 2 * i, "%02x", d[i]);
}

/* --- reading --- */

int appliance_broken(struct archive *a, const char *path, struct err *e)
{
	return err_set(e, EINVAL, "'%.300s' is damaged or no archive: %.150s", path,
		       archive_error_string(a) ? archive_error_string(a) : "it ends early");
}

static int write_all(int fd, const char *buf, size_t len, uint64_t at)
{
	while (len) {
		const ssize_t n = pwrite(fd, buf, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		buf += n;
		at += n;
		len -= n;
	}
	return 0;
}

struct taking {
	uint64_t limit, at;
	struct sha256_ctx hash;
	bool hashed;
};

/* One piece, which lies behind the one before, and within the limit. */
static int take_piece(struct taking *t, int fd, const char *buf, size_t len, int64_t offset,
		      struct err *e)
{
	int rc;

	if (offset < 0 || (uint64_t)offset < t->at || (uint64_t)offset > t->limit ||
	    len > t->limit - offset)
		return err_set(e, EFBIG, "a file in it is larger than it says, or than --max-size allows");
	if (t->hashed) {
		digest_zeroes(&t->hash, offset - t->at);
		sha256_update(&t->hash, len, (const uint8_t *)buf);
	}
	rc = write_all(fd, buf, len, offset);
	t->at = offset + len;
	if (rc)
		return err_errno(e, -rc, "could not write what is imported");
	return copy_interrupted() ? err_set(e, EINTR, "interrupted") : 0;
}

int appliance_take_data(struct archive *a, const char *name, int fd, uint64_t size, uint64_t *size_left,
			char digest[DIGEST_TEXT], struct err *e)
{
	struct progress progress;
	struct taking t = { .limit = size_left ? *size_left : size, .hashed = digest };
	const void *buf;
	la_int64_t offset;
	size_t len;
	int rc;

	progress_begin(&progress, name);
	sha256_init(&t.hash);
	while ((rc = archive_read_data_block(a, &buf, &len, &offset)) == ARCHIVE_OK) {
		rc = len ? take_piece(&t, fd, buf, len, offset, e) : 0;
		if (rc)
			return rc;
		progress_at(&progress, t.at, size);
	}
	progress_end(&progress);
	if (rc != ARCHIVE_EOF)
		return appliance_broken(a, "the archive", e);
	if (size_left) {
		*size_left -= t.at;
	} else {
		if (t.hashed)
			digest_zeroes(&t.hash, size - t.at);
		if (ftruncate(fd, size))
			return err_errno(e, errno, "could not write what is imported");
	}
	if (digest)
		digest_text(&t.hash, digest);
	return 0;
}

int appliance_take_text(struct archive *a, const char *name, char **text, struct err *e)
{
	char *buf = malloc(APPLIANCE_TEXT_MAX + 1);
	size_t at = 0;
	ssize_t n = 0;

	if (!buf)
		return err_set(e, ENOMEM, "out of memory");
	while (at < APPLIANCE_TEXT_MAX && (n = archive_read_data(a, buf + at, APPLIANCE_TEXT_MAX - at)) > 0)
		at += n;
	if (n < 0 || at == APPLIANCE_TEXT_MAX) {
		free(buf);
		return n < 0 ? appliance_broken(a, name, e) :
		       err_set(e, EFBIG, "%s in the archive is too long", name);
	}
	buf[at] = '\0';
	*text = buf;
	return 0;
}
