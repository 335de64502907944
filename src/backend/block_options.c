// SPDX-License-Identifier: Apache-2.0
/* The text of --disk: PATH[,KEY=VALUE...]; see block.h. */
#include "backend/block.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The next field of @text into @out, two commas standing for one; NULL: it is too long. */
static const char *take_field(const char *text, char *out, size_t size)
{
	size_t n = 0;

	for (; *text; text++) {
		if (*text == ',' && *++text != ',')
			break;
		if (n + 1 == size)
			return NULL;
		out[n++] = *text;
	}
	out[n] = '\0';
	return text;
}

bool block_parse_size(const char *text, uint64_t *bytes, const char **end)
{
	static const char letters[] = "KMGT";
	unsigned long long n;
	unsigned int shift = 0;
	char *rest;
	const char *at;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoull(text, &rest, 0);
	at = *rest ? strchr(letters, *rest & ~0x20) : NULL;
	if (at) {
		shift = 10 * (at - letters + 1);
		rest += strncmp(rest + 1, "iB", 2) ? 1 : 3;
	}
	if (errno || n > (uint64_t)INT64_MAX >> shift)
		return false;
	*bytes = n << shift;
	*end = rest;
	return true;
}

static int set_bool(bool *out, const char *key, const char *value, struct err *e)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return err_set(e, EINVAL, "disk option %s is on or off, not '%s'", key, value);
	*out = !strcmp(value, "on");
	return 0;
}

static int set_number(unsigned int *out, const char *key, const char *value, unsigned int max,
		      struct err *e)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || errno || !n || n > max)
		return err_set(e, EINVAL, "disk option %s is a number from 1 to %u, not '%s'", key, max,
			       value);
	*out = n;
	return 0;
}

static int set_size(uint64_t *out, const char *key, const char *value, struct err *e)
{
	const char *end;

	if (!block_parse_size(value, out, &end) || *end)
		return err_set(e, EINVAL, "disk option %s: '%s' is no size: write 1048576, 1M or 2G",
			       key, value);
	return 0;
}

/* map=OFFSET+SIZE[:OFFSET+SIZE...] */
static int set_map(struct block_options *o, const char *value, struct err *e)
{
	struct block_extent *x;

	for (const char *at = value;; at++) {
		if (o->extent_count == BLOCK_EXTENTS_MAX)
			return err_set(e, EINVAL, "disk option map has more than %u pieces",
				       BLOCK_EXTENTS_MAX);
		x = &o->extents[o->extent_count++];
		if (!block_parse_size(at, &x->offset, &at) || *at++ != '+' ||
		    !block_parse_size(at, &x->size, &at) || !x->size || (*at && *at != ':'))
			return err_set(e, EINVAL, "disk option map: '%s' is not OFFSET+SIZE:OFFSET+SIZE..., "
				       "such as 1M+64M:1G+512M", value);
		if (!*at)
			return 0;
	}
}

static int set_text(char *out, size_t size, const char *key, const char *value, struct err *e)
{
	if (strlen(value) >= size)
		return err_set(e, EINVAL, "disk option %s has at most %zu characters: '%s'", key,
			       size - 1, value);
	snprintf(out, size, "%s", value);
	return 0;
}

static int set_werror(struct block_options *o, const char *value, struct err *e)
{
	if (strcmp(value, "stop") && strcmp(value, "report"))
		return err_set(e, EINVAL, "disk option werror is stop or report, not '%s'", value);
	o->werror = strcmp(value, "stop") ? BLOCK_WERROR_REPORT : BLOCK_WERROR_STOP;
	return 0;
}

static int set_aio(struct block_options *o, const char *value, struct err *e)
{
	if (strcmp(value, "threads") && strcmp(value, "io_uring"))
		return err_set(e, EINVAL, "disk option aio is threads or io_uring, not '%s'", value);
	o->io_uring = !strcmp(value, "io_uring");
	return 0;
}

static int set_bus(struct block_options *o, const char *value, struct err *e)
{
	if (strcmp(value, "virtio") && strcmp(value, "scsi"))
		return err_set(e, EINVAL, "disk option bus is virtio or scsi, not '%s'", value);
	o->scsi = !strcmp(value, "scsi");
	return 0;
}

static int set_format(struct block_options *o, const char *value, struct err *e)
{
	if (strcmp(value, "raw") && strcmp(value, "qcow2"))
		return err_set(e, EINVAL, "disk option format is raw or qcow2, not '%s'", value);
	return set_text(o->format, sizeof(o->format), "format", value, e);
}

struct piece {
	struct block_extent x;
	bool set;
};

static int set_key(struct block_options *o, struct piece *p, const char *key, const char *value,
		   struct err *e)
{
	if (!strcmp(key, "aio"))
		return set_aio(o, value, e);
	if (!strcmp(key, "bus"))
		return set_bus(o, value, e);
	if (!strcmp(key, "format"))
		return set_format(o, value, e);
	if (!strcmp(key, "readonly"))
		return set_bool(&o->read_only, key, value, e);
	if (!strcmp(key, "snapshot"))
		return set_bool(&o->snapshot, key, value, e);
	if (!strcmp(key, "werror"))
		return set_werror(o, value, e);
	if (!strcmp(key, "serial"))
		return set_text(o->serial, sizeof(o->serial), key, value, e);
	if (!strcmp(key, "id"))
		return set_text(o->id, sizeof(o->id), key, value, e);
	if (!strcmp(key, "node"))
		return set_text(o->node, sizeof(o->node), key, value, e);
	if (!strcmp(key, "threads"))
		return set_number(&o->threads, key, value, 64, e);
	if (!strcmp(key, "part"))
		return set_number(&o->part, key, value, 1024, e);
	if (!strcmp(key, "map"))
		return set_map(o, value, e);
	p->set |= !strcmp(key, "offset") || !strcmp(key, "size");
	if (!strcmp(key, "offset"))
		return set_size(&p->x.offset, key, value, e);
	if (!strcmp(key, "size"))
		return set_size(&p->x.size, key, value, e);
	return err_set(e, EINVAL, "a disk has no option '%s'; it has aio, bus, format, id, node, "
		       "readonly, snapshot, werror, serial, threads, part, offset, size and map", key);
}

static int check_pieces(struct block_options *o, const struct piece *p, struct err *e)
{
	if (!!o->part + !!o->extent_count + p->set > 1)
		return err_set(e, EINVAL, "disk '%s': give part, or offset and size, or map", o->path);
	if (p->set) {
		o->extents[0] = p->x;
		o->extent_count = 1;
	}
	return 0;
}

int block_options_parse(struct block_options *o, const char *text, struct err *e)
{
	struct piece p = { 0 };
	char field[1024], *value;
	int rc = 0;

	memset(o, 0, sizeof(*o));
	text = take_field(text, o->path, sizeof(o->path));
	if (!text || !o->path[0])
		return err_set(e, EINVAL, "a disk needs the name of its file: PATH[,KEY=VALUE...]");
	while (*text && !rc) {
		text = take_field(text, field, sizeof(field));
		if (!text)
			return err_set(e, EINVAL, "disk '%s': an option is too long", o->path);
		value = strchr(field, '=');
		if (!value)
			return err_set(e, EINVAL, "disk option '%s' needs a value: KEY=VALUE (a comma in "
				       "the file's name is written twice)", field);
		*value++ = '\0';
		rc = set_key(o, &p, field, value, e);
	}
	return rc ? rc : check_pieces(o, &p, e);
}
