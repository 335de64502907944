// SPDX-License-Identifier: Apache-2.0
/* The 9P server's fids: the client's numbers for nodes; see p9_priv.h. */
#include "backend/p9_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct p9_fid **bucket_of(struct p9 *s, uint32_t id)
{
	return &s->bucket[(id * 2654435761U) >> 20];
}

static struct p9_fid **find(struct p9 *s, uint32_t id)
{
	struct p9_fid **at = bucket_of(s, id);

	while (*at && (*at)->id != id)
		at = &(*at)->chain;
	return at;
}

struct p9_fid *p9_fid_get(struct p9 *s, uint32_t id)
{
	struct p9_fid *f;

	pthread_mutex_lock(&s->lock);
	f = *find(s, id);
	if (f)
		f->refs++;
	pthread_mutex_unlock(&s->lock);
	return f;
}

/* Nobody knows it any more. */
static void destroy(struct p9 *s, struct p9_fid *f)
{
	const bool xattr = f->kind != FID_FILE;

	if (f->fd >= 0)
		close(f->fd);
	pthread_mutex_lock(&s->lock);
	s->fids--;
	if (f->fd >= 0)
		s->opens--;
	if (xattr)
		s->xattrs--;
	p9_node_put_locked(s, f->node);
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_destroy(&f->lock);
	free(f->value);
	free(f->xattr);
	free(f);
}

void p9_fid_put(struct p9 *s, struct p9_fid *f)
{
	bool last;

	pthread_mutex_lock(&s->lock);
	last = !--f->refs;
	pthread_mutex_unlock(&s->lock);
	if (last)
		destroy(s, f);
}

struct p9_fid *p9_fid_create(struct p9 *s, uint32_t id, struct p9_node *n, uid_t uid)
{
	struct p9_fid *f = calloc(1, sizeof(*f));
	bool room;

	pthread_mutex_lock(&s->lock);
	room = f && s->fids < s->fids_max;
	if (room)
		s->fids++;
	else
		p9_node_put_locked(s, n);
	pthread_mutex_unlock(&s->lock);
	if (!room) {
		free(f);
		return NULL;
	}
	pthread_mutex_init(&f->lock, NULL);
	f->id = id;
	f->refs = 1;
	f->node = n;
	f->uid = uid;
	f->fd = -1;
	return f;
}

int p9_fid_insert(struct p9 *s, struct p9_fid *f, struct p9_fid *instead)
{
	struct p9_fid **at, *old;
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	at = find(s, f->id);
	old = *at;
	if (old != instead) {
		rc = -EBADF;
		old = NULL;
	} else {
		f->chain = old ? old->chain : NULL;
		f->refs++;
		*at = f;
	}
	pthread_mutex_unlock(&s->lock);
	if (old)
		p9_fid_put(s, old);
	return rc;
}

struct p9_fid *p9_fid_remove(struct p9 *s, uint32_t id)
{
	struct p9_fid **at, *f;

	pthread_mutex_lock(&s->lock);
	at = find(s, id);
	f = *at;
	if (f)
		*at = f->chain;
	pthread_mutex_unlock(&s->lock);
	return f;
}

void p9_fid_remove_all(struct p9 *s)
{
	for (unsigned int i = 0; i < P9_BUCKETS; i++) {
		struct p9_fid *f, *next;

		pthread_mutex_lock(&s->lock);
		f = s->bucket[i];
		s->bucket[i] = NULL;
		pthread_mutex_unlock(&s->lock);
		for (; f; f = next) {
			next = f->chain;
			p9_fid_put(s, f);
		}
	}
}

int p9_take_open(struct p9 *s)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->opens >= s->fds_max)
		rc = -ENFILE;
	else
		s->opens++;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void p9_drop_open(struct p9 *s)
{
	pthread_mutex_lock(&s->lock);
	s->opens--;
	pthread_mutex_unlock(&s->lock);
}

int p9_take_xattr(struct p9 *s)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	if (s->xattrs >= P9_XATTRS_MAX)
		rc = -ENFILE;
	else
		s->xattrs++;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int p9_use(struct p9 *s, struct p9_use *u, uint32_t id)
{
	u->fid = p9_fid_get(s, id);
	if (!u->fid)
		return -EBADF;
	u->fd = p9_node_pin(s, u->fid->node);
	if (u->fd < 0) {
		p9_fid_put(s, u->fid);
		return u->fd;
	}
	return 0;
}

void p9_unuse(struct p9 *s, struct p9_use *u)
{
	p9_node_unpin(s, u->fid->node);
	p9_fid_put(s, u->fid);
}
