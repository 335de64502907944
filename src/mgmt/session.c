// SPDX-License-Identifier: Apache-2.0
/*
 * A command in a guest, from here; see session.h.  Where stdin, stdout and stderr are a terminal
 * the command has one too; otherwise its streams stay apart.  SIGINT and the like are sent on.
 */
#include "mgmt/session.h"
#include "base/session_wire.h"
#include "mgmt/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OUT_ROOM	(2 * (SESSION_DATA_MAX + sizeof(struct session_head)))
#define IN_ROOM		(SESSION_DATA_MAX + sizeof(struct session_head))
#define IN_PIECE	16384

struct run {
	const struct session *s;
	int port, signals;
	int in;				/* -1: its end was told */
	bool tty, started, ended;
	uint64_t moved, shown;		/* bytes of data, and when that was shown last */
	uint32_t status;
	uint8_t out[OUT_ROOM];		/* to the guest */
	size_t out_len;
	uint8_t inbox[IN_ROOM];		/* from the guest */
	size_t inbox_len;
	struct err *e;
};

static void count(struct run *r, size_t n)
{
	r->moved += n;
	if (!r->s->progress || r->moved - r->shown < 1 << 20 || !isatty(STDERR_FILENO))
		return;
	r->shown = r->moved;
	fprintf(stderr, "\r%s: %llu MiB", r->s->progress, (unsigned long long)r->moved >> 20);
	fflush(stderr);
}

/* --- to the guest --- */

static void queue(struct run *r, uint8_t type, const void *data, size_t len)
{
	struct session_head *h = (struct session_head *)(r->out + r->out_len);

	if (r->out_len + sizeof(*h) + len > sizeof(r->out))
		return;		/* what can wait is not read before there is room */
	memset(h, 0, sizeof(*h));
	h->type = type;
	h->len = len;
	if (len)
		memcpy(h + 1, data, len);
	r->out_len += sizeof(*h) + len;
}

static bool add_word(uint8_t *buf, size_t *len, const char *word)
{
	const size_t n = strlen(word) + 1;

	if (*len + n > SESSION_DATA_MAX)
		return false;
	memcpy(buf + *len, word, n);
	*len += n;
	return true;
}

static struct session_window window_of(const struct run *r)
{
	struct winsize w = { 0 };

	if (r->tty && ioctl(r->s->in, TIOCGWINSZ, &w))
		w.ws_row = 0;
	return r->tty ? (struct session_window){ w.ws_row ? w.ws_row : 24, w.ws_col ? w.ws_col : 80 } :
	       (struct session_window){ 0 };
}

static int queue_start(struct run *r)
{
	uint8_t buf[SESSION_DATA_MAX];
	struct session_start s = { .window = window_of(r) };
	size_t len = sizeof(s);
	bool fits = true;

	for (; r->s->words[s.words] && fits; s.words++)
		fits = s.words < SESSION_WORDS_MAX && add_word(buf, &len, r->s->words[s.words]);
	for (; r->s->environment && r->s->environment[s.environment] && fits; s.environment++)
		fits = s.environment < SESSION_WORDS_MAX &&
		       add_word(buf, &len, r->s->environment[s.environment]);
	if (!fits || !add_word(buf, &len, r->s->folder))
		return err_set(r->e, E2BIG, "the command is too long: it may have %d words and %d bytes",
			       SESSION_WORDS_MAX, SESSION_DATA_MAX);
	memcpy(buf, &s, sizeof(s));
	queue(r, SESSION_START, buf, len);
	return 0;
}

/* Where nobody listens any more, what was said before that is still to be read: the status, maybe. */
static void flush(struct run *r)
{
	ssize_t n = send(r->port, r->out, r->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		r->in = -1;
		n = r->out_len;
	}
	r->out_len -= n;
	memmove(r->out, r->out + n, r->out_len);
}

/* --- from the guest --- */

/* A reader that is gone is told to the command as the kernel would. */
static void put(struct run *r, int fd, const uint8_t *data, size_t n)
{
	const uint32_t pipe_signal = SIGPIPE;

	while (n && fd >= 0) {
		const ssize_t w = write(fd, data, n);

		if (w < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0) {
			queue(r, SESSION_SIGNAL, &pipe_signal, sizeof(pipe_signal));
			return;
		}
		data += w;
		n -= w;
	}
}

static int take(struct run *r, const struct session_head *h, const uint8_t *data)
{
	uint32_t n = 0;

	if (h->len >= sizeof(n))
		memcpy(&n, data, sizeof(n));
	switch (h->type) {
	case SESSION_READY:
		if (r->started)
			return 0;
		if (n != SESSION_VERSION)
			return err_set(r->e, EPROTO, "the guest was started by another version of vireo");
		r->started = true;
		return queue_start(r);
	case SESSION_OUT:
		put(r, r->s->out, data, h->len);
		count(r, h->len);
		return 0;
	case SESSION_ERR:
		put(r, r->s->err, data, h->len);
		return 0;
	case SESSION_FAIL:
		err_set(r->e, ENOEXEC, "%.*s", (int)(h->len - MIN(h->len, sizeof(n))),
			(const char *)data + sizeof(n));
		__attribute__((fallthrough));
	case SESSION_EXIT:
		if (h->len < sizeof(n))
			break;
		r->status = n & 0xff;
		r->ended = true;
		return 0;
	}
	return err_set(r->e, EPROTO, "the guest does not speak as vireo's own program does");
}

/* All whole messages of the inbox. */
static int take_all(struct run *r)
{
	struct session_head h;
	size_t at = 0;
	int rc = 0;

	while (!rc && !r->ended && r->inbox_len - at >= sizeof(h)) {
		memcpy(&h, r->inbox + at, sizeof(h));
		if (h.len > SESSION_DATA_MAX)
			return err_set(r->e, EPROTO, "the guest does not speak as vireo's own program does");
		if (r->inbox_len - at < sizeof(h) + h.len)
			break;
		rc = take(r, &h, r->inbox + at + sizeof(h));
		at += sizeof(h) + h.len;
	}
	r->inbox_len -= at;
	memmove(r->inbox, r->inbox + at, r->inbox_len);
	return rc;
}

static int from_guest(struct run *r)
{
	const ssize_t n = recv(r->port, r->inbox + r->inbox_len, sizeof(r->inbox) - r->inbox_len,
			       MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return err_set(r->e, EPIPE, "the VM ended before the command did");
	r->inbox_len += n;
	return take_all(r);
}

/* --- from here --- */

static void from_user(struct run *r)
{
	uint8_t buf[IN_PIECE];
	const ssize_t n = read(r->in, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		queue(r, SESSION_IN, buf, n);
		count(r, n);
		return;
	}
	queue(r, SESSION_IN_END, NULL, 0);
	r->in = -1;
}

/* The second SIGINT of a command that did not heed the first ends the waiting. */
static int from_signals(struct run *r, unsigned int *interrupts)
{
	struct signalfd_siginfo s;
	struct session_window w;
	uint32_t signo;

	if (read(r->signals, &s, sizeof(s)) != sizeof(s))
		return 0;
	if (s.ssi_signo == SIGWINCH) {
		w = window_of(r);
		if (r->tty)
			queue(r, SESSION_WINDOW, &w, sizeof(w));
		return 0;
	}
	signo = s.ssi_signo;
	queue(r, SESSION_SIGNAL, &signo, sizeof(signo));
	if (!r->started || ++*interrupts > 2)
		return err_set(r->e, EINTR, "interrupted");
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

static int carry(struct run *r, int wait_ms)
{
	const uint64_t end = now_ms() + MAX(wait_ms, 0);
	unsigned int interrupts = 0;
	int rc = 0;

	while (!rc && !r->ended) {
		const bool room = sizeof(r->out) - r->out_len > IN_PIECE + 4096;
		const bool limited = !r->started && wait_ms >= 0;
		const uint64_t now = now_ms();
		struct pollfd p[3] = {
			{ .fd = r->port, .events = POLLIN | (r->out_len ? POLLOUT : 0) },
			{ .fd = r->signals, .events = POLLIN },
			{ .fd = r->started && room ? r->in : -1, .events = POLLIN },
		};

		if (limited && now >= end)
			return err_set(r->e, ETIMEDOUT, "the guest has nobody who runs commands: only one "
				       "that vireo run IMAGE or --root booted has");
		if (poll(p, 3, limited ? (int)(end - now) : -1) < 0)
			continue;
		if (p[0].revents & (POLLIN | POLLHUP | POLLERR))
			rc = from_guest(r);
		if (!rc && p[0].revents & POLLOUT)
			flush(r);
		if (!rc && p[1].revents)
			rc = from_signals(r, &interrupts);
		if (!rc && p[2].revents && r->in >= 0)
			from_user(r);
	}
	return rc;
}

int session_run(const struct session *s, int port, int wait_ms, struct err *e)
{
	static const int sent_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH };
	struct terminal *terminal = NULL;
	struct run *r = calloc(1, sizeof(*r));
	sigset_t set, before;
	int status = SESSION_NOT_RUN, rc = 0;

	if (!r) {
		err_set(e, ENOMEM, "out of memory");
		return status;
	}
	r->s = s;
	r->port = port;
	r->in = s->in;
	r->e = e;
	r->tty = !s->no_terminal && s->in >= 0 && terminal_usable(s->in) && isatty(s->out) &&
		 isatty(s->err);
	if (s->in >= 0 && isatty(s->in) && !terminal_usable(s->in))
		r->in = -1;	/* it is another job's */
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(sent_on); i++)
		sigaddset(&set, sent_on[i]);
	sigprocmask(SIG_BLOCK, &set, &before);
	signal(SIGPIPE, SIG_IGN);
	r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->tty)
		rc = terminal_open(&terminal, s->in, false, e);
	queue(r, SESSION_GREET, NULL, 0);
	if (!rc)
		rc = carry(r, wait_ms);
	terminal_close(terminal);
	if (r->shown)
		fputc('\n', stderr);
	close(r->signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (!rc)
		status = r->status;
	free(r);
	return status;
}
