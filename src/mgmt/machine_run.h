/* SPDX-License-Identifier: Apache-2.0 */
/* Running a machine that is kept: in this process, or in one of its own. */
#ifndef VIREO_MGMT_MACHINE_RUN_H
#define VIREO_MGMT_MACHINE_RUN_H

#include "mgmt/machine.h"

#include <stdio.h>

/*
 * Runs @m in this process, whose current folder becomes the machine's; the process's exit
 * status.  @ready (NULL: nobody) is told RUNS and closed, or told the sentence that says why not.
 */
#define MACHINE_RUNS	"+"
int machine_run(const struct machine *m, FILE *ready);

/*
 * Starts a process that runs @m, and returns when the guest runs: 0.  Otherwise @e says why it
 * does not and *status is the exit status for that.
 */
int machine_start(const struct machine *m, int *status, struct err *e);

#endif
