// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo run --disk`: images as virtio-blk devices, and what happens when the host has no room
 * for them: the VM is paused, its requests are tried again every second, and nothing is lost.
 */
#include "mgmt/run_devices.h"
#include "virtio/blk.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define RETRY_SECONDS	1

struct run_disks;

struct run_disk {
	struct run_disks *all;
	unsigned int slot;		/* 0: this entry is free */
	struct block *block;		/* the device's */
	struct loop_work stopped_work;
	int timer;			/* runs while requests wait; -1: never was needed */
	bool waiting;
	char why[512];
};

struct run_disks {
	struct vm *vm;
	unsigned int cpus;
	unsigned int waiting;		/* disks that wait for room */
	void (*gone)(void *arg, unsigned int slot);	/* a disk is; or NULL */
	void *gone_arg;
	bool paused;			/* ... for which the VM was paused here */
	struct run_disk disk[RUN_DISKS_MAX];
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
		d->all->gone(d->all->gone_arg, d->slot);
	d->slot = 0;
}

void run_disks_watch(struct run_disks *all, void (*gone)(void *arg, unsigned int slot), void *arg)
{
	all->gone = gone;
	all->gone_arg = arg;
}

static int add_disk(struct run_disk *d, const char *text, struct err *e)
{
	struct virtio_blk_config c = { .queues = d->all->cpus, .stopped = stopped,
				       .closed = closed, .arg = d };
	struct vm *vm = d->all->vm;
	struct virtio_device *device;
	struct block_options options;
	int rc;

	rc = block_options_parse(&options, text, e);
	if (!rc)
		rc = block_open(&c.block, &options, e);
	if (rc)
		return rc;
	d->block = c.block;
	rc = virtio_blk_create(&device, vm_space(vm), vm_log(vm), &c, e);
	return rc ? rc : vm_plug_virtio(vm, device, e);
}

int run_disks_add(struct run_disks *all, const char *text, struct err *e)
{
	struct run_disk *d = all->disk;
	int slot;

	while (d < all->disk + RUN_DISKS_MAX && d->slot)
		d++;
	if (d == all->disk + RUN_DISKS_MAX)
		return err_set(e, E2BIG, "a VM has at most %d disks", RUN_DISKS_MAX);
	*d = (struct run_disk){ .all = all, .timer = -1 };
	d->stopped_work = (struct loop_work){ .run = say_and_wait, .arg = d };
	slot = add_disk(d, text, e);
	if (slot > 0)
		d->slot = slot;
	return slot;
}

int run_disks_remove(struct run_disks *all, unsigned int slot, struct err *e)
{
	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++)
		if (slot && all->disk[i].slot == slot)
			return vm_unplug_slot(all->vm, slot, e);
	return err_set(e, ENOENT, "there is no disk in PCI slot %u", slot);
}

void run_disks_list(struct run_disks *all,
		    void (*tell)(void *arg, unsigned int slot, const struct block_info *info),
		    void *arg)
{
	struct block_info info;

	for (unsigned int i = 0; i < RUN_DISKS_MAX; i++) {
		if (!all->disk[i].slot)
			continue;
		block_info(all->disk[i].block, &info);
		tell(arg, all->disk[i].slot, &info);
	}
}

int run_add_disks(struct run_disks **out, struct vm *vm, const struct run_options *o,
		  struct err *e)
{
	struct run_disks *all = calloc(1, sizeof(*all));
	int rc = 0;

	if (!all)
		return err_set(e, ENOMEM, "out of memory for the disks");
	*out = all;
	all->vm = vm;
	all->cpus = o->cpus;
	for (unsigned int i = 0; i < o->disk_count && rc >= 0; i++)
		rc = run_disks_add(all, o->disk[i], e);
	return MIN(rc, 0);
}

void run_disks_free(struct run_disks *all)
{
	free(all);
}
