// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo console`: a client of char_console.h's socket.  The escape key is that of `vireo run`;
 * its full stop leaves the console here, and the machine runs on.
 */
#include "mgmt/console_client.h"
#include "mgmt/command.h"
#include "mgmt/control_client.h"
#include "mgmt/status.h"
#include "mgmt/terminal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct console_client {
	const struct machine *m;
	int socket;
	int in;				/* -1: its end has come */
	struct escape escape;
	struct terminal *terminal;	/* NULL: stdin is none */
	bool left;
	uint8_t held[4096];		/* typed, not yet taken by the machine */
	size_t held_at, held_count;
};

static void tell(struct console_client *c, const char *command)
{
	struct err e = { 0 };

	if (control_tell(c->m->path, command, &e))
		fprintf(terminal_stderr(c->terminal), "vireo: %s\n", e.text);
}

static void escape_act(void *arg, enum escape_action what)
{
	struct console_client *c = arg;

	switch (what) {
	case ESCAPE_END:
		c->left = true;
		break;
	case ESCAPE_POWER:
		tell(c, "system_powerdown");
		break;
	case ESCAPE_RESET:
		tell(c, "system_reset");
		break;
	case ESCAPE_BREAK:
		tell(c, "serial-break");
		break;
	case ESCAPE_HELP:
		fprintf(terminal_stderr(c->terminal), "\n(here . leaves the console; the VM runs on)");
		escape_print_help(&c->escape, terminal_stderr(c->terminal));
		break;
	}
}

static int open_terminal(struct console_client *c, uint8_t key, struct err *e)
{
	char name[8];
	int rc;

	c->in = STDIN_FILENO;
	if (!isatty(STDIN_FILENO))
		return 0;
	if (!terminal_usable(STDIN_FILENO)) {
		c->in = -1;
		return 0;
	}
	c->escape = (struct escape){ .key = key, .act = escape_act, .arg = c };
	rc = terminal_open(&c->terminal, STDIN_FILENO, false, e);
	if (rc || key == ESCAPE_NONE)
		return rc;
	escape_key_name(key, name);
	fprintf(terminal_stderr(c->terminal), "vireo: this is the console of '%s'; %s then . leaves "
		"it, %s then ? shows the other keys\n", c->m->name, name, name);
	return 0;
}

/* False: nobody reads. */
static bool put(const uint8_t *buf, size_t n)
{
	while (n) {
		const ssize_t w = write(STDOUT_FILENO, buf, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (w <= 0)
			return false;
		buf += w;
		n -= w;
	}
	return true;
}

/* False: the machine has ended. */
static bool from_machine(struct console_client *c)
{
	uint8_t buf[4096];
	const ssize_t n = recv(c->socket, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	if (!put(buf, n))
		c->left = true;
	return true;
}

static void from_user(struct console_client *c)
{
	const ssize_t n = read(c->in, c->held, sizeof(c->held));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->in = -1;
		if (c->terminal)
			c->left = true;	/* the terminal has gone */
		return;
	}
	c->held_at = 0;
	c->held_count = c->terminal ? escape_filter(&c->escape, c->held, n) : (size_t)n;
}

static void to_machine(struct console_client *c)
{
	const ssize_t n = send(c->socket, c->held + c->held_at, c->held_count,
			       MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n > 0) {
		c->held_at += n;
		c->held_count -= n;
	}
}

static void carry(struct console_client *c)
{
	while (!c->left) {
		struct pollfd p[2] = {
			{ .fd = c->socket, .events = POLLIN | (c->held_count ? POLLOUT : 0) },
			{ .fd = c->held_count ? -1 : c->in, .events = POLLIN },
		};

		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (p[0].revents & (POLLIN | POLLHUP | POLLERR) && !from_machine(c))
			return;
		if (p[0].revents & POLLOUT)
			to_machine(c);
		if (p[1].revents)
			from_user(c);
	}
}

int console_attach(const struct machine *m, uint8_t escape_key, struct err *e)
{
	struct console_client c = { .m = m, .in = -1 };
	int rc;

	c.socket = machine_connect(m, MACHINE_CONSOLE, e);
	if (c.socket < 0)
		return machine_state(m) == MACHINE_RUNNING ?
		       (err_set(e, ENOENT, "VM '%s' has its serial port elsewhere: \"serial\" in its "
				"vm.json says where", m->name), STATUS_USAGE) : STATUS_USAGE;
	rc = open_terminal(&c, escape_key, e);
	if (!rc)
		carry(&c);
	terminal_close(c.terminal);
	close(c.socket);
	if (rc)
		return STATUS_HOST;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, c.left ? "\nvireo: left; '%s' runs on\n" : "\nvireo: '%s' has ended\n",
			m->name);
	return STATUS_OK;
}

static int set_escape(void *dest, const char *value, struct err *e)
{
	return escape_parse_key(dest, value, e);
}

static int console_main(const struct command *c, int argc, char **argv)
{
	uint8_t key = ESCAPE_DEFAULT;
	const char *name = NULL;
	struct machine m;
	struct err e = { 0 };
	int rc, status;

	rc = options_parse(c, argc, argv, &key, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc || machine_open(&m, name, &e))
		return command_fail(&e, STATUS_USAGE);
	status = console_attach(&m, key, &e);
	machine_close(&m);
	return e.code ? command_fail(&e, status) : status;
}

static const struct option_def option_defs[] = {
	{ "console-escape", "KEY", "another escape key: ^] (default), ^A ..., or none", set_escape },
};

const struct command command_console = {
	.name = "console",
	.operand = "NAME",
	.summary = "connect this terminal to a VM's serial console",
	.about =
	"Connects this terminal to the serial console of a VM that 'vireo start' started, or stdin\n"
	"and stdout where there is none, until the VM ends.  Several may be connected at once.\n"
	"Ctrl-] then . leaves it, and Ctrl-] then ? shows the other keys.\n"
	"\n"
	"Example:\n"
	"  vireo console web",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = console_main,
};
