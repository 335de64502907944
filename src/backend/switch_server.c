// SPDX-License-Identifier: Apache-2.0
/* The serving side of a named switch; see switch_socket.h. */
#include "backend/net_stream.h"
#include "backend/switch_priv.h"
#include "backend/switch_socket.h"
#include "base/unix_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define QUEUE_MAX	(4U << 20)	/* bytes for a port that is slow for a moment */
#define UNUSED_S	3		/* without a VM for so long, it ends */

struct switch_server {
	struct net_switch *sw;
	struct loop *loop;
	struct sockaddr_un address;
	int lock, listener, timer;	/* -1: not there */
	int spare;			/* with the listener: see unix_accept() */
	unsigned int idle;		/* seconds without a VM */
	void (*unused)(void *arg);
	void *arg;
};

static void accept_ready(void *arg, uint32_t events)
{
	struct switch_server *s = arg;
	struct net_stream_config c = { .name = "vm", .queue_max = QUEUE_MAX };
	struct net_backend *b;
	struct ucred peer;
	socklen_t len = sizeof(peer);

	(void)events;
	c.fd = unix_accept(s->listener, &s->spare);
	if (c.fd < 0)
		return;
	/* The folder's mode says the same; root may come anyway. */
	if (getsockopt(c.fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) ||
	    (peer.uid != geteuid() && peer.uid != 0)) {
		close(c.fd);
		return;
	}
	if (!net_stream_create(&b, &c, NULL))
		net_switch_plug(s->sw, b, false, NULL);
}

static void tick(void *arg, uint32_t events)
{
	struct switch_server *s = arg;
	uint64_t times;

	(void)events;
	if (read(s->timer, &times, sizeof(times)) < 0)
		return;
	s->idle = net_switch_ports(s->sw) ? 0 : s->idle + 1;
	if (s->idle > UNUSED_S)
		s->unused(s->arg);
}

static int take_name(struct switch_server *s, const char *name, struct err *e)
{
	char path[sizeof(s->address.sun_path) + 8];
	int rc;

	rc = switch_address(&s->address, name, e);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s.lock", s->address.sun_path);
	s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0)
		return err_errno(e, errno, "could not open '%s'", path);
	if (flock(s->lock, LOCK_EX | LOCK_NB))
		return err_set(e, EBUSY, "the switch '%s' is served already ('%s' is locked)", name,
			       path);
	return 0;
}

static int listen_at(struct switch_server *s, struct err *e)
{
	const mode_t mask = umask(0177);
	int rc = 0;

	/* The lock is ours: whoever made it is dead. */
	unlink(s->address.sun_path);
	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listener < 0 ||
	    bind(s->listener, (struct sockaddr *)&s->address, sizeof(s->address)) ||
	    listen(s->listener, SWITCH_PORTS_MAX))
		rc = err_errno(e, errno, "could not listen at '%s'", s->address.sun_path);
	umask(mask);
	s->spare = s->listener < 0 ? -1 : unix_spare(s->listener);
	return rc ? rc : loop_watch(s->loop, s->listener, EPOLLIN, accept_ready, s, e);
}

static int start_timer(struct switch_server *s, struct err *e)
{
	const struct itimerspec second = { .it_value.tv_sec = 1, .it_interval.tv_sec = 1 };

	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timer < 0)
		return err_errno(e, errno, "could not create a timer for the switch");
	timerfd_settime(s->timer, 0, &second, NULL);
	return loop_watch(s->loop, s->timer, EPOLLIN, tick, s, e);
}

int switch_server_create(struct switch_server **out, struct net_switch *sw, const char *name,
			 struct loop *loop, void (*unused)(void *arg), void *arg,
			 struct err *e)
{
	struct switch_server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for the switch '%s'", name);
	*s = (struct switch_server){
		.sw = sw, .loop = loop, .lock = -1, .listener = -1, .timer = -1,
		.unused = unused, .arg = arg,
	};
	rc = take_name(s, name, e);
	if (!rc)
		rc = listen_at(s, e);
	if (!rc && unused)
		rc = start_timer(s, e);
	if (rc) {
		switch_server_destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

int switch_server_confine(const struct switch_server *s, struct err *e)
{
	return switch_confine(s->address.sun_path, e);
}

void switch_server_destroy(struct switch_server *s)
{
	if (!s)
		return;
	if (s->timer >= 0) {
		loop_unwatch(s->loop, s->timer);
		close(s->timer);
	}
	if (s->listener >= 0) {
		loop_unwatch(s->loop, s->listener);
		close(s->listener);
		close(s->spare);
		unlink(s->address.sun_path);
	}
	/* The lock's file stays: removing it could let two processes lock two files. */
	if (s->lock >= 0)
		close(s->lock);
	free(s);
}
