// SPDX-License-Identifier: Apache-2.0
/*
 * A 9P2000.L server: sessions, walks, and which request is whose; see p9.h, p9_priv.h.
 *
 * Source: the manual pages of Plan 9, section 5; the Linux kernel's include/net/9p/9p.h for what
 * 9P2000.L adds.
 * Not there: authentication, the requests of plain 9P2000 and 9P2000.u.
 */
#include "backend/p9_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MSIZE_MIN	4096U
#define FIDS_MAX	65536U
#define FDS_MAX		8192U
#define VERSION		"9P2000.L"

/* A request that was not answered yet; lies on its thread's stack. */
struct p9_flight {
	uint16_t tag;
	uint64_t number;
	struct p9_flight *next;
};

/* --- session --- */

int p9_version(struct p9_req *r)
{
	const uint32_t msize = p9_get(&r->in, 4);
	const bool known = !strcmp(p9_get_string(&r->in), VERSION);

	if (r->in.bad)
		return -EPROTO;
	if (msize < MSIZE_MIN)
		return -EMSGSIZE;
	p9_fid_remove_all(r->s);
	r->s->msize = MIN(msize, P9_MSIZE_MAX);
	p9_put(&r->out, 4, r->s->msize);
	p9_put_string(&r->out, known ? VERSION : "unknown");
	return 0;
}

int p9_attach(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const char *path;
	struct p9_fid *f;
	struct p9_qid q;
	uint32_t uid;
	int rc;

	p9_get(&r->in, 4);		/* a fid of Tauth */
	p9_get_string(&r->in);		/* the user's name; the number counts */
	path = p9_get_string(&r->in);
	uid = p9_get(&r->in, 4);
	if (r->in.bad)
		return -EPROTO;
	if (*path && strcmp(path, "/"))
		return -ENOENT;
	rc = p9_qid_of(r->s, r->s->root->fd, &q);
	if (rc)
		return rc;
	f = p9_fid_create(r->s, id, p9_node_get(r->s, r->s->root), uid == UINT32_MAX ? 0 : uid);
	if (!f)
		return -ENFILE;
	rc = p9_fid_insert(r->s, f, NULL);
	p9_fid_put(r->s, f);
	p9_put_qid(&r->out, &q);
	return rc;
}

static bool in_flight(struct p9 *s, uint16_t tag, uint64_t before)
{
	for (struct p9_flight *f = s->flights; f; f = f->next)
		if (f->tag == tag && f->number < before)
			return true;
	return false;
}

/* Nothing is given up half done: the answer comes after that of the old request. */
int p9_flush(struct p9_req *r)
{
	const uint16_t old = p9_get(&r->in, 2);

	if (r->in.bad)
		return -EPROTO;
	pthread_mutex_lock(&r->s->lock);
	while (in_flight(r->s, old, r->number))
		pthread_cond_wait(&r->s->landed, &r->s->lock);
	pthread_mutex_unlock(&r->s->lock);
	return 0;
}

/* --- walking --- */

/* One step; puts @from's reference and returns the next node with one, in *@to. */
static int step(struct p9 *s, struct p9_node *from, const char *name, struct p9_node **to)
{
	char unused[NAME_MAX + 1];
	int rc = 0;

	if (!strcmp(name, "..")) {
		*to = p9_node_place(s, from, unused);
		if (!*to)
			*to = p9_node_get(s, from);
	} else if (!strcmp(name, ".")) {
		*to = p9_node_get(s, from);
	} else {
		rc = p9_node_walk(s, from, name, to);
	}
	if (!rc)
		p9_node_put(s, from);
	return rc;
}

static int node_qid(struct p9 *s, struct p9_node *n, struct p9_qid *q)
{
	const int fd = p9_node_pin(s, n);
	int rc;

	if (fd < 0)
		return fd;
	rc = p9_qid_of(s, fd, q);
	p9_node_unpin(s, n);
	return rc;
}

/* Walks *@at along @names, as far as that goes; returns the steps done, or the first's error. */
static int walk_names(struct p9_req *r, struct p9_node **at, char *const *names,
		      unsigned int count)
{
	struct p9_qid q;
	unsigned int i;
	int rc = 0;

	for (i = 0; i < count; i++) {
		rc = step(r->s, *at, names[i], at);
		if (!rc)
			rc = node_qid(r->s, *at, &q);
		if (rc)
			break;
		p9_put_qid(&r->out, &q);
	}
	return i || !rc ? (int)i : rc;
}

static int take_fid(struct p9 *s, struct p9_fid *from, uint32_t id, struct p9_node *n)
{
	struct p9_fid *f = p9_fid_create(s, id, n, from->uid);
	int rc;

	if (!f)
		return -ENFILE;
	rc = p9_fid_insert(s, f, id == from->id ? from : NULL);
	p9_fid_put(s, f);
	return rc;
}

int p9_walk(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4), fresh = p9_get(&r->in, 4);
	const unsigned int count = p9_get(&r->in, 2);
	char *names[P9_WALK_MAX];
	struct p9_node *n;
	struct p9_fid *f;
	int done;

	if (count > P9_WALK_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < count; i++)
		names[i] = p9_get_string(&r->in);
	if (r->in.bad)
		return -EPROTO;
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	r->out.at += 2;		/* the number of qids, filled in below */
	n = p9_node_get(r->s, f->node);
	done = walk_names(r, &n, names, count);
	if (done == (int)count)
		done = take_fid(r->s, f, fresh, n) ? : done;
	else
		p9_node_put(r->s, n);
	p9_fid_put(r->s, f);
	if (done < 0)
		return done;
	r->out.data[0] = done;
	r->out.data[1] = 0;
	return 0;
}

int p9_clunk(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	struct p9_fid *f;
	int rc = 0;

	if (r->in.bad)
		return -EPROTO;
	f = p9_fid_remove(r->s, id);
	if (!f)
		return -EBADF;
	if (f->kind == FID_XATTR_WRITE)
		rc = p9_xattr_commit(r->s, f);
	p9_fid_put(r->s, f);
	return rc;
}

/* --- dispatch --- */

static int no_auth(struct p9_req *r)
{
	(void)r;
	return -EOPNOTSUPP;
}

static int (*const handlers[P9_TYPES])(struct p9_req *) = {
	[P9_TSTATFS] = p9_statfs, [P9_TLOPEN] = p9_lopen, [P9_TLCREATE] = p9_lcreate,
	[P9_TSYMLINK] = p9_symlink, [P9_TMKNOD] = p9_mknod, [P9_TRENAME] = p9_rename,
	[P9_TREADLINK] = p9_readlink, [P9_TGETATTR] = p9_getattr, [P9_TSETATTR] = p9_setattr,
	[P9_TXATTRWALK] = p9_xattrwalk, [P9_TXATTRCREATE] = p9_xattrcreate,
	[P9_TREADDIR] = p9_readdir, [P9_TFSYNC] = p9_fsync, [P9_TLOCK] = p9_lock,
	[P9_TGETLOCK] = p9_getlock, [P9_TLINK] = p9_link, [P9_TMKDIR] = p9_mkdir,
	[P9_TRENAMEAT] = p9_renameat, [P9_TUNLINKAT] = p9_unlinkat, [P9_TVERSION] = p9_version,
	[P9_TAUTH] = no_auth, [P9_TATTACH] = p9_attach, [P9_TFLUSH] = p9_flush,
	[P9_TWALK] = p9_walk, [P9_TREAD] = p9_read, [P9_TWRITE] = p9_write,
	[P9_TCLUNK] = p9_clunk, [P9_TREMOVE] = p9_remove,
};

static void flight_start(struct p9_req *r, struct p9_flight *f)
{
	struct p9 *s = r->s;

	pthread_mutex_lock(&s->lock);
	r->number = ++s->flown;
	*f = (struct p9_flight){ .tag = r->tag, .number = r->number, .next = s->flights };
	s->flights = f;
	pthread_mutex_unlock(&s->lock);
}

static void flight_end(struct p9 *s, struct p9_flight *f)
{
	struct p9_flight **at;

	pthread_mutex_lock(&s->lock);
	for (at = &s->flights; *at != f; at = &(*at)->next)
		;
	*at = f->next;
	pthread_cond_broadcast(&s->landed);
	pthread_mutex_unlock(&s->lock);
}

/* Puts the header before what is in @r->out; an error takes the place of all. */
static size_t reply(struct p9_req *r, unsigned int type, int rc)
{
	uint8_t header[P9_HEADER];
	struct p9_out h = { .data = header, .room = sizeof(header) };
	size_t len;

	if (!rc && (r->out.full || P9_HEADER + r->out.at + r->direct > r->reply_room))
		rc = -EMSGSIZE;
	if (rc) {
		r->out.at = r->direct = 0;
		r->out.full = false;
		p9_put(&r->out, 4, -rc);
	}
	len = P9_HEADER + r->out.at + r->direct;
	if (len > r->reply_room)
		return 0;
	p9_put(&h, 4, len);
	p9_put(&h, 1, rc ? P9_RLERROR : type + 1);
	p9_put(&h, 2, r->tag);
	p9_iov_write(r->in_iov, r->in_count, 0, header, sizeof(header));
	p9_iov_write(r->in_iov, r->in_count, P9_HEADER, r->out.data, r->out.at);
	return len;
}

/* What the request's length says must be there; of Twrite only the fields are copied. */
static int read_request(struct p9_req *r, uint8_t *flat, unsigned int *type)
{
	const size_t have = p9_iov_len(r->out_iov, r->out_count);
	uint8_t header[P9_HEADER];
	struct p9_in h = { .p = header, .end = header + sizeof(header) };
	size_t body;

	if (p9_iov_read(r->out_iov, r->out_count, 0, header, sizeof(header)) != sizeof(header))
		return -EPROTO;
	r->size = p9_get(&h, 4);
	*type = p9_get(&h, 1);
	r->tag = p9_get(&h, 2);
	if (r->size < P9_HEADER || r->size > have)
		return -EPROTO;
	body = r->size - P9_HEADER;
	if (*type == P9_TWRITE)
		body = MIN(body, 16U);
	if (body > P9_FLAT_MAX)
		return -EMSGSIZE;
	body = p9_iov_read(r->out_iov, r->out_count, P9_HEADER, flat, body);
	r->in = (struct p9_in){ .p = flat, .end = flat + body };
	return 0;
}

static size_t send_reply(struct p9_req *r, const struct p9_message *m, unsigned int type, int rc)
{
	const size_t len = reply(r, type, rc);

	if (m->send)
		m->send(m->arg, len);
	return len;
}

size_t p9_serve(struct p9 *s, const struct p9_message *m)
{
	uint8_t flat[P9_FLAT_MAX], answer[P9_REPLY_MAX];
	struct p9_req r = {
		.s = s, .out_iov = m->out, .out_count = MIN(m->out_count, P9_IOV_MAX),
		.in_iov = m->in, .in_count = MIN(m->in_count, P9_IOV_MAX),
		.out = { .data = answer, .room = sizeof(answer) },
	};
	struct p9_flight flight;
	unsigned int type = 0;
	size_t len;
	int rc;

	r.reply_room = MIN(p9_iov_len(m->in, r.in_count), s->msize);
	rc = read_request(&r, flat, &type);
	if (rc)
		return send_reply(&r, m, type, rc);
	flight_start(&r, &flight);
	if (type < P9_TYPES && handlers[type])
		rc = handlers[type](&r);
	else
		rc = -EOPNOTSUPP;
	len = send_reply(&r, m, type, rc);
	flight_end(s, &flight);
	return len;
}

void p9_thread_init(void)
{
	/* Where that is refused the process's umask holds, which only takes away. */
	if (!unshare(CLONE_FS))
		umask(0);
}

/* --- life --- */

static int open_root(struct p9 *s, struct err *e)
{
	struct stat st;
	int fd, rc;

	fd = open(s->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "could not share the directory %s", s->path);
	if (stat(p9_proc_path(fd).s, &st)) {
		rc = err_errno(e, errno, "sharing %s needs /proc", s->path);
		close(fd);
		return rc;
	}
	rc = p9_owner_probe(s, fd, e);
	if (!rc && p9_root_create(s, fd))
		rc = err_set(e, ENOMEM, "out of memory for the share of %s", s->path);
	if (rc)
		close(fd);
	return rc;
}

/* A quarter of what the process may have open, for names; as many for files. */
static unsigned int default_fds(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 64;
	return MIN(MAX(limit.rlim_cur / 4, 64U), FDS_MAX);
}

int p9_create(struct p9 **out, const struct p9_config *c, struct err *e)
{
	struct p9 *s = calloc(1, sizeof(*s));
	int rc;

	if (s)
		s->path = strdup(c->path);
	if (!s || !s->path) {
		free(s);
		return err_set(e, ENOMEM, "out of memory for the share of %s", c->path);
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->landed, NULL);
	s->log = c->log;
	s->security = c->security;
	s->readonly = c->readonly;
	s->fids_max = c->fids_max ? c->fids_max : FIDS_MAX;
	s->fds_max = c->fds_max ? c->fds_max : default_fds();
	s->euid = geteuid();
	s->egid = getegid();
	s->msize = P9_MSIZE_MAX;
	rc = open_root(s, e);
	if (rc) {
		p9_destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

void p9_reset(struct p9 *s)
{
	p9_fid_remove_all(s);
	s->msize = P9_MSIZE_MAX;
}

void p9_destroy(struct p9 *s)
{
	if (!s)
		return;
	p9_fid_remove_all(s);
	if (s->root)
		p9_node_put(s, s->root);
	pthread_cond_destroy(&s->landed);
	pthread_mutex_destroy(&s->lock);
	free(s->path);
	free(s);
}
