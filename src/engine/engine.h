/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an engine does: runs vCPUs.  An engine meets a device only through the
 * guest-physical space and interrupt lines.  One instance a VM.
 */
#ifndef VIREO_ENGINE_ENGINE_H
#define VIREO_ENGINE_ENGINE_H

#include "cpu/vcpu.h"
#include "engine/config.h"

struct engine;

/* Told of one counter: @name is short, in words and constant only during the call. */
typedef void counter_fn(void *arg, const char *name, uint64_t value);

struct engine_ops {
	const char *name;		/* "soft", "kvm" */
	/* Is it usable here?  0, or -errno with the reason and what would fix it. */
	int (*probe)(struct err *e);
	int (*create)(struct engine **out, struct gpa_space *s, const struct engine_config *c,
		      struct log *log, struct err *e);
	void (*destroy)(struct engine *en);
	int (*vcpu_add)(struct engine *en, struct vcpu *v, struct err *e);
	void (*vcpu_remove)(struct engine *en, struct vcpu *v);
	/* Runs until there is a reason to come back; on the vCPU's own thread. */
	enum vcpu_exit (*vcpu_run)(struct engine *en, struct vcpu *v);
	/* Makes a vcpu_run in progress look at v->attention soon; any thread. */
	void (*vcpu_kick)(struct engine *en, struct vcpu *v);
	/*
	 * Does it have local APICs of its own?  Then each vCPU's controller is hosted by it from
	 * vcpu_add to vcpu_remove (struct vcpu_intc_ops), and messages to local APICs are sent
	 * to it, as writes of @data to the address @addr (bits 8-31 of a destination in its
	 * upper half; 0xff alone: all); true if one accepted.  Any thread.  NULL: it has none.
	 */
	bool (*has_apics)(struct engine *en);
	bool (*send_msi)(struct engine *en, uint64_t addr, uint32_t data);
	/*
	 * From now on signals of @fd, an eventfd, send the message (again with another one:
	 * changes it), until it is removed or the engine goes.  What was signalled before the
	 * removal has arrived.  -ENOTSUP, -ENOSPC.  Any thread.  NULL: cannot.
	 * (Descriptors in place of exits are the guest-physical space's: struct io_doorbell.)
	 */
	int (*irqfd_add)(struct engine *en, int fd, uint64_t addr, uint32_t data, struct err *e);
	void (*irqfd_remove)(struct engine *en, int fd);
	/*
	 * Executes the one instruction at v->rip without keeping anything of its code, delivers
	 * the fault it may raise, takes no interrupt; leaves v->err filled if the host fails.
	 * NULL: cannot.
	 */
	void (*vcpu_step)(struct engine *en, struct vcpu *v);
	/*
	 * Which RAM pages the vCPUs write: from dirty_start on, each collect tells those written
	 * since the last one, and of those that run, at the latest once they have stopped.  What
	 * devices write through gpa_write() is not among them.  Any thread, one at a time.  NULL:
	 * the engine cannot.
	 */
	int (*dirty_start)(struct engine *en, struct err *e);
	int (*dirty_collect)(struct engine *en, void (*tell)(void *arg, gpa_t gpa, uint64_t len),
			     void *arg, struct err *e);
	void (*dirty_stop)(struct engine *en);
	/*
	 * Threads of other processes that run @v's guest for its own: how many nanoseconds of
	 * processor time they had, and their numbers, at most @max; they live as long as @v has
	 * this engine.  Any thread.  NULL: there are none.
	 */
	uint64_t (*vcpu_ran)(struct engine *en, const struct vcpu *v);
	unsigned int (*vcpu_threads)(struct engine *en, const struct vcpu *v, pid_t *tid, unsigned int max);
	/* Tells @tell every counter of its own about @v, which does not run; NULL: it has none. */
	void (*counters)(struct engine *en, const struct vcpu *v, counter_fn *tell, void *arg);
};

extern const struct engine_ops engine_soft;
extern const struct engine_ops engine_kvm;

#endif
