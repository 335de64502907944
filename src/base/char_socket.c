// SPDX-License-Identifier: Apache-2.0
/*
 * A character backend on a listening unix socket; see char_socket.h.
 *
 * Each client is served by a char_fd of its own, which is made when it connects and destroyed
 * when it hangs up.  Output while nobody is there is dropped, as on a serial line.
 */
#include "base/char_socket.h"
#include "base/char_fd.h"
#include "base/unix_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* (o) under lock; the rest belongs to the loop's thread */
struct char_socket {
	struct char_backend backend;
	struct loop *loop;
	struct sockaddr_un address;
	int listener, spare;		/* spare: see unix_accept() */
	bool watched;			/* the listener is */
	pthread_mutex_t lock;
	struct char_backend *client;	/* (o) NULL: nobody */
	struct loop_work hang_up_work;
};

/* --- what the client's char_fd is told and asked --- */

static size_t client_receive(void *arg, const uint8_t *buf, size_t len)
{
	struct char_socket *s = arg;

	return s->backend.front ? s->backend.front->receive(s->backend.front_dev, buf, len) : len;
}

static void client_writable(void *arg)
{
	struct char_socket *s = arg;

	if (s->backend.front)
		s->backend.front->writable(s->backend.front_dev);
}

static const struct char_front_ops client_front = {
	.receive = client_receive,
	.writable = client_writable,
};

static void tell_connected(struct char_socket *s, bool yes)
{
	if (s->backend.front && s->backend.front->connected)
		s->backend.front->connected(s->backend.front_dev, yes);
}

/* Called by the char_fd, which must not go in the middle of it. */
static void client_closed(void *arg)
{
	struct char_socket *s = arg;

	loop_post(s->loop, &s->hang_up_work);
}

/* --- connections --- */

static struct char_backend *take_client(struct char_socket *s)
{
	struct char_backend *client;

	pthread_mutex_lock(&s->lock);
	client = s->client;
	s->client = NULL;
	pthread_mutex_unlock(&s->lock);
	return client;
}

static void accept_ready(void *arg, uint32_t events);

static void listen_again(struct char_socket *s)
{
	if (!s->watched)
		s->watched = !loop_watch(s->loop, s->listener, EPOLLIN, accept_ready, s, NULL);
}

static void hang_up(void *arg)
{
	struct char_socket *s = arg;
	struct char_backend *client = take_client(s);

	if (!client)
		return;
	client->ops->destroy(client);
	tell_connected(s, false);
	client_writable(s);	/* what waited for the client waits no more */
	listen_again(s);
}

static void accept_ready(void *arg, uint32_t events)
{
	struct char_socket *s = arg;
	struct char_fd_config c = { .closed = client_closed, .arg = s };
	struct char_backend *client;
	int fd;

	(void)events;
	fd = unix_accept(s->listener, &s->spare);
	if (fd < 0)
		return;
	c.in = c.out = fd;
	if (!char_fd_create(&client, s->loop, &c, NULL)) {
		char_attach(client, &client_front, s);
		loop_unwatch(s->loop, s->listener);
		s->watched = false;
		pthread_mutex_lock(&s->lock);
		s->client = client;
		pthread_mutex_unlock(&s->lock);
		tell_connected(s, true);
	}
	close(fd);	/* the char_fd has duplicates */
}

/* --- the front end's side --- */

static size_t socket_write(struct char_backend *b, const uint8_t *buf, size_t len)
{
	struct char_socket *s = container_of(b, struct char_socket, backend);

	pthread_mutex_lock(&s->lock);
	if (s->client)
		len = s->client->ops->write(s->client, buf, len);
	pthread_mutex_unlock(&s->lock);
	return len;
}

static void socket_input_wanted(struct char_backend *b)
{
	struct char_socket *s = container_of(b, struct char_socket, backend);

	pthread_mutex_lock(&s->lock);
	if (s->client)
		s->client->ops->input_wanted(s->client);
	pthread_mutex_unlock(&s->lock);
}

static void socket_free(struct char_socket *s)
{
	if (s->listener >= 0) {
		close(s->listener);
		close(s->spare);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void socket_destroy(struct char_backend *b)
{
	struct char_socket *s = container_of(b, struct char_socket, backend);
	struct char_backend *client = take_client(s);

	if (client)
		client->ops->destroy(client);
	loop_unpost(s->loop, &s->hang_up_work);
	if (s->watched)
		loop_unwatch(s->loop, s->listener);
	unlink(s->address.sun_path);
	socket_free(s);
}

static const struct char_backend_ops socket_ops = {
	.write = socket_write,
	.input_wanted = socket_input_wanted,
	.destroy = socket_destroy,
};

/* --- making --- */

static int open_listener(struct char_socket *s, struct err *e)
{
	s->listener = unix_listen(s->address.sun_path, 1, e);
	if (s->listener < 0)
		return s->listener;
	s->spare = unix_spare(s->listener);
	s->watched = !loop_watch(s->loop, s->listener, EPOLLIN, accept_ready, s, e);
	return s->watched ? 0 : -EIO;
}

int char_socket_create(struct char_backend **out, struct loop *l, const char *path,
		       struct err *e)
{
	struct char_socket *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for a socket");
	s->backend.ops = &socket_ops;
	s->backend.nobody = true;
	s->loop = l;
	s->listener = -1;
	s->hang_up_work = (struct loop_work){ .run = hang_up, .arg = s };
	s->address.sun_family = AF_UNIX;
	pthread_mutex_init(&s->lock, NULL);
	if (strlen(path) >= sizeof(s->address.sun_path)) {
		rc = err_set(e, ENAMETOOLONG, "the name of a socket has at most %zu bytes (a relative one "
			       "may do): %s",
			     sizeof(s->address.sun_path) - 1, path);
	} else {
		strcpy(s->address.sun_path, path);
		rc = open_listener(s, e);
	}
	if (rc) {
		socket_free(s);
		return rc;
	}
	*out = &s->backend;
	return 0;
}
