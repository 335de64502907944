// SPDX-License-Identifier: Apache-2.0
/* `vireo run --balloon`. */
#include "mgmt/run_devices.h"
#include "virtio/balloon.h"

#include <errno.h>
#include <string.h>

static int set_key(struct balloon_config *c, const char *item, struct err *e)
{
	if (!strcmp(item, "deflate-on-oom=on") || !strcmp(item, "deflate-on-oom=off"))
		c->deflate_on_oom = !strcmp(item, "deflate-on-oom=on");
	else if (!strcmp(item, "reporting=on") || !strcmp(item, "reporting=off"))
		c->reporting = !strcmp(item, "reporting=on");
	else
		return err_set(e, EINVAL, "--balloon knows no '%s': it takes deflate-on-oom=on|off, "
			       "reporting=on|off", item);
	return 0;
}

static int parse(struct balloon_config *c, const char *text, uint64_t memory, struct err *e)
{
	char copy[128], *rest = copy, *item;
	int rc = 0;

	*c = (struct balloon_config){ .deflate_on_oom = true, .reporting = true };
	if (strlen(text) >= sizeof(copy))
		return err_set(e, EINVAL, "--balloon: the text is too long");
	strcpy(copy, text);
	item = strsep(&rest, ",");
	if (strcmp(item, "0"))
		rc = parse_memory(&c->target, item, e);
	if (!rc && c->target >= memory)
		rc = err_set(e, EINVAL, "a balloon cannot take %llu MiB from a guest with %llu",
			     (unsigned long long)c->target >> 20, (unsigned long long)memory >> 20);
	while (!rc && (item = strsep(&rest, ",")))
		rc = set_key(c, item, e);
	return rc;
}

int run_add_balloon(struct vm *vm, const struct run_options *o, struct err *e)
{
	struct balloon_config c;
	struct virtio_device *d;
	int rc;

	if (!o->balloon)
		return 0;
	rc = parse(&c, o->balloon, o->memory, e);
	if (!rc)
		rc = virtio_balloon_create(&d, vm_space(vm), vm_log(vm), &c, e);
	return rc ? rc : vm_add_balloon(vm, d, e);
}
