/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines that are kept: a directory each, with vm.json, disks, logs and sockets.  NAME is
 * $XDG_DATA_HOME/vireo/NAME (~/.local/share/vireo/NAME); a name with a slash in it is the
 * directory's path.
 *
 * Who runs the machine holds a lock on a file in the directory, which goes with its process,
 * however that ends.  Nothing else says that a machine runs.
 */
#ifndef VIREO_MGMT_MACHINE_H
#define VIREO_MGMT_MACHINE_H

#include "base/err.h"
#include "base/types.h"

#include <limits.h>
#include <sys/types.h>

#define MACHINE_NAME_MAX	48U
#define MACHINE_CONFIG		"vm.json"
#define MACHINE_LOCK		"lock"
#define MACHINE_CONTROL		"control.sock"
#define MACHINE_CONSOLE		"console.sock"
#define MACHINE_SERIAL_LOG	"serial.log"
#define MACHINE_LOG		"vireo.log"
#define MACHINE_END		"end.json"	/* how its last run ended; empty until it does */

struct machine {
	char name[MACHINE_NAME_MAX + 1];
	char path[PATH_MAX];		/* of the directory */
	int dir;			/* the directory */
};

enum machine_state { MACHINE_STOPPED, MACHINE_RUNNING, MACHINE_CRASHED };

/* 1 to 48 letters, digits, '-', '_', '.', or -EINVAL. */
int machine_name_check(const char *name, struct err *e);
/* The folder that machines are in, made if need be. */
int machine_home(char path[PATH_MAX], struct err *e);
/* Where the machine @name is or would be. */
int machine_path(struct machine *m, const char *name, struct err *e);

/* -ENOENT: there is no such machine. */
int machine_open(struct machine *m, const char *name, struct err *e);
void machine_close(struct machine *m);

/*
 * Makes this process the one that runs (or removes) it; a descriptor that holds the lock, to
 * be kept.  -EBUSY: another one does.
 */
int machine_lock(const struct machine *m, struct err *e);
enum machine_state machine_state(const struct machine *m);
/* The process that runs it, 0: none, or it cannot be told. */
pid_t machine_pid(const struct machine *m);

/* A connection to the socket @name in its directory, however long its path is; -errno. */
int machine_connect(const struct machine *m, const char *name, struct err *e);

#endif
