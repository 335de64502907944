// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo run --disk`: images as virtio-blk devices or disks of a virtio-scsi, and what happens
 * when the host has no room for them: the VM is paused, its requests are tried again every
 * second, and nothing is lost.
 */
#include "mgmt/run_devices.h"
#include "virtio/blk.h"
#include "virtio/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define RETRY_SECONDS	1
#define RUN_NODES_MAX	32

struct run_disks;

struct run_disk {
	struct run_disks *all;
	bool used;
	unsigned int slot;
	int target;			/* of the SCSI adapter; -1: it is none's */
	bool alone;			/* the adapter has no other disk */
	char id[64], node[64];
	struct block *block;		/* the device's */
	struct loop_work stopped_work;
	int timer;			/* runs while requests wait; -1: never was needed */
	bool waiting;
	char why[512];
};

struct run_node {
	char name[64];			/* "": this entry is free */
	char *text;
};

struct run_disks {
	struct vm *vm;
	unsigned int cpus;
	unsigned int waiting;		/* disks that wait for room */
	void (*gone)(void *arg, const char *id);	/* a disk is; or NULL */
	void *gone_arg;
	bool paused;			/* ... for which the VM was paused here */
	struct run_disk disk[RUN_DISKS_MAX];
	struct run_node node[RUN_NODES_MAX];
};

/* --- the host is full --- */

static void begin_waiting(struct run_disk *d)
{
	struct run_disks *all = d->all;

	d->waiting = true;
	if (all->waiting++ || vm_is_paused(all->vm))
		return;
	all->paused = true;
	vm_pause(all->vm);
}

/* Whoever had paused the VM before lets it go on himself. */
static void end_waiting(struct run_disk *d)
{
	struct run_disks *all = d->all;

	d->waiting = false;
	if (--all->waiting || !all->paused)
		return;
	all->paused = false;
	vm_resume(all->vm);
}

static void retry(void *arg, uint32_t events)
{
	struct run_disk *d = arg;
	const struct itimerspec never = { 0 };
	uint64_t times;

	(void)events;
	if (read(d->timer, &times, sizeof(times)) < 0)
		return;
	if (block_stopped(d->block)) {
		block_resume(d->block);
		return;
	}
	timerfd_settime(d->timer, 0, &never, NULL);
	log_warn(vm_log(d->all->vm), "there is room again: the VM goes on");
	end_waiting(d);
}

static void say_and_wait(void *arg)
{
	struct run_disk *d = arg;
	const struct itimerspec every = {
		.it_value.tv_sec = RETRY_SECONDS, .it_interval.tv_sec = RETRY_SECONDS,
	};

	if (d->waiting)
		return;
	log_warn(vm_log(d->all->vm), "%s; the VM is paused until there is", d->why);
	begin_waiting(d);
	if (d->timer < 0) {
		d->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		loop_watch(vm_loop(d->all->vm), d->timer, EPOLLIN, retry, d, NULL);
	}
	timerfd_settime(d->timer, 0, &every, NULL);
}

/* On a worker of the block's. */
static void stopped(void *arg, int errnum, const char *why)
{
	struct run_disk *d = arg;

	(void)errnum;
	if (!d->why[0])
		snprintf(d->why, sizeof(d->why), "%s", why);
	loop_post(vm_loop(d->all->vm), &d->stopped_work);
}

/* --- making --- */

/* The device is gone, with the VM or before it. */
static void closed(void *arg)
{
	struct run_disk *d = arg;

	loop_unpost(vm_loop(d->all->vm), &d->stopped_work);
	if (d->timer >= 0) {
		loop_unwatch(vm_loop(d->all->vm), d->timer);
		close(d->timer);
	}
	if (d->waiting)
		end_waiting(d);
	if (d->all->gone && d->slot)
		d->all->gone(d->all->gone_arg, d->id);
	d->used = false;
}

void run_disks_watch(struct run_disks *all, void (*gone)(void *arg, const char *id), void *arg)
{
	all->gone = gone;
	all->gone_arg = arg;
}

/* A free entry for what @o says; its id is nobody else's. */
static int take_entry(struct run_disks *all, struct run_disk **out, const struct block_options *o,
		      struct err *e)
{
	struct run_disk *d = NULL;

	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++) {
		if (!all->disk[i].used)
			d = d ? d : &all->disk[i];
		else if (o->id[0] && !strcmp(all->disk[i].id, o->id))
			return err_set(e, EEXIST, "there is a disk '%s' already", o->id);
	}
	if (!d)
		return err_set(e, E2BIG, "a VM has at most %d disks", RUN_DISKS_MAX);
	*d = (struct run_disk){ .all = all, .timer = -1, .target = -1 };
	d->stopped_work = (struct loop_work){ .run = say_and_wait, .arg = d };
	strcpy(d->id, o->id);
	strcpy(d->node, o->node);
	*out = d;
	return 0;
}

static int add_blk(struct run_disk *d, const struct block_options *o, struct err *e)
{
	struct virtio_blk_config c = { .queues = d->all->cpus, .stopped = stopped,
				       .closed = closed, .arg = d };
	struct vm *vm = d->all->vm;
	struct virtio_device *device;
	int rc;

	rc = block_open(&c.block, o, e);
	if (rc)
		return rc;
	d->block = c.block;
	rc = virtio_blk_create(&device, vm_space(vm), vm_log(vm), &c, e);
	if (!rc)
		rc = vm_plug_virtio(vm, device, e);
	if (rc < 0)
		return rc;
	d->used = true;
	d->slot = rc;
	if (!d->id[0])
		snprintf(d->id, sizeof(d->id), "disk%u", d->slot);
	return rc;
}

/* All of them are one adapter's, which is plugged in when they are there. */
static int add_scsi(struct run_disk *d, struct virtio_device **adapter, const struct block_options *o,
		    struct err *e)
{
	struct virtio_scsi_disk disk = { .stopped = stopped, .closed = closed, .arg = d };
	struct vm *vm = d->all->vm;
	int rc = 0;

	if (!*adapter)
		rc = virtio_scsi_create(adapter, vm_space(vm), vm_log(vm), d->all->cpus, e);
	if (!rc)
		rc = block_open(&disk.block, o, e);
	if (rc)
		return rc;
	d->block = disk.block;
	rc = virtio_scsi_add(*adapter, &disk, e);
	if (rc < 0)
		return rc;
	d->used = true;
	d->target = rc;
	if (!d->id[0])
		snprintf(d->id, sizeof(d->id), "scsi%d", d->target);
	return 0;
}

/* With an adapter of its own, since what is plugged in and out is an adapter. */
static int add_scsi_alone(struct run_disk *d, const struct block_options *o, struct err *e)
{
	struct virtio_device *adapter = NULL;
	int rc = add_scsi(d, &adapter, o, e);

	if (rc) {
		if (adapter)
			virtio_scsi_free(adapter);
		return rc;
	}
	d->alone = true;
	rc = vm_plug_virtio(d->all->vm, adapter, e);
	if (rc < 0)
		return rc;
	d->slot = rc;
	if (!o->id[0])
		snprintf(d->id, sizeof(d->id), "scsi-%u", d->slot);
	return rc;
}

int run_disks_add(struct run_disks *all, const char *text, struct err *e)
{
	struct block_options o;
	struct run_disk *d;
	int rc;

	rc = block_options_parse(&o, text, e);
	/* The sandbox is closed, and would end the process for making a ring. */
	if (!rc && o.io_uring)
		rc = err_set(e, EINVAL, "disk '%s': aio=io_uring is for disks that are there when the VM "
			     "starts; aio=threads does without", o.path);
	if (!rc)
		rc = take_entry(all, &d, &o, e);
	if (!rc)
		rc = o.scsi ? add_scsi_alone(d, &o, e) : add_blk(d, &o, e);
	if (rc == -EACCES)
		err_prefix(e, "the sandbox lets disks be opened beside those of the start, the files that these "
			   "are based on for reading, and what --sandbox dir=DIR (QEMU's -sandbox on,dir=DIR) "
			   "names");
	return rc;
}

static int remove_disk(struct run_disk *d, struct err *e)
{
	if (d->target >= 0 && !d->alone)
		return err_set(e, EINVAL, "the SCSI disk '%s' stays: it was there when the VM started, on an adapter "
			       "that it may share", d->id);
	return vm_unplug_slot(d->all->vm, d->slot, e);
}

int run_disks_remove(struct run_disks *all, unsigned int slot, struct err *e)
{
	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++)
		if (all->disk[i].used && all->disk[i].slot == slot)
			return remove_disk(&all->disk[i], e);
	return err_set(e, ENOENT, "there is no disk in PCI slot %u", slot);
}

int run_disks_remove_id(struct run_disks *all, const char *id, struct err *e)
{
	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++)
		if (all->disk[i].used && !strcmp(all->disk[i].id, id))
			return remove_disk(&all->disk[i], e);
	return err_set(e, ENOENT, "Device '%s' not found", id);
}

void run_disks_list(struct run_disks *all,
		    void (*tell)(void *arg, const struct run_disk_info *disk,
				 const struct block_info *info),
		    void *arg)
{
	struct block_info info;

	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++) {
		const struct run_disk *d = &all->disk[i];
		struct run_disk_info disk = {
			.slot = d->slot, .target = d->target, .id = d->id, .node = d->node,
		};

		if (!d->used)
			continue;
		block_info(d->block, &info);
		block_counts(d->block, disk.count);
		tell(arg, &disk, &info);
	}
}

void run_disks_each_backing(struct run_disks *all, void (*tell)(void *arg, const char *path), void *arg)
{
	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++)
		if (all->disk[i].used)
			block_each_backing(all->disk[i].block, tell, arg);
}

static int plug_adapter(struct run_disks *all, struct virtio_device *adapter, struct err *e)
{
	const int slot = vm_plug_virtio(all->vm, adapter, e);

	for (unsigned int i = 0; i < RUN_DISKS_MAX && slot > 0; i++)
		if (all->disk[i].used && all->disk[i].target >= 0)
			all->disk[i].slot = slot;
	return slot;
}

/* Known by name as if QMP's blockdev-add had said so; locked, and read, only with a device. */
static int add_spares(struct run_disks *all, const struct run_options *o, struct err *e)
{
	struct block_options options;
	int rc = 0;

	for (unsigned int i = 0; i < o->spare_disk_count && !rc; i++) {
		rc = block_options_parse(&options, o->spare_disk[i], e);
		if (!rc && !options.node[0])
			rc = err_set(e, EINVAL, "--spare-disk %s: node=NAME is missing", options.path);
		if (!rc && access(options.path, R_OK))
			rc = err_errno(e, errno, "cannot open disk '%s'", options.path);
		if (!rc)
			rc = run_node_add(all, options.node, o->spare_disk[i], e);
	}
	return rc;
}

int run_add_disks(struct run_disks **out, struct vm *vm, const struct run_options *o,
		  struct err *e)
{
	struct run_disks *all = calloc(1, sizeof(*all));
	struct virtio_device *adapter = NULL;
	struct block_options options;
	struct run_disk *d;
	int rc = 0;

	if (!all)
		return err_set(e, ENOMEM, "out of memory for the disks");
	*out = all;
	all->vm = vm;
	all->cpus = o->cpus;
	for (unsigned int i = 0; i < o->disk_count && rc >= 0; i++) {
		rc = block_options_parse(&options, o->disk[i], e);
		if (!rc)
			rc = take_entry(all, &d, &options, e);
		if (!rc)
			rc = options.scsi ? add_scsi(d, &adapter, &options, e) : add_blk(d, &options, e);
	}
	if (rc >= 0)
		rc = add_spares(all, o, e);
	if (rc >= 0 && adapter)
		rc = plug_adapter(all, adapter, e);
	else if (adapter)
		virtio_scsi_free(adapter);
	return MIN(rc, 0);
}

void run_disks_free(struct run_disks *all)
{
	for (unsigned int i = 0; all && i < RUN_NODES_MAX; i++)
		free(all->node[i].text);
	free(all);
}

/* --- files with names --- */

static struct run_node *find_node(const struct run_disks *all, const char *name)
{
	for (unsigned int i = 0; i < RUN_NODES_MAX; i++)
		if (!strcmp(all->node[i].name, name))
			return (struct run_node *)&all->node[i];
	return NULL;
}

int run_node_add(struct run_disks *all, const char *name, const char *text, struct err *e)
{
	struct run_node *n = find_node(all, "");
	struct block_options o;
	int rc;

	if (!name[0] || strlen(name) >= sizeof(n->name) || strchr(name, ','))
		return err_set(e, EINVAL, "Invalid node-name: '%.100s'", name);
	if (find_node(all, name))
		return err_set(e, EEXIST, "Duplicate nodes with node-name='%s'", name);
	if (!n)
		return err_set(e, E2BIG, "at most %d nodes can be there", RUN_NODES_MAX);
	rc = block_options_parse(&o, text, e);
	if (rc)
		return rc;
	n->text = strdup(text);
	if (!n->text)
		return err_set(e, ENOMEM, "out of memory for a node");
	strcpy(n->name, name);
	return 0;
}

int run_node_remove(struct run_disks *all, const char *name, struct err *e)
{
	struct run_node *n = name[0] ? find_node(all, name) : NULL;

	if (!n)
		return err_set(e, ENOENT, "Failed to find node with node-name='%.100s'", name);
	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++)
		if (all->disk[i].used && !strcmp(all->disk[i].node, name))
			return err_set(e, EBUSY, "Node %s is in use", name);
	free(n->text);
	*n = (struct run_node){ 0 };
	return 0;
}

const char *run_node_text(const struct run_disks *all, const char *name)
{
	const struct run_node *n = name[0] ? find_node(all, name) : NULL;

	return n ? n->text : NULL;
}

void run_nodes_list(const struct run_disks *all,
		    void (*tell)(void *arg, const char *name, const char *text), void *arg)
{
	for (unsigned int i = 0; i < RUN_NODES_MAX; i++)
		if (all->node[i].name[0])
			tell(arg, all->node[i].name, all->node[i].text);
}
