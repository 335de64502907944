// SPDX-License-Identifier: Apache-2.0
/* `vireo run --share` and `-v`: directories of the host for virtio-9p. */
#include "backend/p9.h"
#include "mgmt/run_devices.h"
#include "virtio/p9.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

struct share_spec {
	char text[PATH_MAX];		/* the option's, cut */
	struct p9_config config;
	const char *tag;
};

/* DIR:TAG[:ro], from the end, as a directory's name may have colons. */
static int parse_short(struct share_spec *s, const char *text, struct err *e)
{
	char *colon = strrchr(s->text, ':');

	if (colon && (!strcmp(colon, ":ro") || !strcmp(colon, ":rw"))) {
		s->config.readonly = !strcmp(colon, ":ro");
		*colon = '\0';
		colon = strrchr(s->text, ':');
	}
	if (!colon || colon == s->text)
		return err_set(e, EINVAL, "-v %s is not DIR:TAG or DIR:TAG:ro", text);
	*colon = '\0';
	s->tag = colon + 1;
	return 0;
}

static int set_security(struct share_spec *s, const char *value, struct err *e)
{
	static const char *const names[] = {
		[P9_NONE] = "none", [P9_MAPPED] = "mapped-xattr", [P9_PASSTHROUGH] = "passthrough",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(value, names[i])) {
			s->config.security = i;
			return 0;
		}
	}
	return err_set(e, EINVAL, "--share knows no security=%s: it takes none, mapped-xattr or "
		       "passthrough", value);
}

static int set_key(struct share_spec *s, char *item, struct err *e)
{
	if (!strcmp(item, "readonly")) {
		s->config.readonly = true;
	} else if (!strncmp(item, "tag=", 4)) {
		s->tag = item + 4;
	} else if (!strncmp(item, "security=", 9)) {
		return set_security(s, item + 9, e);
	} else {
		return err_set(e, EINVAL, "--share knows no '%s': it takes tag=TAG, readonly, "
			       "security=none|mapped-xattr|passthrough", item);
	}
	return 0;
}

/* DIR,tag=TAG[,readonly][,security=MODEL] */
static int parse_long(struct share_spec *s, const char *text, struct err *e)
{
	char *rest = s->text, *item;
	int rc = 0;

	strsep(&rest, ",");
	while (!rc && (item = strsep(&rest, ",")))
		rc = set_key(s, item, e);
	if (!rc && !s->tag)
		rc = err_set(e, EINVAL, "--share %s: name the mount tag, as in DIR,tag=TAG", text);
	return rc;
}

static int parse(struct share_spec *s, const struct share_option *o, struct err *e)
{
	int rc;

	memset(s, 0, sizeof(*s));
	if (strlen(o->text) >= sizeof(s->text))
		return err_set(e, ENAMETOOLONG, "a shared directory's name is too long");
	strcpy(s->text, o->text);
	rc = o->is_short ? parse_short(s, o->text, e) : parse_long(s, o->text, e);
	if (!rc && (!s->tag[0] || strlen(s->tag) > P9_TAG_MAX))
		rc = err_set(e, EINVAL, "a shared directory's tag has 1 to %u characters", P9_TAG_MAX);
	s->config.path = s->text;
	return rc;
}

int run_share_path(char path[], size_t size, bool *readonly, const struct share_option *o,
		   struct err *e)
{
	struct share_spec s;
	int rc = parse(&s, o, e);

	if (rc)
		return rc;
	snprintf(path, size, "%s", s.text);
	*readonly = s.config.readonly;
	return 0;
}

int run_share_check(const char *text, struct err *e)
{
	const struct share_option o = { .text = text };
	struct share_spec s;

	return parse(&s, &o, e);
}

char *run_share_long(const char *text)
{
	const struct share_option o = { .text = text, .is_short = true };
	struct share_spec s;
	char *out;

	if (parse(&s, &o, NULL) || strchr(s.text, ',') ||
	    asprintf(&out, "%s,tag=%s%s", s.text, s.tag, s.config.readonly ? ",readonly" : "") < 0)
		return NULL;
	return out;
}

/* A guest's open files are ours. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int add_share(struct vm *vm, struct share_spec *s, struct err *e)
{
	struct virtio_device *d;
	struct p9 *server;
	int rc;

	s->config.log = vm_log(vm);
	rc = p9_create(&server, &s->config, e);
	if (rc)
		return rc;
	rc = virtio_p9_create(&d, vm_space(vm), vm_log(vm), server, s->tag, e);
	if (rc) {
		p9_destroy(server);
		return rc;
	}
	return vm_add_virtio(vm, d, e);
}

int run_add_shares(struct vm *vm, const struct run_options *o, struct err *e)
{
	char tags[RUN_SHARES_MAX][P9_TAG_MAX + 1];
	int rc = 0;

	if (o->share_count)
		raise_descriptor_limit();
	for (unsigned int i = 0; i < o->share_count && !rc; i++) {
		struct share_spec s;

		rc = parse(&s, &o->share[i], e);
		if (rc)
			return rc;
		strcpy(tags[i], s.tag);
		for (unsigned int j = 0; j < i; j++)
			if (!strcmp(tags[j], s.tag))
				return err_set(e, EEXIST, "two shared directories have the tag '%s'", s.tag);
		rc = add_share(vm, &s, e);
	}
	return rc;
}
