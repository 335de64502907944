// SPDX-License-Identifier: Apache-2.0
/* The 9P server's nodes: places in the tree, their descriptors; see p9_priv.h. */
#include "backend/p9_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int p9_name_check(const char *name)
{
	if (!*name)
		return -ENOENT;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return 0;
}

static int open_name(int dir, const char *name)
{
	const int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* --- descriptors that may be closed --- */

static void idle_remove(struct p9 *s, struct p9_node *n)
{
	if (!n->idle)
		return;
	*(n->newer ? &n->newer->older : &s->newest) = n->older;
	*(n->older ? &n->older->newer : &s->oldest) = n->newer;
	n->idle = false;
}

static void close_fd(struct p9 *s, struct p9_node *n)
{
	idle_remove(s, n);
	if (n->fd < 0)
		return;
	close(n->fd);
	n->fd = -1;
	s->node_fds--;
}

/* The root's descriptor always stays. */
static void idle_add(struct p9 *s, struct p9_node *n)
{
	if (!n->parent || n->fd < 0 || n->idle)
		return;
	n->newer = NULL;
	n->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = n;
	s->newest = n;
	n->idle = true;
	while (s->node_fds > s->fds_max && s->oldest)
		close_fd(s, s->oldest);
}

/* --- life --- */

static struct p9_node *make_node(struct p9 *s, struct p9_node *parent, const char *name, int fd,
				 const struct stat *st)
{
	struct p9_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	if (name) {
		n->name = strdup(name);
		if (!n->name) {
			free(n);
			return NULL;
		}
	}
	n->refs = 1;
	n->fd = fd;
	n->dev = st->st_dev;
	n->ino = st->st_ino;
	n->parent = parent;
	if (parent)
		parent->refs++;
	n->next = s->nodes;
	if (s->nodes)
		s->nodes->prev = n;
	s->nodes = n;
	s->node_count++;
	s->node_fds++;
	return n;
}

void p9_node_put_locked(struct p9 *s, struct p9_node *n)
{
	while (n && !--n->refs) {
		struct p9_node *parent = n->parent;

		close_fd(s, n);
		*(n->prev ? &n->prev->next : &s->nodes) = n->next;
		if (n->next)
			n->next->prev = n->prev;
		s->node_count--;
		free(n->name);
		free(n);
		n = parent;
	}
}

void p9_node_put(struct p9 *s, struct p9_node *n)
{
	pthread_mutex_lock(&s->lock);
	p9_node_put_locked(s, n);
	pthread_mutex_unlock(&s->lock);
}

struct p9_node *p9_node_get(struct p9 *s, struct p9_node *n)
{
	pthread_mutex_lock(&s->lock);
	n->refs++;
	pthread_mutex_unlock(&s->lock);
	return n;
}

int p9_root_create(struct p9 *s, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	s->root = make_node(s, NULL, NULL, fd, &st);
	return s->root ? 0 : -ENOMEM;
}

/* --- opening --- */

static bool same_inode(int fd, const struct p9_node *n)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_dev == n->dev && st.st_ino == n->ino;
}

/* The nodes from @n up to one with a descriptor; 0: there are too many. */
static unsigned int closed_above(struct p9_node *n, struct p9_node *path[P9_DEPTH_MAX])
{
	unsigned int depth = 0;

	for (; n->fd < 0; n = n->parent) {
		if (depth == P9_DEPTH_MAX)
			return 0;
		path[depth++] = n;
	}
	return depth;
}

/* Walks to @n again, checking that each step leads where it led. */
static int reopen_locked(struct p9 *s, struct p9_node *n)
{
	struct p9_node *path[P9_DEPTH_MAX];
	unsigned int depth = closed_above(n, path);
	int at, next, ours = -1;

	if (!depth)
		return -ESTALE;
	at = path[depth - 1]->parent->fd;
	while (depth--) {
		next = open_name(at, path[depth]->name);
		if (ours >= 0)
			close(ours);
		if (next == -ENOENT || next == -ENOTDIR)
			return -ESTALE;
		if (next < 0)
			return next;
		if (!same_inode(next, path[depth])) {
			close(next);
			return -ESTALE;
		}
		at = ours = next;
	}
	n->fd = at;
	s->node_fds++;
	return 0;
}

int p9_node_pin(struct p9 *s, struct p9_node *n)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (n->fd < 0)
		rc = reopen_locked(s, n);
	if (!rc) {
		idle_remove(s, n);
		n->pins++;
		rc = n->fd;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void p9_node_unpin(struct p9 *s, struct p9_node *n)
{
	pthread_mutex_lock(&s->lock);
	if (!--n->pins)
		idle_add(s, n);
	pthread_mutex_unlock(&s->lock);
}

static unsigned int depth_of(const struct p9_node *n)
{
	unsigned int depth = 0;

	for (; n->parent && depth <= P9_DEPTH_MAX; n = n->parent)
		depth++;
	return depth;
}

static int add_node(struct p9 *s, struct p9_node *parent, const char *name, int fd,
		    const struct stat *st, struct p9_node **out)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->node_count >= 2 * s->fids_max)
		rc = -ENOMEM;
	else if (depth_of(parent) >= P9_DEPTH_MAX)
		rc = -ENAMETOOLONG;
	else if (!(*out = make_node(s, parent, name, fd, st)))
		rc = -ENOMEM;
	else
		idle_add(s, *out);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int p9_node_walk(struct p9 *s, struct p9_node *parent, const char *name, struct p9_node **out)
{
	struct stat st;
	int dir, fd, rc;

	rc = p9_name_check(name);
	if (rc)
		return rc;
	dir = p9_node_pin(s, parent);
	if (dir < 0)
		return dir;
	fd = open_name(dir, name);
	p9_node_unpin(s, parent);
	if (fd < 0)
		return fd;
	rc = fstat(fd, &st) ? -errno : add_node(s, parent, name, fd, &st, out);
	if (rc)
		close(fd);
	return rc;
}

/* --- places --- */

struct p9_node *p9_node_place(struct p9 *s, struct p9_node *n, char name[NAME_MAX + 1])
{
	struct p9_node *parent;

	pthread_mutex_lock(&s->lock);
	parent = n->parent;
	if (parent) {
		parent->refs++;
		strcpy(name, n->name);
	}
	pthread_mutex_unlock(&s->lock);
	return parent;
}

static bool is_below(const struct p9_node *n, const struct p9_node *above)
{
	for (unsigned int i = 0; n && i <= P9_DEPTH_MAX; n = n->parent, i++)
		if (n == above)
			return true;
	return n;	/* so deep that nothing is known */
}

/*
 * Clients may have come to the same place several times, so all nodes are looked at.  Where the
 * host moved directories behind our back a node could become its own ancestor: that one stays,
 * and is stale once its descriptor is closed.
 */
void p9_node_moved(struct p9 *s, struct p9_node *from, const char *name, struct p9_node *to,
		   const char *fresh)
{
	pthread_mutex_lock(&s->lock);
	for (struct p9_node *n = s->nodes; n; n = n->next) {
		struct p9_node *old = n->parent;
		char *copy;

		if (!old || old->dev != from->dev || old->ino != from->ino ||
		    strcmp(n->name, name) || is_below(to, n))
			continue;
		copy = strdup(fresh);
		if (!copy)
			continue;
		free(n->name);
		n->name = copy;
		to->refs++;
		n->parent = to;
		p9_node_put_locked(s, old);
	}
	pthread_mutex_unlock(&s->lock);
}
