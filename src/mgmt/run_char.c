// SPDX-License-Identifier: Apache-2.0
/* Places that lead out of the VM, and `vireo run --mux`; see run_char.h. */
#include "mgmt/run_char.h"
#include "base/char_mux.h"
#include "base/line_server.h"
#include "machine/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG	16

struct run_chars {
	struct vm *vm;
	const struct run_options *options;
	struct char_mux *mux[RUN_MUXES_MAX];
};

/* The place of "NAME=PLACE", if @name is its name or NULL; else NULL. */
static const char *mux_place(const char *text, const char *name)
{
	const char *is = strchr(text, '=');

	if (!is || is == text || (name && (strlen(name) != (size_t)(is - text) ||
					   strncmp(text, name, is - text))))
		return NULL;
	return is + 1;
}

int run_mux_check(const char *text, struct err *e)
{
	const char *place = mux_place(text, NULL);
	struct char_place p;

	if (!place)
		return err_set(e, EINVAL, "--mux: '%s' is no NAME=WHERE, such as m=stdio", text);
	if (char_place_parse(&p, "--mux", place, e))
		return e ? e->code : -EINVAL;
	if (p.kind == CHAR_NONE || p.kind == CHAR_MUX)
		return err_set(e, EINVAL, "--mux: '%s' cannot be shared", place);
	return 0;
}

/* The number of the --mux called @name, or -1. */
static int find_mux(const struct run_options *o, const char *name)
{
	for (unsigned int i = 0; i < o->mux_count; i++)
		if (mux_place(o->mux[i], name))
			return i;
	return -1;
}

bool run_char_is_stdio(const struct run_options *o, const char *text)
{
	const int i = strncmp(text, "mux:", 4) ? -1 : find_mux(o, text + 4);

	return !strcmp(i < 0 ? text : mux_place(o->mux[i], NULL), "stdio");
}

static void end(void *arg)
{
	vm_stop(arg);
}

static int open_place(struct run_chars *c, struct char_backend **out, const char *option,
		      const char *what, const struct char_place *p, struct err *e)
{
	const char *pty = NULL;
	const int rc = char_place_open(out, vm_loop(c->vm), option, p, &pty, e);

	if (!rc && pty)
		log_info(vm_log(c->vm), "%s is %s", what, pty);
	return rc;
}

static int open_mux(struct run_chars *c, unsigned int i, struct err *e)
{
	struct char_backend *b;
	struct char_place p;
	int rc;

	rc = char_place_parse(&p, "--mux", mux_place(c->options->mux[i], NULL), e);
	if (!rc)
		rc = open_place(c, &b, "--mux", c->options->mux[i], &p, e);
	return rc ? rc : char_mux_create(&c->mux[i], vm_loop(c->vm), b, c->options->mux_key, end, c->vm, e);
}

int run_chars_create(struct run_chars **out, struct vm *vm, const struct run_options *o,
		     struct err *e)
{
	struct run_chars *c = calloc(1, sizeof(*c));
	int rc = 0;

	if (!c)
		return err_set(e, ENOMEM, "out of memory for character devices");
	c->vm = vm;
	c->options = o;
	*out = c;
	for (unsigned int i = 0; i < o->mux_count && !rc; i++)
		rc = open_mux(c, i, e);
	return rc;
}

void run_chars_free(struct run_chars *c)
{
	for (unsigned int i = 0; c && i < RUN_MUXES_MAX; i++)
		if (c->mux[i])
			char_mux_release(c->mux[i]);
	free(c);
}

static int open_port(struct run_chars *c, struct char_backend **out, const char *option,
		     const char *name, bool visited, struct err *e)
{
	const int i = find_mux(c->options, name);

	if (i < 0)
		return err_set(e, ENOENT, "%s: there is no --mux %s=WHERE", option, name);
	return char_mux_port(c->mux[i], out, visited, e);
}

int run_char_open(struct run_chars *c, struct char_backend **out, const char *option,
		  const char *what, const char *text, bool visited, struct err *e)
{
	struct char_place p;
	int rc;

	rc = char_place_parse(&p, option, text, e);
	if (rc)
		return rc;
	if (p.kind == CHAR_MUX)
		return open_port(c, out, option, p.path, visited, e);
	return open_place(c, out, option, what, &p, e);
}

/* --- servers of lines --- */

static int serve(struct line_place *l, struct run_chars *c, const char *option,
		 const struct char_place *p, const struct line_server_ops *ops, void *arg,
		 struct err *e)
{
	if (char_place_listens(p)) {
		l->listener = char_place_listen(option, p, BACKLOG, e);
		if (l->listener < 0)
			return l->listener;
		l->path = char_place_leaves(p) ? strdup(p->path) : NULL;
	}
	return line_server_create(&l->server, vm_loop(c->vm), l->listener, ops, arg, e);
}

int line_place_open(struct line_place *l, struct run_chars *c, const char *option,
		    const char *text, const struct line_server_ops *ops, void *arg, struct err *e)
{
	struct char_backend *b;
	struct char_place p;
	int rc;

	*l = (struct line_place){ .listener = -1 };
	rc = char_place_parse(&p, option, text, e);
	if (!rc)
		rc = serve(l, c, option, &p, ops, arg, e);
	if (rc || l->listener >= 0 || p.kind == CHAR_NONE)
		return rc;
	rc = run_char_open(c, &b, option, option, text, true, e);
	return rc ? rc : line_server_attach(l->server, b, e);
}

void line_place_close(struct line_place *l)
{
	line_server_destroy(l->server);
	if (l->listener >= 0)
		close(l->listener);
	if (l->path)
		unlink(l->path);
	free(l->path);
	*l = (struct line_place){ .listener = -1 };
}
