/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file server for one directory of the host: a 9P2000.L message in, a 9P2000.L message out.
 * It knows no transport: virtio-9p is one user, the tests are another.
 *
 * What a client is given is what lies below the directory, and what the user that runs Vireo may
 * do there.  No symbolic link of the host is ever followed: a client gets its text, and follows
 * it by itself.  Files that are neither regular nor a directory can be seen, made where the
 * security model has them, and removed; they are never opened on the host.
 *
 * Threads: p9_serve() may be called on several at once; each has called p9_thread_init() first.
 * A request takes as long as the host's file system does.
 */
#ifndef VIREO_BACKEND_P9_H
#define VIREO_BACKEND_P9_H

#include "base/err.h"
#include "base/log.h"
#include "base/types.h"

#include <sys/uio.h>

#define P9_MSIZE_MAX	(512U * 1024U)	/* the largest message */
#define P9_IOV_MAX	1024U

struct p9;

/* Who owns a file, as the client sees it; the names and layouts are QEMU's. */
enum p9_security {
	/*
	 * Owners are the host's.  A change that the host refuses is left undone in silence;
	 * there are no set-user-ID bits and no device nodes.
	 */
	P9_NONE,
	/*
	 * Owner, mode and device number are kept in attributes user.virtfs.*; on the host the
	 * files belong to the user that runs Vireo, with mode 0600 or 0700.
	 */
	P9_MAPPED,
	/* Everything is done as the client says; only root can. */
	P9_PASSTHROUGH,
};

struct p9_config {
	const char *path;
	enum p9_security security;
	bool readonly;
	struct log *log;	/* borrowed; may be NULL */
	unsigned int fids_max;	/* 0: a sensible number; for tests */
	unsigned int fds_max;	/* descriptors kept open for names; 0: the same */
};

/* -ENOENT, -ENOTDIR, -EACCES ..., -EPERM: passthrough without root, -EOPNOTSUPP: no attributes. */
int p9_create(struct p9 **out, const struct p9_config *c, struct err *e);
/* No p9_serve() is under way. */
void p9_destroy(struct p9 *s);

/* Makes the calling thread one that serves: with a umask of its own, which is none. */
void p9_thread_init(void);

/*
 * One request and the room for its reply; both may be guest memory, of which the request is read
 * once.  At most P9_IOV_MAX pieces each.
 */
struct p9_message {
	const struct iovec *out, *in;
	unsigned int out_count, in_count;
	/*
	 * May be NULL.  Sends the reply of @len bytes off; 0: there was no room for one.  A Tflush
	 * of this request is not answered before this has returned.
	 */
	void (*send)(void *arg, size_t len);
	void *arg;
};

/* Serves a request; returns the reply's length. */
size_t p9_serve(struct p9 *s, const struct p9_message *m);

/* Forgets all fids, as if the client were new.  Every request was answered. */
void p9_reset(struct p9 *s);

#endif
