// SPDX-License-Identifier: Apache-2.0
/* `vireo run --printer`. */
#include "backend/errand.h"
#include "backend/spool.h"
#include "backend/spool_queue.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct printer_spec {
	char text[PATH_MAX];		/* the option's, cut at the commas */
	char vm[SPOOL_NAME_MAX + 1];
	const char *out, *lp;
	unsigned int idle_ms;
	bool form_feed;
};

static int set_key(struct printer_spec *s, const char *item, struct err *e)
{
	char *end;
	double seconds;

	if (!strncmp(item, "out=", 4)) {
		s->out = item + 4;
	} else if (!strncmp(item, "lp=", 3)) {
		s->lp = item + 3;
	} else if (!strncmp(item, "name=", 5)) {
		if (spool_name_check(item + 5, e))
			return -EINVAL;
		strcpy(s->vm, item + 5);
	} else if (!strcmp(item, "form-feed")) {
		s->form_feed = true;
	} else if (!strncmp(item, "idle=", 5)) {
		seconds = strtod(item + 5, &end);
		if (*end || !(seconds >= 0.1 && seconds <= 3600))
			return err_set(e, EINVAL, "--printer: a job's end takes 0.1 to 3600 seconds, "
				       "not '%s'", item + 5);
		s->idle_ms = seconds * 1000;
	} else {
		return err_set(e, EINVAL, "--printer knows no '%s': it takes out=DIR, lp=NAME, name=VM, "
			       "idle=SECONDS, form-feed", item);
	}
	return 0;
}

static int parse(struct printer_spec *s, const char *text, struct err *e)
{
	char *rest = s->text, *item;
	int rc = 0;

	*s = (struct printer_spec){ .idle_ms = 3000 };
	snprintf(s->vm, sizeof(s->vm), "vm-%d", (int)getpid());
	if (strlen(text) >= sizeof(s->text))
		return err_set(e, EINVAL, "--printer: the text is too long");
	strcpy(s->text, text);
	strsep(&rest, ",");
	while (!rc && (item = strsep(&rest, ",")))
		rc = set_key(s, item, e);
	if (!rc && s->out && s->lp)
		rc = err_set(e, EINVAL, "--printer: jobs go to out=%s or to lp=%s, not to both", s->out,
			     s->lp);
	return rc;
}

/* Other processes put jobs out too: the folder needs a name that means the same to all. */
static int set_destination(int queue, const struct printer_spec *s, struct err *e)
{
	char path[PATH_MAX];

	if (s->lp)
		return spool_queue_set_destination(queue, "lp", s->lp, e);
	if (!s->out)
		return 0;
	if (!realpath(s->out, path))
		return err_errno(e, errno, "print jobs cannot go to the folder %s", s->out);
	return spool_queue_set_destination(queue, "dir", path, e);
}

int run_add_printer(struct vm *vm, const struct run_options *o, struct err *e)
{
	struct char_backend *printer;
	struct spool_config c = { .log = vm_log(vm) };
	struct printer_spec s;
	int rc;

	if (!o->printer)
		return 0;
	rc = parse(&s, o->printer, e);
	if (rc)
		return rc;
	c.queue = spool_queue_open(s.text, true, e);
	if (c.queue < 0)
		return c.queue;
	c.vm = s.vm;
	c.idle_ms = s.idle_ms;
	c.form_feed = s.form_feed;
	rc = set_destination(c.queue, &s, e);
	if (!rc)
		rc = errand_create(&c.put_out, NULL, "print", s.text, e);
	if (!rc)
		rc = spool_create(&printer, vm_loop(vm), &c, e);
	if (rc) {
		errand_destroy(c.put_out);
		close(c.queue);
		return rc;
	}
	return vm_add_printer(vm, printer, e);
}
