// SPDX-License-Identifier: Apache-2.0
/* Raw mode and its guard; see terminal.h. */
#include "mgmt/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

struct terminal {
	int fd;
	struct termios cooked;
	struct termios raw;
	int pipe;		/* write end: closing it wakes the guard */
	pid_t guard;
	FILE *err;
};

bool terminal_usable(int fd)
{
	return isatty(fd) && tcgetpgrp(fd) == getpgrp();
}

/* Settings that the kernel hands back may differ in fields that nobody set. */
static bool same_settings(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag &&
	       a->c_lflag == b->c_lflag && a->c_cflag == b->c_cflag;
}

static void restore(const struct terminal *t)
{
	struct termios now;

	if (!tcgetattr(t->fd, &now) && same_settings(&now, &t->raw))
		tcsetattr(t->fd, TCSANOW, &t->cooked);
}

/*
 * The guard: waits for the end of the pipe, in a session of its own so that no signal to
 * our process group reaches it.
 */
static void guard_main(const struct terminal *t, int pipe)
{
	const char newline[] = "\r\n";
	char word;
	ssize_t n;

	setsid();
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_IGN);
	prctl(PR_SET_NAME, "vireo-terminal");
	/* Everything else is not ours to keep open. */
	for (int fd = 0; fd < 3; fd++)
		if (fd != t->fd && fd != pipe)
			close(fd);
	close_range(MAX(3, MAX(t->fd, pipe) + 1), ~0U, 0);
	do
		n = read(pipe, &word, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0) {
		restore(t);
		n = write(t->fd, newline, strlen(newline));
	}
	_exit(0);
}

static int start_guard(struct terminal *t, struct err *e)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "could not make a pipe for the terminal's guard");
	t->guard = fork();
	if (t->guard < 0) {
		close(fds[0]);
		close(fds[1]);
		return err_errno(e, errno, "could not start the terminal's guard");
	}
	if (t->guard == 0) {
		close(fds[1]);
		guard_main(t, fds[0]);
	}
	close(fds[0]);
	t->pipe = fds[1];
	return 0;
}

/* Lets the guard go without a restore. */
static void end_guard(struct terminal *t)
{
	const char word = 'x';

	while (write(t->pipe, &word, 1) < 0 && errno == EINTR)
		;
	close(t->pipe);
	while (waitpid(t->guard, NULL, 0) < 0 && errno == EINTR)
		;
}

static ssize_t write_crlf(void *cookie, const char *buf, size_t size)
{
	const char *end = buf + size;

	(void)cookie;
	for (const char *p = buf; p < end; ) {
		const char *nl = memchr(p, '\n', end - p);
		const size_t n = (nl ? nl : end) - p;

		fwrite(p, 1, n, stderr);
		if (nl)
			fputs("\r\n", stderr);
		p += n + (nl != NULL);
	}
	return fflush(stderr) ? 0 : (ssize_t)size;
}

int terminal_open(struct terminal **out, int fd, bool signals, struct err *e)
{
	const cookie_io_functions_t io = { .write = write_crlf };
	struct terminal *t;
	int rc;

	t = calloc(1, sizeof(*t));
	if (!t)
		return err_errno(e, ENOMEM, "could not take the terminal");
	t->fd = fd;
	if (tcgetattr(fd, &t->cooked)) {
		rc = err_errno(e, errno, "could not read the terminal's settings");
		goto fail;
	}
	t->raw = t->cooked;
	cfmakeraw(&t->raw);
	if (signals)
		t->raw.c_lflag |= ISIG;
	rc = start_guard(t, e);
	if (rc)
		goto fail;
	t->err = isatty(STDERR_FILENO) ? fopencookie(NULL, "w", io) : NULL;
	if (t->err)
		setvbuf(t->err, NULL, _IOLBF, 0);
	if (tcsetattr(fd, TCSADRAIN, &t->raw)) {
		rc = err_errno(e, errno, "could not make the terminal raw");
		terminal_close(t);
		return rc;
	}
	*out = t;
	return 0;
fail:
	free(t);
	return rc;
}

void terminal_close(struct terminal *t)
{
	if (!t)
		return;
	if (t->err)
		fclose(t->err);
	restore(t);
	end_guard(t);
	free(t);
}

FILE *terminal_stderr(struct terminal *t)
{
	return t->err ? t->err : stderr;
}
