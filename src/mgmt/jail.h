/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail of `vireo run --jail`: namespaces of its own and an empty file system, and a control
 * group with limits (--limit), with or without it.
 *
 * The VM's process is a child; the one that the user started only waits for it, hands signals and
 * the exit status on, and removes the control group.  jail_run() comes first, before anything is
 * opened, jail_close() last, after everything is.
 */
#ifndef VIREO_MGMT_JAIL_H
#define VIREO_MGMT_JAIL_H

#include "base/err.h"
#include "base/types.h"

#include <sys/types.h>

#define JAIL_PATHS_MAX		64
#define JAIL_IO_DEVICES_MAX	16
#define JAIL_SYS_BLOCK		"/sys/dev/block"

/* --limit's; 0: none */
struct jail_limits {
	unsigned int cpu_weight;	/* 1 to 10000 */
	unsigned int cpu;		/* per cent of one processor */
	uint64_t memory;		/* bytes */
	unsigned int pids;
	unsigned int io_weight;		/* 1 to 10000 */
	uint64_t io_read, io_write;	/* bytes a second, on each of these */
	dev_t io_device[JAIL_IO_DEVICES_MAX];
	unsigned int io_device_count;
};

bool jail_limits_set(const struct jail_limits *l);
int jail_limits_parse(struct jail_limits *l, const char *text, struct err *e);
/*
 * Adds the disk that the file or folder @path is on to those that io_read and io_write are for;
 * @sys: JAIL_SYS_BLOCK.  -ENOTSUP: it is on none.
 */
int jail_io_add(struct jail_limits *l, const char *path, const char *sys, struct err *e);

/*
 * Runs @run(@arg) in a child, within a control group where @l asks for one and within namespaces
 * of its own, but for the network, if @jailed.  Returns the child's exit status, which is @run's
 * return value, to the caller, who is outside, and whose descriptors above 2 are then closed.
 * -errno: nothing ran.
 */
int jail_run(bool jailed, const struct jail_limits *l, int (*run)(void *arg), void *arg,
	     struct err *e);

struct jail_path {
	char *path;			/* absolute */
	bool writable;
};

/* What the jail's inside shows of the file system. */
struct jail_files {
	struct jail_path path[JAIL_PATHS_MAX];
	unsigned int count;
	bool proc;			/* /proc too, of the jail's processes */
};

/* Adds @path, relative to the working directory or absolute; twice is once, the wider one. */
void jail_files_add(struct jail_files *f, const char *path, bool writable);
void jail_files_free(struct jail_files *f);

/*
 * Within it: takes the network, all other files and all capabilities away from every thread.
 * @threads: threads_list()'s.
 */
int jail_close(const struct jail_files *f, int threads, struct err *e);

#endif
