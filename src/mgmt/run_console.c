// SPDX-License-Identifier: Apache-2.0
/* `vireo run --console`: consoles and named ports on files, pipes, sockets, descriptors. */
#include "base/char_fd.h"
#include "base/char_socket.h"
#include "mgmt/run_char.h"
#include "mgmt/run_devices.h"
#include "virtio/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct console_spec {
	char text[4096];		/* the option's, cut at the commas */
	const char *in, *out, *socket, *name;
	char at[1024];			/* "": none */
	int fd;				/* -1: none */
};

static int set_key(struct console_spec *s, const char *key, const char *value, struct err *e)
{
	char *end;

	if (!strcmp(key, "in")) {
		s->in = value;
	} else if (!strcmp(key, "out")) {
		s->out = value;
	} else if (!strcmp(key, "socket")) {
		s->socket = value;
	} else if (!strcmp(key, "at")) {
		snprintf(s->at, sizeof(s->at), "%s", value);
	} else if (s->at[0] && (!strcmp(key, "server") || !strcmp(key, "wait") ||
				!strcmp(key, "truncate"))) {
		snprintf(s->at + strlen(s->at), sizeof(s->at) - strlen(s->at), ",%s=%s", key, value);
	} else if (!strcmp(key, "name")) {
		s->name = value;
	} else if (!strcmp(key, "fd")) {
		s->fd = strtoul(value, &end, 10);
		if (*end || end == value || fcntl(s->fd, F_GETFD) < 0)
			return err_set(e, EBADF, "--console: '%s' is no open descriptor", value);
	} else {
		return err_set(e, EINVAL, "--console knows no '%s': it takes out=FILE, in=FILE, "
			       "socket=PATH, fd=N, at=WHERE, name=NAME", key);
	}
	return 0;
}

static int check(const struct console_spec *s, const char *text, struct err *e)
{
	const unsigned int places = (s->in || s->out) + !!s->socket + (s->fd >= 0) + !!s->at[0];
	struct char_place p;

	if (places != 1)
		return err_set(e, EINVAL, "--console %s: give one place: out=FILE and in=FILE, or "
			       "socket=PATH, or fd=N, or at=WHERE", text);
	if (s->name && (!s->name[0] || strlen(s->name) >= CONSOLE_NAME_MAX))
		return err_set(e, EINVAL, "--console: a port's name has 1 to %u characters",
			       CONSOLE_NAME_MAX - 1);
	return s->at[0] ? char_place_parse(&p, "--console at=", s->at, e) : 0;
}

static int parse(struct console_spec *s, const char *text, struct err *e)
{
	char *rest = s->text, *item, *value;
	int rc;

	*s = (struct console_spec){ .fd = -1 };
	if (strlen(text) >= sizeof(s->text))
		return err_set(e, EINVAL, "--console: the text is too long");
	strcpy(s->text, text);
	while ((item = strsep(&rest, ","))) {
		value = strchr(item, '=');
		if (!value)
			return err_set(e, EINVAL, "--console: '%s' is no KEY=VALUE, such as "
				       "out=FILE", item);
		*value++ = '\0';
		rc = set_key(s, item, value, e);
		if (rc)
			return rc;
	}
	return check(s, text, e);
}

int run_console_check(const char *text, struct err *e)
{
	struct console_spec s;

	return parse(&s, text, e);
}

/*
 * Files are made and cut, but not what is open already (/dev/fd/1 may be a log); a named pipe is
 * opened both ways, so that neither end waits for the other.
 */
static int open_file(const char *path, bool write, struct err *e)
{
	struct stat st;
	int flags = write ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, fd;

	if (write && !strncmp(path, "/dev/fd/", 8))
		flags = O_WRONLY | O_APPEND;
	else if (!stat(path, &st) && S_ISFIFO(st.st_mode) && strncmp(path, "/dev/fd/", 8))
		flags = O_RDWR;
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0666);
	return fd < 0 ? err_errno(e, errno, "could not open %s", path) : fd;
}

static int open_files(struct char_backend **out, struct loop *l, const struct console_spec *s,
		      struct err *e)
{
	struct char_fd_config c = { .in = s->fd, .out = s->fd };
	int rc = 0;

	if (s->in)
		rc = c.in = open_file(s->in, false, e);
	if (s->out && rc >= 0)
		rc = c.out = open_file(s->out, true, e);
	if (rc >= 0)
		rc = char_fd_create(out, l, &c, e);
	if (s->in && c.in >= 0)		/* the back end has duplicates */
		close(c.in);
	if (s->out && c.out >= 0)
		close(c.out);
	return rc;
}

static int open_port(struct virtio_console_port *p, struct vm *vm, struct run_chars *chars,
		     const char *text, struct err *e)
{
	struct console_spec s;
	int rc;

	rc = parse(&s, text, e);
	if (rc)
		return rc;
	*p = (struct virtio_console_port){ 0 };
	if (s.name)
		strcpy(p->name, s.name);
	if (s.at[0])
		return run_char_open(chars, &p->backend, "--console at=", s.name ? s.name : "a console",
				     s.at, false, e);
	if (s.socket)
		return char_socket_create(&p->backend, vm_loop(vm), s.socket, e);
	return open_files(&p->backend, vm_loop(vm), &s, e);
}

int run_add_consoles(struct vm *vm, struct run_chars *chars, const struct run_options *o,
		     struct err *e)
{
	struct virtio_console_port port[RUN_CONSOLES_MAX];
	struct virtio_device *d;
	unsigned int count = 0;
	int rc = 0;

	if (!o->console_count)
		return 0;
	while (count < o->console_count && !rc) {
		rc = open_port(&port[count], vm, chars, o->console[count], e);
		count += !rc;
	}
	if (rc) {
		while (count--)
			port[count].backend->ops->destroy(port[count].backend);
		return rc;
	}
	rc = virtio_console_create(&d, vm_space(vm), vm_log(vm), port, count, e);
	return rc ? rc : vm_add_virtio(vm, d, e);
}
