// SPDX-License-Identifier: Apache-2.0
/*
 * A character backend on a terminal device; see char_tty.h.
 *
 * The bytes go through a char_fd.  The device is locked twice: with flock(), which other programs
 * that care see (minicom, another VM), and with TIOCEXCL, so that it cannot be opened by others
 * than root.  Its settings are put back when we let go of it.
 */
#include "base/char_tty.h"
#include "base/char_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LAST_MOMENTS	50	/* of 10 ms */

/* (o) under lock; the rest belongs to the loop's thread */
struct char_tty {
	struct char_backend backend;
	struct char_backend *bytes;
	struct loop *loop;
	int fd, other;			/* other: a pseudo-terminal's other end, else -1 */
	bool lossy;
	struct termios saved;
	char name[64];			/* of a pseudo-terminal */
	struct loop_work line_work;
	pthread_mutex_t lock;
	struct char_line line;		/* (o) what the front end wants */
};

/* --- the line's speed and format --- */

static speed_t nearest_speed(unsigned int baud)
{
	static const struct { unsigned int baud; speed_t speed; } speeds[] = {
		{ 50, B50 }, { 75, B75 }, { 110, B110 }, { 134, B134 }, { 150, B150 }, { 200, B200 },
		{ 300, B300 }, { 600, B600 }, { 1200, B1200 }, { 1800, B1800 }, { 2400, B2400 },
		{ 4800, B4800 }, { 9600, B9600 }, { 19200, B19200 }, { 38400, B38400 },
		{ 57600, B57600 }, { 115200, B115200 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(speeds) - 1; i++)
		if (baud < (speeds[i].baud + speeds[i + 1].baud) / 2)
			break;
	return speeds[i].speed;
}

static void apply_line(void *arg)
{
	static const tcflag_t size[4] = { CS5, CS6, CS7, CS8 };
	struct char_tty *c = arg;
	struct termios t;
	struct char_line l;

	pthread_mutex_lock(&c->lock);
	l = c->line;
	pthread_mutex_unlock(&c->lock);
	if (tcgetattr(c->fd, &t))
		return;
	cfsetispeed(&t, nearest_speed(l.baud));
	cfsetospeed(&t, nearest_speed(l.baud));
	t.c_cflag &= ~(CSIZE | PARENB | PARODD | CSTOPB);
	t.c_cflag |= size[(l.data_bits - 5) & 3] | (l.parity ? PARENB : 0) |
		     (l.parity == 'O' ? PARODD : 0) | (l.stop_bits == 2 ? CSTOPB : 0);
	tcsetattr(c->fd, TCSANOW, &t);
}

static void tty_set_line(struct char_backend *b, const struct char_line *line)
{
	struct char_tty *c = container_of(b, struct char_tty, backend);

	pthread_mutex_lock(&c->lock);
	c->line = *line;
	pthread_mutex_unlock(&c->lock);
	loop_post(c->loop, &c->line_work);
}

/* --- bytes --- */

static size_t bytes_receive(void *arg, const uint8_t *buf, size_t len)
{
	struct char_tty *c = arg;

	return c->backend.front ? c->backend.front->receive(c->backend.front_dev, buf, len) : len;
}

static void bytes_writable(void *arg)
{
	struct char_tty *c = arg;

	if (c->backend.front)
		c->backend.front->writable(c->backend.front_dev);
}

static const struct char_front_ops bytes_front = {
	.receive = bytes_receive,
	.writable = bytes_writable,
};

static size_t tty_write(struct char_backend *b, const uint8_t *buf, size_t len)
{
	struct char_tty *c = container_of(b, struct char_tty, backend);
	const size_t n = c->bytes->ops->write(c->bytes, buf, len);

	return c->lossy ? len : n;
}

static void tty_input_wanted(struct char_backend *b)
{
	struct char_tty *c = container_of(b, struct char_tty, backend);

	c->bytes->ops->input_wanted(c->bytes);
}

/*
 * What a pseudo-terminal's reader has not read when we close it is lost, so he gets a moment; the
 * kernel needs one too until it counts what was written.
 */
static void let_read(const struct char_tty *c)
{
	const struct timespec moment = { .tv_nsec = 10000000 };
	int unread = 1;

	for (unsigned int i = 0; i < LAST_MOMENTS && unread; i++) {
		nanosleep(&moment, NULL);
		if (ioctl(c->other, FIONREAD, &unread))
			break;
	}
}

static void tty_destroy(struct char_backend *b)
{
	struct char_tty *c = container_of(b, struct char_tty, backend);

	if (c->bytes)
		c->bytes->ops->destroy(c->bytes);
	loop_unpost(c->loop, &c->line_work);
	if (c->other < 0) {
		ioctl(c->fd, TIOCNXCL);
		tcsetattr(c->fd, TCSANOW, &c->saved);
	}
	if (c->other >= 0)
		let_read(c);
	close(c->fd);
	if (c->other >= 0)
		close(c->other);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct char_backend_ops tty_ops = {
	.write = tty_write,
	.input_wanted = tty_input_wanted,
	.set_line = tty_set_line,
	.destroy = tty_destroy,
};

/* --- making --- */

/* Takes the descriptors over, also where it fails. */
static int make(struct char_tty **out, struct loop *l, int fd, int other, struct err *e)
{
	const struct char_fd_config config = { .in = fd, .out = fd };
	struct char_tty *c = calloc(1, sizeof(*c));
	struct termios raw;
	int rc;

	if (!c || tcgetattr(other >= 0 ? other : fd, &c->saved)) {
		rc = err_set(e, c ? ENOTTY : ENOMEM, "a serial line needs a terminal device");
		free(c);
		close(fd);
		if (other >= 0)
			close(other);
		return rc;
	}
	c->backend.ops = &tty_ops;
	c->loop = l;
	c->fd = fd;
	c->other = other;
	c->lossy = other >= 0;
	c->line_work = (struct loop_work){ .run = apply_line, .arg = c };
	pthread_mutex_init(&c->lock, NULL);
	raw = c->saved;
	cfmakeraw(&raw);
	raw.c_cflag |= CLOCAL | CREAD;
	tcsetattr(other >= 0 ? other : fd, TCSANOW, &raw);
	rc = char_fd_create(&c->bytes, l, &config, e);
	if (rc) {
		tty_destroy(&c->backend);
		return rc;
	}
	char_attach(c->bytes, &bytes_front, c);
	*out = c;
	return 0;
}

static int lock_device(int fd, const char *path, struct err *e)
{
	if (!isatty(fd))
		return err_set(e, ENOTTY, "%s is no serial device; for a file write file:%s", path, path);
	if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
		return err_set(e, EBUSY, "%s belongs to another program or VM", path);
	if (ioctl(fd, TIOCEXCL))
		return err_errno(e, errno, "could not have %s for ourselves", path);
	return 0;
}

int char_tty_create(struct char_backend **out, struct loop *l, const char *path, struct err *e)
{
	struct char_tty *c;
	int fd, rc;

	fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return err_set(e, EBUSY, "%s belongs to another program or VM", path);
	if (fd < 0)
		return err_errno(e, errno, "could not open %s", path);
	rc = lock_device(fd, path, e);
	if (rc) {
		close(fd);
		return rc;
	}
	rc = make(&c, l, fd, -1, e);
	if (!rc)
		*out = &c->backend;
	return rc;
}

int char_pty_create(struct char_backend **out, struct loop *l, const char **name, struct err *e)
{
	const int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char path[sizeof(((struct char_tty *)0)->name)];
	struct char_tty *c;
	int other, rc;

	if (fd < 0 || grantpt(fd) || unlockpt(fd) || ptsname_r(fd, path, sizeof(path))) {
		rc = err_errno(e, errno, "could not make a pseudo-terminal");
		if (fd >= 0)
			close(fd);
		return rc;
	}
	/* Held open, so that a program that leaves is no end of input. */
	other = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (other < 0) {
		rc = err_errno(e, errno, "could not open %s", path);
		close(fd);
		return rc;
	}
	rc = make(&c, l, fd, other, e);
	if (rc)
		return rc;
	memcpy(c->name, path, sizeof(path));
	*name = c->name;
	*out = &c->backend;
	return 0;
}
