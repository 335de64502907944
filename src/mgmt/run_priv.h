/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `vireo run`. */
#ifndef VIREO_MGMT_RUN_PRIV_H
#define VIREO_MGMT_RUN_PRIV_H

#include "mgmt/command.h"
#include "mgmt/run_options.h"

struct engine_ops;

/* run.c */
int run_main(const struct command *c, int argc, char **argv);

/*
 * run_engine.c: the engine for @choice, and the log's first line, which names it and says why
 * it is that one: never a silent second best.  -EINVAL: that choice cannot be had here.
 */
int engine_choose(const struct engine_ops **out, const char **why, enum engine_choice choice,
		  struct err *e);

#endif
