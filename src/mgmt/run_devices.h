/* SPDX-License-Identifier: Apache-2.0 */
/* The devices that the options of `vireo run` ask for. */
#ifndef VIREO_MGMT_RUN_DEVICES_H
#define VIREO_MGMT_RUN_DEVICES_H

#include "backend/block.h"
#include "machine/vm.h"
#include "mgmt/run_options.h"
#include "virtio/net.h"

struct run_chars;
struct run_disks;
struct run_nets;

/*
 * --disk: opens the images and makes a virtio-blk device of each, or a disk of a virtio-scsi that
 * all share.  *out is set, also after a failure, unless there was no memory for it; it outlives
 * the VM.
 */
int run_add_disks(struct run_disks **out, struct vm *vm, const struct run_options *o,
		  struct err *e);
void run_disks_free(struct run_disks *disks);	/* after vm_destroy(); may be NULL */
/*
 * One more, a virtio-blk, also while the VM runs; returns its PCI slot.  On the VM's loop, as all
 * of the following.
 */
int run_disks_add(struct run_disks *disks, const char *text, struct err *e);
/* Asks the guest to let go of the disk in @slot, which is closed once it has. */
int run_disks_remove(struct run_disks *disks, unsigned int slot, struct err *e);
/* The same by its id.  -ENOENT. */
int run_disks_remove_id(struct run_disks *disks, const char *id, struct err *e);

struct run_disk_info {
	unsigned int slot;
	int target;			/* of the SCSI adapter in that slot; -1: it is none's */
	const char *id, *node;		/* the device's name, "disk4" if none was given; the drive's */
	struct block_count count[BLOCK_OPS];
};

/* @gone (NULL: nobody) is called when a disk has gone, on the loop's thread. */
void run_disks_watch(struct run_disks *disks, void (*gone)(void *arg, const char *id), void *arg);
void run_disks_list(struct run_disks *disks,
		    void (*tell)(void *arg, const struct run_disk_info *disk,
				 const struct block_info *info),
		    void *arg);

/* The files below those of the disks; see block.h. */
void run_disks_each_backing(struct run_disks *disks, void (*tell)(void *arg, const char *path),
			    void *arg);

/*
 * Files that are known by a name and not yet a disk (QMP's blockdev-add); @text is --disk's.
 * -EEXIST; -ENOENT; -EBUSY: a disk is of it.
 */
int run_node_add(struct run_disks *disks, const char *name, const char *text, struct err *e);
int run_node_remove(struct run_disks *disks, const char *name, struct err *e);
const char *run_node_text(const struct run_disks *disks, const char *name);	/* NULL: there is none */
void run_nodes_list(const struct run_disks *disks,
		    void (*tell)(void *arg, const char *name, const char *text), void *arg);

/*
 * --console: WHERE[,name=NAME].  Makes one virtio-console with a port for each.  What is wrong
 * with the text, or with the files it names, is one sentence.
 */
int run_add_consoles(struct vm *vm, struct run_chars *chars, const struct run_options *o,
		     struct err *e);

/* --net and --publish: reads the texts without doing anything. */
int run_net_check(const struct run_options *o, struct err *e);
/*
 * Starts their back ends and plugs a virtio-net in for each.  *out is set as run_add_disks()
 * does, and outlives the VM.
 */
int run_add_nets(struct run_nets **out, struct vm *vm, const struct run_options *o, struct err *e);
void run_nets_free(struct run_nets *nets);	/* after vm_destroy(); may be NULL */

struct run_net_info {
	unsigned int slot;
	const char *id, *netdev;	/* "net0" if no id was given; "": no netdev */
	const char *kind;		/* "user" */
	struct virtio_net_counts counts;
};

/* On the VM's loop, as the following. */
void run_nets_list(struct run_nets *nets, void (*tell)(void *arg, const struct run_net_info *net), void *arg);
/* As run_disks_watch(). */
void run_nets_watch(struct run_nets *nets, void (*gone)(void *arg, const char *id), void *arg);
/*
 * Opens what @text, --net's, says, for a card of later.  -EPERM: the sandbox does not let that be
 * done; -EEXIST.
 */
int run_netdev_add(struct run_nets *nets, const char *name, const char *text, struct err *e);
int run_netdev_remove(struct run_nets *nets, const char *name, struct err *e);	/* -ENOENT, -EBUSY */
/* A card on it; @mac may be NULL.  Returns its PCI slot. */
int run_nets_add(struct run_nets *nets, const char *netdev, const char *id, const char *mac, struct err *e);
int run_nets_remove_id(struct run_nets *nets, const char *id, struct err *e);	/* -ENOENT */

/* Is this a text for --console? */
int run_console_check(const char *text, struct err *e);

/* Is this a text for --share?  That of -v as one, malloc'ed; NULL: it is none. */
int run_share_check(const char *text, struct err *e);
char *run_share_long(const char *text);
/* --share, -v: one virtio-9p for each. */
int run_add_shares(struct vm *vm, const struct run_options *o, struct err *e);

/* The directory of a --share, cut from its text; *readonly as the option says. */
int run_share_path(char path[], size_t size, bool *readonly, const struct share_option *o,
		   struct err *e);

/* --balloon: SIZE[,deflate-on-oom=off][,reporting=off]. */
int run_add_balloon(struct vm *vm, const struct run_options *o, struct err *e);

/* --vsock: PATH[,cid=N]. */
int run_add_vsock(struct vm *vm, const struct run_options *o, struct err *e);

/* --serial; *stdio: COM1 is to be this terminal. */
int run_add_serials(struct vm *vm, struct run_chars *chars, const struct run_options *o, bool *stdio,
		    struct err *e);

/* --printer: QUEUE[,out=DIR][,lp=NAME][,name=VM][,idle=SECONDS][,form-feed]. */
int run_add_printer(struct vm *vm, const struct run_options *o, struct err *e);

#endif
