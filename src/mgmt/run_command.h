/* SPDX-License-Identifier: Apache-2.0 */
/* A VM that is there for one command. */
#ifndef VIREO_MGMT_RUN_COMMAND_H
#define VIREO_MGMT_RUN_COMMAND_H

#include "mgmt/run_options.h"
#include "mgmt/session.h"

/*
 * Boots what o->root names, runs the command @s in it, and returns its exit status; status.h's or
 * SESSION_NOT_RUN where it was not run to its end.
 */
int run_command(struct run_options *o, const struct session *s);

#endif
