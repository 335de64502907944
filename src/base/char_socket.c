// SPDX-License-Identifier: Apache-2.0
/*
 * A character backend on a stream socket; see char_socket.h.
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
#include <unistd.h>

/* (o) under lock; the rest belongs to the loop's thread */
struct char_socket {
	struct char_backend backend;
	struct loop *loop;
	char *path;			/* removed at the end, or NULL */
	int listener, spare;		/* spare: see unix_accept(); -1: none */
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
	if (s->listener >= 0 && !s->watched)
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

/* Serves who is at @fd; -errno. */
static int take_on(struct char_socket *s, int fd, struct err *e)
{
	struct char_fd_config c = {
		.in = fd, .out = fd, .pieces = true, .closed = client_closed, .arg = s,
	};
	struct char_backend *client;
	const int rc = char_fd_create(&client, s->loop, &c, e);

	if (rc)
		return rc;
	char_attach(client, &client_front, s);
	pthread_mutex_lock(&s->lock);
	s->client = client;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void accept_ready(void *arg, uint32_t events)
{
	struct char_socket *s = arg;
	int fd;

	(void)events;
	fd = unix_accept(s->listener, &s->spare);
	if (fd < 0)
		return;
	if (!take_on(s, fd, NULL)) {
		loop_unwatch(s->loop, s->listener);
		s->watched = false;
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
	if (s->listener >= 0)
		close(s->listener);
	if (s->spare >= 0)
		close(s->spare);
	pthread_mutex_destroy(&s->lock);
	free(s->path);
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
	if (s->path)
		unlink(s->path);
	socket_free(s);
}

static const struct char_backend_ops socket_ops = {
	.write = socket_write,
	.input_wanted = socket_input_wanted,
	.destroy = socket_destroy,
};

/* --- making --- */

static struct char_socket *socket_new(struct loop *l, struct err *e)
{
	struct char_socket *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, ENOMEM, "out of memory for a socket");
		return NULL;
	}
	s->backend.ops = &socket_ops;
	s->loop = l;
	s->listener = s->spare = -1;
	s->hang_up_work = (struct loop_work){ .run = hang_up, .arg = s };
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

int char_socket_serve(struct char_backend **out, struct loop *l, int listener, const char *path,
		      struct err *e)
{
	struct char_socket *s = socket_new(l, e);
	int rc;

	if (!s) {
		close(listener);
		return -ENOMEM;
	}
	s->backend.nobody = true;
	s->listener = listener;
	s->spare = unix_spare(listener);
	s->path = path ? strdup(path) : NULL;
	rc = loop_watch(l, listener, EPOLLIN, accept_ready, s, e);
	if (rc) {
		socket_free(s);
		return rc;
	}
	s->watched = true;
	*out = &s->backend;
	return 0;
}

int char_socket_create(struct char_backend **out, struct loop *l, const char *path,
		       struct err *e)
{
	const int listener = unix_listen(path, 1, e);

	return listener < 0 ? listener : char_socket_serve(out, l, listener, path, e);
}

int char_socket_connected(struct char_backend **out, struct loop *l, int fd, struct err *e)
{
	struct char_socket *s = socket_new(l, e);
	int rc = s ? take_on(s, fd, e) : -ENOMEM;

	close(fd);
	if (rc) {
		if (s)
			socket_free(s);
		return rc;
	}
	*out = &s->backend;
	return 0;
}
