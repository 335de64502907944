// SPDX-License-Identifier: Apache-2.0
/*
 * The manifest of an OVF package (DMTF's DSP0243, "OVF package file"): a text file *.mf, each
 * line "SHA256(NAME)= DIGEST".  Packages may be without one.  A certificate (*.cert) is not
 * looked at: that nothing was damaged is known then, and not who made it.
 */
#include "mgmt/appliance_priv.h"
#include "mgmt/image_priv.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/nettle-meta.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE		65536U
#define CONTEXT_MAX	512U
#define DIGEST_MAX	64U

/* One that packages use; NULL: none. */
static const struct nettle_hash *find_hash(const char *name)
{
	static const struct nettle_hash *const known[] = {
		&nettle_sha1, &nettle_sha256, &nettle_sha384, &nettle_sha512,
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcasecmp(known[i]->name, name))
			return known[i];
	return NULL;
}

bool ovf_name_ok(const char *name)
{
	const size_t n = strlen(name);

	for (const char *at = name; *at; at++)
		if ((unsigned char)*at < ' ' || *at == '/' || *at == 127)
			return false;
	return n && n <= OVF_NAME_MAX && name[0] != '.';
}

/* --- a line --- */

struct mf_line {
	char hash[16], name[OVF_NAME_MAX + 1], digest[2 * DIGEST_MAX + 1];
};

/* Without the blanks around it; false: it is too long for @size. */
static bool take(char *out, size_t size, const char *from, const char *to)
{
	while (from < to && isspace((unsigned char)*from))
		from++;
	while (from < to && isspace((unsigned char)to[-1]))
		to--;
	return snprintf(out, size, "%.*s", (int)(to - from), from) < (int)size;
}

/* "SHA256(NAME)= DIGEST", with blanks where one likes; false: it is something else. */
static bool parse_line(const char *line, struct mf_line *l)
{
	const char *open = strchr(line, '('), *equals = strrchr(line, '=');
	const char *close = equals ? memrchr(line, ')', equals - line) : NULL;

	return open && close && open < close && take(l->hash, sizeof(l->hash), line, open) &&
	       take(l->name, sizeof(l->name), open + 1, close) &&
	       take(l->digest, sizeof(l->digest), equals + 1, line + strlen(line));
}

/* --- what it is compared with --- */

struct checking {
	const struct ovf_package *p;
	const struct nettle_hash *hash;
	uint64_t context[CONTEXT_MAX / 8];
	uint8_t piece[PIECE];
};

static int add_file(struct checking *c, const char *name, struct err *e)
{
	const int fd = openat(c->p->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct progress progress;
	uint64_t done = 0;
	struct stat st;
	ssize_t n = 0;

	if (fd < 0)
		return err_errno(e, errno, "'%.300s' has no file '%s', which its manifest names", c->p->path,
				 name);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(e, EINVAL, "'%s' of '%.300s' is no plain file", name, c->p->path);
	}
	progress_begin(&progress, name);
	while (!copy_interrupted() && (n = read(fd, c->piece, sizeof(c->piece))) > 0) {
		c->hash->update(c->context, n, c->piece);
		progress_at(&progress, done += n, st.st_size);
	}
	if (!n)
		progress_end(&progress);
	close(fd);
	return n > 0 ? err_set(e, EINTR, "interrupted") :
	       n ? err_errno(e, errno, "could not read '%s' of '%.300s'", name, c->p->path) : 0;
}

static int check_line(struct checking *c, const struct mf_line *l, struct err *e)
{
	uint8_t digest[DIGEST_MAX];
	char text[2 * DIGEST_MAX + 1];
	int rc = 0;

	c->hash = find_hash(l->hash);
	if (!c->hash || c->hash->context_size > sizeof(c->context))
		return err_set(e, EINVAL, "the manifest of '%.300s' has a sum '%s', which vireo does not know: "
			       "SHA1, SHA256, SHA384, SHA512", c->p->path, l->hash);
	if (!ovf_name_ok(l->name))
		return err_set(e, EINVAL, "the manifest of '%.300s' names '%s', which is no plain name",
			       c->p->path, l->name);
	c->hash->init(c->context);
	if (!strcmp(l->name, c->p->descriptor))
		c->hash->update(c->context, strlen(c->p->text), (const uint8_t *)c->p->text);
	else
		rc = add_file(c, l->name, e);
	if (rc)
		return rc;
	c->hash->digest(c->context, c->hash->digest_size, digest);
	for (unsigned int i = 0; i < c->hash->digest_size; i++)
		sprintf(text + 2 * i, "%02x", digest[i]);
	return !strcasecmp(text, l->digest) ? 0 :
	       err_set(e, EINVAL, "'%s' of '%.300s' is not what the manifest says it was (%s): it is damaged, "
		       "or was changed", l->name, c->p->path, l->hash);
}

/* --- the whole --- */

/* Is there a line for @name? */
static bool has_line(const char *text, const char *name)
{
	char *copy = strdup(text), *rest = copy, *line;
	struct mf_line l;
	bool found = false;

	while (copy && !found && (line = strsep(&rest, "\n")))
		found = parse_line(line, &l) && !strcmp(l.name, name);
	free(copy);
	return found;
}

static bool is_blank(const char *line)
{
	while (isspace((unsigned char)*line))
		line++;
	return !*line;
}

static int check_all(const struct ovf_package *p, const char *manifest, struct err *e)
{
	struct checking *c = malloc(sizeof(*c));
	char *copy = strdup(manifest), *rest = copy, *line;
	struct mf_line l;
	int rc = c && copy ? 0 : err_set(e, ENOMEM, "out of memory for a manifest");

	if (c)
		c->p = p;
	while (!rc && (line = strsep(&rest, "\n"))) {
		if (is_blank(line))
			continue;
		if (!parse_line(line, &l))
			rc = err_set(e, EINVAL, "the manifest of '%.300s' has a line that is no NAME and sum: '%.60s'",
				     p->path, line);
		else
			rc = check_line(c, &l, e);
	}
	free(copy);
	free(c);
	return rc;
}

int ovf_manifest_check(const struct ovf_package *p, const char *const *files, unsigned int count,
		       struct err *e)
{
	const char *dot = strrchr(p->descriptor, '.');
	char name[NAME_MAX + 4], *text;
	ssize_t n;
	int fd, rc;

	/* "router.ovf": "router.mf" */
	snprintf(name, sizeof(name), "%.*s.mf", dot ? (int)(dot - p->descriptor) : NAME_MAX, p->descriptor);
	fd = openat(p->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, "could not open '%s' of '%.300s'", name,
						       p->path);
	text = calloc(1, APPLIANCE_TEXT_MAX + 1);
	n = text ? read(fd, text, APPLIANCE_TEXT_MAX) : -1;
	rc = n < 0 ? err_errno(e, text ? errno : ENOMEM, "could not read '%s' of '%.300s'", name, p->path) : 0;
	for (unsigned int i = 0; i < count && !rc; i++)
		if (!has_line(text, files[i]))
			rc = err_set(e, EINVAL, "the manifest of '%.300s' does not name its disk '%.100s'", p->path,
				     files[i]);
	if (!rc)
		rc = check_all(p, text, e);
	close(fd);
	free(text);
	return rc;
}
