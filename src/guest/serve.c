// SPDX-License-Identifier: Apache-2.0
/*
 * Commands at a port: starts one, carries its streams, and tells how it ended; see
 * base/session_wire.h.  Output is written as the host takes it; input that the command does not
 * read is held, and no more is read from the port meanwhile.
 */
#include "guest/guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct command {
	int port;
	pid_t pid;			/* 0: none runs */
	int in, out, err;		/* its streams, -1: closed; with a terminal in and out are one */
	int tty;
	uint8_t *held;			/* input that it has not taken */
	size_t held_at, held_len;
	int in_end;			/* nothing comes after that */
	uint8_t message[SESSION_DATA_MAX + 1];
};

/* --- the port --- */

/* A name in sysfs, of the port @d, is @wanted? */
static int has_name(const char *d, const char *wanted)
{
	char path[300], name[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", d);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, name, sizeof(name) - 1) < 0)
		name[0] = '\0';
	close(fd);
	name[strcspn(name, "\n")] = '\0';
	return !strcmp(name, wanted);
}

static int find_port(const char *wanted)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	char path[300];
	struct dirent *d;
	int fd = -1;

	while (dir && fd < 0 && (d = readdir(dir))) {
		if (d->d_name[0] == '.' || !has_name(d->d_name, wanted))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", d->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

int guest_open_port(int i, unsigned int wait_ms)
{
	char wanted[64];
	unsigned int ms = 0;
	int fd;

	snprintf(wanted, sizeof(wanted), SESSION_PORT "%d", i);
	while ((fd = find_port(wanted)) < 0 && ms < wait_ms) {
		guest_sleep_ms(10);
		ms += 10;
	}
	return fd;
}

/* All of it; 0: the host has gone. */
static int put(int fd, const void *data, size_t n)
{
	for (const char *at = data; n; ) {
		const ssize_t w = write(fd, at, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return 0;
		at += w;
		n -= w;
	}
	return 1;
}

static int send_message(int port, uint8_t type, const void *data, uint32_t len)
{
	const struct session_head h = { .type = type, .len = len };
	uint8_t small[sizeof(h) + 64];

	/* In one piece where it is short, as each write waits for the host. */
	if (len <= sizeof(small) - sizeof(h)) {
		memcpy(small, &h, sizeof(h));
		if (len)
			memcpy(small + sizeof(h), data, len);
		return put(port, small, sizeof(h) + len);
	}
	return put(port, &h, sizeof(h)) && put(port, data, len);
}

static int get(int fd, void *data, size_t n)
{
	for (char *at = data; n; ) {
		const ssize_t r = read(fd, at, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return 0;
		at += r;
		n -= r;
	}
	return 1;
}

/*
 * The next message, of which @got bytes are in @h, into c->message, with a zero behind it; 0: the
 * host has gone.
 */
static int get_message_after(struct command *c, struct session_head *h, size_t got)
{
	if (!get(c->port, (char *)h + got, sizeof(*h) - got) || h->len > SESSION_DATA_MAX ||
	    !get(c->port, c->message, h->len))
		return 0;
	c->message[h->len] = 0;
	return 1;
}

static int get_message(struct command *c, struct session_head *h)
{
	return get_message_after(c, h, 0);
}

static int greet(struct command *c)
{
	const uint32_t version = SESSION_VERSION;

	return send_message(c->port, SESSION_READY, &version, sizeof(version));
}

/* --- starting --- */

static void fail(struct command *c, uint32_t status, const char *fmt, const char *what)
{
	char text[512];

	memcpy(text, &status, sizeof(status));
	snprintf(text + sizeof(status), sizeof(text) - sizeof(status), fmt, what,
		 strerror(errno));
	send_message(c->port, SESSION_FAIL, text, sizeof(status) + strlen(text + sizeof(status)));
}

/* In the child; @tell goes with the exec, or hears why it failed. */
static void __attribute__((noreturn)) become(char **words, char **environment,
					     const char *folder, int tell)
{
	static const char *const defaults[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
	};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	clearenv();
	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
		putenv((char *)defaults[i]);
	for (; *environment; environment++)
		putenv(*environment);
	if (folder[0] && chdir(folder))
		goto fail;
	execvp(words[0], words);
fail:
	if (write(tell, &errno, sizeof(errno)) < 0)
		_exit(126);
	_exit(127);
}

static pid_t fork_on_terminal(struct command *c, const struct session_window *window)
{
	const struct winsize size = { .ws_row = window->rows, .ws_col = window->columns };
	int master;
	pid_t pid;

	pid = forkpty(&master, NULL, NULL, &size);
	if (pid > 0) {
		fcntl(master, F_SETFD, FD_CLOEXEC);
		c->tty = c->in = c->out = master;
	}
	return pid;
}

static pid_t fork_on_pipes(struct command *c)
{
	int in[2], out[2], err[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		setsid();
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		return 0;
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	c->in = in[1];
	c->out = out[0];
	c->err = err[0];
	return pid;
}

/* Was it executed?  Otherwise the host hears why not. */
static int executed(struct command *c, int heard, const char *name)
{
	int why;

	if (read(heard, &why, sizeof(why)) != sizeof(why))
		return 1;
	waitpid(c->pid, NULL, 0);
	c->pid = 0;
	errno = why;
	fail(c, why == ENOENT ? 127 : 126, "'%.300s' cannot be run in the guest: %s", name);
	return 0;
}

/* Cuts @n words from *at; 0: they are not all there. */
static int cut(char **at, char *end, char **out, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (*at >= end)
			return 0;
		out[i] = *at;
		*at += strlen(*at) + 1;
	}
	out[n] = NULL;
	return *at <= end + 1;
}

static int start(struct command *c, size_t len)
{
	static char *words[SESSION_WORDS_MAX + 1], *environment[SESSION_WORDS_MAX + 1], *folder[2];
	char *at = (char *)c->message + sizeof(struct session_start), *end = (char *)c->message + len;
	struct session_start s;
	int tell[2], ok;

	errno = EINVAL;
	if (len < sizeof(s))
		return 0;
	memcpy(&s, c->message, sizeof(s));
	if (!s.words || s.words > SESSION_WORDS_MAX || s.environment > SESSION_WORDS_MAX ||
	    !cut(&at, end, words, s.words) || !cut(&at, end, environment, s.environment) ||
	    !cut(&at, end, folder, 1) || pipe2(tell, O_CLOEXEC)) {
		fail(c, 125, "%s: %s", "the command was not understood");
		return 0;
	}
	c->pid = s.window.rows ? fork_on_terminal(c, &s.window) : fork_on_pipes(c);
	if (!c->pid)
		become(words, environment, folder[0], tell[1]);
	close(tell[1]);
	if (c->pid < 0)
		fail(c, 125, "%s: %s", "no process could be made in the guest");
	ok = c->pid > 0 && executed(c, tell[0], words[0]);
	close(tell[0]);
	if (c->in >= 0)
		fcntl(c->in, F_SETFL, fcntl(c->in, F_GETFL) | O_NONBLOCK);
	return ok;
}

/* --- while it runs --- */

static void close_stream(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void end_input(struct command *c)
{
	static const char end_of_file = 4;	/* as it is typed */

	if (c->tty >= 0) {
		if (write(c->tty, &end_of_file, 1) < 0)
			c->in_end = 0;
	} else {
		close_stream(&c->in);
	}
	c->in_end = 0;
}

/* As much of the held input as the command takes. */
static void feed(struct command *c)
{
	while (c->held_len && c->in >= 0) {
		const ssize_t w = write(c->in, c->held + c->held_at, c->held_len);

		if (w < 0 && errno == EAGAIN)
			return;
		if (w < 0 && errno != EINTR) {
			if (c->tty < 0)
				close_stream(&c->in);
			c->held_len = 0;
		}
		if (w > 0) {
			c->held_at += w;
			c->held_len -= w;
		}
	}
	c->held_len = 0;
	if (c->in_end)
		end_input(c);
}

static int take_message(struct command *c)
{
	struct session_window w;
	struct session_head h;
	struct winsize size;
	uint32_t signo;

	if (!get_message(c, &h))
		return 0;
	switch (h.type) {
	case SESSION_IN:
		memcpy(c->held, c->message, h.len);
		c->held_at = 0;
		c->held_len = h.len;
		feed(c);
		break;
	case SESSION_IN_END:
		c->in_end = 1;
		feed(c);
		break;
	case SESSION_WINDOW:
		if (h.len != sizeof(w) || c->tty < 0)
			break;
		memcpy(&w, c->message, sizeof(w));
		size = (struct winsize){ .ws_row = w.rows, .ws_col = w.columns };
		ioctl(c->tty, TIOCSWINSZ, &size);
		break;
	case SESSION_SIGNAL:
		if (h.len != sizeof(signo))
			break;
		memcpy(&signo, c->message, sizeof(signo));
		if (signo && signo < NSIG)
			kill(-c->pid, signo);
		break;
	case SESSION_GREET:
		return greet(c);
	}
	return 1;
}

/* What came from a stream; 0: the host has gone. */
static int pass_on(struct command *c, int *fd, uint8_t type)
{
	const ssize_t n = read(*fd, c->message, SESSION_DATA_MAX / 2);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 1;
	if (n <= 0) {
		if (*fd == c->tty)	/* in and out are one */
			c->in = -1;
		if (*fd == c->tty)
			c->tty = -1;
		close_stream(fd);
		return 1;
	}
	return send_message(c->port, type, c->message, n);
}

/*
 * Until the command has ended and its output has come; what it left running may go on to have
 * its streams.  0: the host has gone.
 */
static int carry(struct command *c, int process)
{
	int ended = 0;

	while (c->out >= 0 || c->err >= 0) {
		struct pollfd p[5] = {
			{ .fd = c->held_len || ended ? -1 : c->port, .events = POLLIN },
			{ .fd = c->out, .events = POLLIN },
			{ .fd = c->err, .events = POLLIN },
			{ .fd = c->held_len ? c->in : -1, .events = POLLOUT },
			{ .fd = ended ? -1 : process, .events = POLLIN },
		};
		const int n = poll(p, 5, ended ? 0 : -1);

		if (n < 0)
			continue;
		if (ended && !p[1].revents && !p[2].revents)
			break;
		ended |= p[4].revents != 0;
		if (p[3].revents)
			feed(c);
		if (p[1].revents && !pass_on(c, &c->out, SESSION_OUT))
			return 0;
		if (p[2].revents && !pass_on(c, &c->err, SESSION_ERR))
			return 0;
		if (p[0].revents & POLLIN && !take_message(c))
			return 0;
		if (p[0].revents & (POLLHUP | POLLERR) && !(p[0].revents & POLLIN))
			return 0;
	}
	return 1;
}

/* To the end of the command, of which the host hears. */
static void finish(struct command *c)
{
	const int process = syscall(SYS_pidfd_open, c->pid, 0);
	const int here = carry(c, process);
	uint32_t status;
	int how = 0;

	if (process >= 0)
		close(process);
	if (!here)
		kill(-c->pid, SIGKILL);
	while (waitpid(c->pid, &how, 0) < 0 && errno == EINTR)
		;
	status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
	if (here)
		send_message(c->port, SESSION_EXIT, &status, sizeof(status));
}

static void run(struct command *c, size_t len)
{
	sigset_t term;

	/* When all are asked to end, the command is, and how it did is still to be told. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	if (start(c, len))
		finish(c);
	sigprocmask(SIG_UNBLOCK, &term, NULL);
}

/*
 * The beginning of the next message, some bytes of @h.  While nobody is at the other end a port can
 * be read and has nothing; the kernel signals when that changes.
 */
static size_t wait_for_host(int port, struct session_head *h)
{
	const struct timespec now_and_then = { 2, 0 };
	sigset_t io;

	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	for (;;) {
		const ssize_t n = read(port, h, sizeof(*h));

		if (n > 0 || (n < 0 && errno != EINTR))
			return n > 0 ? n : 0;
		if (!n)
			sigtimedwait(&io, NULL, &now_and_then);
	}
}

static void signal_when_ready(int port)
{
	fcntl(port, F_SETOWN, getpid());
	fcntl(port, F_SETFL, fcntl(port, F_GETFL) | O_ASYNC);
}

/* One command, if one comes; 0: the host has gone, perhaps in the middle of a message. */
static int serve_one(struct command *c, struct session_head *h)
{
	size_t got;

	c->pid = 0;
	c->in = c->out = c->err = c->tty = -1;
	c->held_len = c->in_end = 0;
	got = wait_for_host(c->port, h);
	if (!got || !get_message_after(c, h, got))
		return 0;
	if (h->type == SESSION_GREET)
		return greet(c);
	if (h->type == SESSION_START)
		run(c, h->len);
	if (c->tty < 0)
		close_stream(&c->out);
	close_stream(&c->in);
	close_stream(&c->err);
	return 1;
}

void guest_serve(int port, int i)
{
	struct session_head h = { 0 };
	static struct command c;
	sigset_t io;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	sigprocmask(SIG_BLOCK, &io, NULL);
	c = (struct command){ .port = port, .held = malloc(SESSION_DATA_MAX) };
	if (!c.held)
		return;
	signal_when_ready(c.port);
	if (!i)
		greet(&c);
	while (i || h.type != SESSION_START) {
		if (serve_one(&c, &h))
			continue;
		if (!i)
			return;
		/* What is left of a message goes with the open file. */
		close(c.port);
		c.port = guest_open_port(i, 1000);
		if (c.port < 0)
			return;
		signal_when_ready(c.port);
	}
}
