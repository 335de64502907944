/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `vireo run`. */
#ifndef VIREO_MGMT_RUN_PRIV_H
#define VIREO_MGMT_RUN_PRIV_H

#include "mgmt/command.h"
#include "mgmt/run_options.h"

struct engine_ops;

/* run.c */
int run_main(const struct command *c, int argc, char **argv);
/* Runs the VM that @o describes; the process's exit status. */
int run_vm(const struct run_options *o);

/*
 * run_engine.c: the engine for @choice, and the log's first line, which names it and says why
 * it is that one: never a silent second best.  -EINVAL: that choice cannot be had here.
 */
int engine_choose(const struct engine_ops **out, const char **why, enum engine_choice choice,
		  struct err *e);

/* ... and for ENGINE_AUTO on a host where @p was seen. */
struct kvm_probe;
const struct engine_ops *engine_for(const struct kvm_probe *p, const char **why);
bool engine_is_kvm(const struct engine_ops *engine);
/* Why `vireo set --engine` cannot move this VM, which begins with @kvm or not; NULL: it can. */
const char *run_engine_stays(const struct run_options *o, bool kvm);
/* The engine called @name; NULL: there is none. */
const struct engine_ops *engine_named(const char *name);

/* KVM cannot make this VM: true, with another engine, where it was not asked for by name. */
bool engine_fall_back(const struct engine_ops **engine, const char **why,
		      enum engine_choice choice);

/* run_sandbox.c: --sandbox's value; confines the process for the rest of its life. */
struct run_disks;
struct vm;
int run_set_sandbox(void *dest, const char *value, struct err *e);
int run_set_jail(void *dest, const char *value, struct err *e);
int run_set_limit(void *dest, const char *value, struct err *e);
/* Names the devices that --limit io-read= and io-write= are for. */
int run_limit_devices(struct jail_limits *l, const struct run_options *o, struct err *e);
int run_sandbox_check(const struct run_options *o, struct err *e);
int run_sandbox_enter(struct vm *vm, struct run_disks *disks, const struct run_options *o, bool kvm,
		      struct log *log, struct err *e);

/*
 * run_boot.c: without --kernel, takes kernel, initrd and command line from beside the first
 * disk.  -EINVAL if there are none.
 */
int run_boot_beside(struct run_options *o, struct err *e);
void run_boot_free(struct run_options *o);

#endif
