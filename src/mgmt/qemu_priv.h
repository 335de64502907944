/* SPDX-License-Identifier: Apache-2.0 */
/* The QEMU personality's parts: qemu.c (options), qemu_device.c (what they name). */
#ifndef VIREO_MGMT_QEMU_PRIV_H
#define VIREO_MGMT_QEMU_PRIV_H

#include "base/err.h"
#include "base/types.h"

#define QEMU_WORDS_MAX	256	/* of a command line of ours */
#define QEMU_ITEMS_MAX	64	/* of a kind */
#define QEMU_TEXT_MAX	4096

/* Texts of options that others name by their id, or that wait until all are known. */
struct qemu_items {
	const char *text[QEMU_ITEMS_MAX];
	unsigned int count;
};

/* A command line of QEMU's while it becomes one of `vireo run`. */
struct qemu {
	char *word[QEMU_WORDS_MAX];	/* ours, malloc'ed */
	unsigned int words;
	struct qemu_items chardevs, drives, netdevs, fsdevs, devices, serials;
	bool no_defaults, nographic, net_given, snapshot, microvm;
	bool kvm, tcg;			/* accelerators that were asked for */
	bool stopped, daemonize, print;
	bool no_shutdown;
	const char *cpu, *monitor, *qmp, *gdb, *name, *uuid, *pidfile, *watchdog_action;
	bool watchdog, kernel;
};

/* Adds "@option" and, if @fmt is not NULL, a value. */
int qemu_push(struct qemu *q, struct err *e, const char *option, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int qemu_keep(struct qemu_items *items, const char *what, const char *text, struct err *e);
/*
 * The value of @key in "a,key=value,b" into @out, two commas standing for one; a word alone is
 * "on"; key "" is the first word, which has no '='.  False: it is not there, or too long.
 */
bool qemu_value(const char *text, const char *key, char *out, size_t size);
/* -EINVAL: @text has a key that is none of the space-separated @keys. */
int qemu_check_keys(const char *option, const char *text, const char *keys, struct err *e);

/* qemu_device.c: options that wait for others; in the order in which devices get their names. */
int qemu_add_devices(struct qemu *q, struct err *e);

#endif
