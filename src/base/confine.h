/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Confining this process for the rest of its life: a list of the system calls that it still
 * makes (seccomp), the files that it may still open (Landlock), no new privileges.
 *
 * What is on no list ends the process with a sentence that names the system call, and with
 * CONFINE_STATUS.  Functions that add to a list keep the first error for confine_enter().
 */
#ifndef VIREO_BASE_CONFINE_H
#define VIREO_BASE_CONFINE_H

#include "base/err.h"
#include "base/types.h"

#include <seccomp.h>

#define CONFINE_STATUS	14	/* the exit status after a violation */

/*
 * The sanitizers' runtimes look into their own process at its end: such builds have no Landlock
 * and a wider filter, and are for tests.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONFINE_SANITIZED	true
#else
#define CONFINE_SANITIZED	false
#endif

enum confine_access {
	CONFINE_READ,		/* read files and directories beneath */
	CONFINE_WRITE,		/* make, change, remove them too; never execute */
	CONFINE_REMOVE,		/* only remove files: sockets at the end */
};

struct confine_state {
	bool calls;		/* a system-call filter is in force */
	unsigned int landlock;	/* the version of Landlock's interface in force; 0: none */
};

struct confine;

/* @network: TCP is left alone, as far as Landlock goes; else this process makes no connection. */
int confine_create(struct confine **out, bool network, struct err *e);
void confine_free(struct confine *c);

/* Allows these whatever their arguments. */
void confine_calls(struct confine *c, const int *calls, size_t count);
/*
 * The following add nothing to a call that confine_calls() has allowed.  Allows one where all of
 * @count @args compare so.
 */
void confine_call_if(struct confine *c, int call, const struct scmp_arg_cmp *args,
		     unsigned int count);
/* One that fails with @errnum: a library tries it and goes on without. */
void confine_call_fails(struct confine *c, int call, int errnum);
void confine_call_fails_if(struct confine *c, int call, int errnum, struct scmp_arg_cmp arg);
/*
 * mmap and mprotect, but never of memory that is both writable and executable; @code: of
 * executable memory at all.
 */
void confine_memory(struct confine *c, bool code);
/* What the C library and, in such builds, the sanitizers need in every process. */
void confine_runtime(struct confine *c);

/* Allows @path, a file or all beneath a directory; one that is not there is left out. */
void confine_path(struct confine *c, const char *path, enum confine_access access);

/*
 * From here on, for all threads (base/thread.h says which can be).  What the host lacks is
 * left out, and *s says what is in force; @strict: -ENOTSUP instead.
 */
int confine_enter(struct confine *c, bool strict, struct confine_state *s, struct err *e);

/* The version of Landlock's interface that this kernel has; 0: none. */
unsigned int confine_landlock_version(void);

#endif
