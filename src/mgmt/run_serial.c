// SPDX-License-Identifier: Apache-2.0
/* `vireo run --serial`: what COM1 and COM2 are connected to. */
#include "base/char_console.h"
#include "base/char_fd.h"
#include "base/char_socket.h"
#include "base/char_tty.h"
#include "mgmt/machine.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_fd(struct char_backend **out, struct loop *l, const char *text, struct err *e)
{
	struct char_fd_config c = { 0 };
	char *end;
	const unsigned long fd = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || fd > INT32_MAX || fcntl(fd, F_GETFD) < 0)
		return err_set(e, EBADF, "--serial: '%s' is no open descriptor", text);
	c.in = c.out = fd;
	return char_fd_create(out, l, &c, e);
}

static int open_file(struct char_backend **out, struct loop *l, const char *path, struct err *e)
{
	struct char_fd_config c = { .in = -1 };
	int rc;

	c.out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
	if (c.out < 0)
		return err_errno(e, errno, "could not open %s", path);
	rc = char_fd_create(out, l, &c, e);
	close(c.out);		/* the back end has a duplicate */
	return rc;
}

static int open_pty(struct char_backend **out, struct vm *vm, unsigned int com, struct err *e)
{
	const char *name;
	const int rc = char_pty_create(out, vm_loop(vm), &name, e);

	if (!rc)
		log_info(vm_log(vm), "COM%u is %s", com, name);
	return rc;
}

static int open_serial(struct char_backend **out, struct vm *vm, const char *where,
		       unsigned int com, struct err *e)
{
	struct loop *l = vm_loop(vm);

	if (!strcmp(where, "pty"))
		return open_pty(out, vm, com, e);
	if (!strncmp(where, "fd:", 3))
		return open_fd(out, l, where + 3, e);
	if (!strncmp(where, "file:", 5))
		return open_file(out, l, where + 5, e);
	if (!strncmp(where, "socket:", 7))
		return char_socket_create(out, l, where + 7, e);
	if (where[0] == '/')
		return char_tty_create(out, l, where, e);
	return err_set(e, EINVAL, "--serial knows no '%s': it takes /dev/NAME, pty, file:PATH, "
		       "socket:PATH, fd:N, stdio or none", where);
}

/* A machine that is kept has no terminal: its first port is for vireo console and vireo logs. */
static int attach_console(struct vm *vm, struct err *e)
{
	struct char_backend *b;
	int rc;

	rc = char_console_create(&b, vm_loop(vm), MACHINE_SERIAL_LOG, MACHINE_CONSOLE, e);
	if (!rc)
		vm_attach_serial(vm, 0, b);
	return rc;
}

int run_add_serials(struct vm *vm, const struct run_options *o, bool *stdio, struct err *e)
{
	bool com2_stdio = false;
	int rc = 0;

	*stdio = true;
	for (unsigned int i = 0; i < o->serial_count && !rc; i++) {
		const bool here = !strcmp(o->serial[i], "stdio");
		struct char_backend *b;

		if (i == 0)
			*stdio = here;
		else
			com2_stdio = here;
		if (here || !strcmp(o->serial[i], "none"))
			continue;
		rc = open_serial(&b, vm, o->serial[i], i + 1, e);
		if (!rc)
			vm_attach_serial(vm, i, b);
	}
	if (!rc && *stdio && o->kept) {
		*stdio = false;
		rc = attach_console(vm, e);
	}
	if (!rc && com2_stdio)
		rc = err_set(e, EINVAL, "--serial stdio is for COM1: give COM2 a pty, a file, a socket");
	return rc;
}
