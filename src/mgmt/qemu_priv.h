/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QEMU personality's parts: qemu.c (what is run), qemu_options.c (the table of options),
 * qemu_cpu.c, qemu_char.c, qemu_drive.c, qemu_net.c, qemu_device.c (what the options name),
 * qemu_text.c (texts), qemu_keys.def (what makes no difference).
 */
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
	struct qemu_items chardevs, drives, netdevs, nics, fsdevs, devices, serials;
	struct qemu_items monitors, qmps, mons;
	uint64_t chardevs_used, chardevs_shared, drives_used, netdevs_used;	/* bits of them */
	bool no_defaults, nographic, net_given, snapshot, microvm, scsi_adapter;
	bool kvm, tcg;			/* accelerators that were asked for */
	bool stopped, daemonize, print;
	bool no_shutdown;
	bool panic_fails;		/* a guest's panic is a failure's status */
	bool stdio;			/* somebody has it */
	bool signals;			/* Ctrl-C on a terminal is not the guest's */
	unsigned int muxes, scsi_disks, plain_drives;
	const char *cpu, *gdb, *name, *uuid, *pidfile, *watchdog_action, *nic_mac;
	bool watchdog, kernel, initrd, append, bios;
	char name_text[256], isa_text[4][96];
};

/* --- qemu_text.c --- */

/* Adds "@option" and, if @fmt is not NULL, a value. */
int qemu_push(struct qemu *q, struct err *e, const char *option, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int qemu_keep(struct qemu_items *items, const char *what, const char *text, struct err *e);
/*
 * The value of @key in "a,key=value,b" into @out, two commas standing for one; a word alone is
 * "on"; key "" is the first word, which has no '='.  False: it is not there, or too long.
 */
bool qemu_value(const char *text, const char *key, char *out, size_t size);
/* The next item of @text into @out, cut if it is too long (*whole says so); returns what follows. */
const char *qemu_next_item(const char *text, char *out, size_t size, bool *whole);
bool qemu_on(const char *text, const char *key, bool otherwise);
/*
 * -EINVAL: @text has a key that is none of the space-separated @keys, nor one of qemu_keys.def
 * with a value that it has.  @option: without its '-'.
 */
int qemu_check_keys(const char *option, const char *text, const char *keys, struct err *e);
int qemu_check_harmless(const char *option, const char *key, const char *value, struct err *e);
void qemu_print_harmless(void);
/* Where @text, which is one of them, is among @items. */
unsigned int qemu_place_among(const struct qemu_items *items, const char *text);
/* Somebody can plug in what has no device yet. */
bool qemu_can_be_asked(const struct qemu *q);
/* The one of @items whose id is @id, or NULL. */
const char *qemu_with_id(const struct qemu_items *items, const char *id);
/* What @key of @device names among @items. */
int qemu_named(const char **text, const struct qemu_items *items, const char *device,
	       const char *key, struct err *e);

/* --- the others --- */

/* qemu_options.c */
int qemu_parse(struct qemu *q, int argc, char **argv, struct err *e);
void qemu_print_options(void);
bool qemu_option_takes(const char *name);	/* without its '-' */
/* qemu_cpu.c: the processor's model and the engine; "help" of -cpu. */
int qemu_choose_cpu(struct qemu *q, struct err *e);
int qemu_choose_engine(struct qemu *q, struct err *e);
void qemu_print_cpus(void);
/* qemu_char.c: serial ports, monitors; for -device a place as --console at= has it. */
int qemu_add_chars(struct qemu *q, struct err *e);
int qemu_check_chardevs(struct qemu *q, struct err *e);	/* those that nobody uses */
int qemu_chardev_place(struct qemu *q, const char *option, const char *id, char *out, size_t size,
		       struct err *e);
/* qemu_drive.c: -drive if=virtio; a device's drive. */
int qemu_add_drives(struct qemu *q, struct err *e);
int qemu_add_spare_drives(struct qemu *q, struct err *e);	/* for device_add of later */
int qemu_add_disk(struct qemu *q, const char *drive, const char *device, bool scsi, struct err *e);
/* qemu_net.c: -nic, -net; a device's network. */
int qemu_add_spare_nets(struct qemu *q, struct err *e);	/* for device_add of later */
int qemu_add_cards(struct qemu *q, struct err *e);
int qemu_net_text(const char *netdev, char *out, size_t size, struct err *e);	/* as --net has it */
int qemu_add_net(struct qemu *q, const char *device, struct err *e);
/* qemu_device.c: options that wait for others; in the order in which devices get their names. */
int qemu_add_devices(struct qemu *q, struct err *e);
void qemu_print_devices(void);

#endif
