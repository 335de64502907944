/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is made of; for src/machine only.
 */
#ifndef VIREO_MACHINE_VM_PRIV_H
#define VIREO_MACHINE_VM_PRIV_H

#include "cpu/vcpu.h"
#include "engine/engine.h"
#include "machine/acpi.h"
#include "machine/cpu_group.h"
#include "machine/cpu_share.h"
#include "machine/pc.h"
#include "machine/profile.h"
#include "machine/vm.h"

#include <stdatomic.h>

/*
 * What ends or interrupts the VM's run, by how much it matters: a set bit hides those
 * above it.
 */
enum vm_event {
	EVENT_STOP,
	EVENT_ERROR,
	EVENT_DEBUG_EXIT,
	EVENT_POWEROFF,
	EVENT_PANIC,
	EVENT_TRIPLE_FAULT,
	EVENT_RESET,
	EVENT_COUNT
};

/* (l) What cpu_share_vcpu.c knows of a vCPU. */
struct vcpu_share {
	struct cpu_limits limits;	/* its own, beside the VM's */
	struct cpu_thread_group group;	/* where the VM's vcpus_grouped */
	uint64_t counted;		/* ns of its CPU clock that have been seen ... */
	uint64_t ran;			/* ... of which in the last tick */
	bool active;			/* it wanted to run at the end of that */
	bool capped;			/* its cap is used up */
	unsigned int starved;		/* ticks for which others had its time */
	uint64_t vtime;			/* ns that it ran, by its weight */
	int64_t credit;			/* ns that its cap still allows */
};

/* (s) under sleep_lock */
struct vm_vcpu {
	struct vm *vm;
	struct vcpu *vcpu;
	bool ready;			/* vcpu_init() and the engine have it */
	bool started;			/* the thread exists */
	atomic_bool present;		/* written under (g): in the machine, not to be plugged yet */
	struct device *lapic;
	pthread_t thread;
	atomic_int tid;			/* its number, 0: it has not begun */
	pthread_mutex_t sleep_lock;
	pthread_cond_t woken;
	atomic_bool sleeping;		/* set under (s); see vcpu_wake() */
	uint64_t awake;			/* ns in which it wanted to run, until ... */
	uint64_t awake_since;		/* ... it woke last */
	_Atomic uint64_t others_ran;	/* ns that other processes ran for it */
	uint64_t stolen;		/* ns that vcpu_stolen() told last; the thread's own */
	uint64_t sampled;		/* (l) ns of its CPU clock that profile.c has seen; 0: none */
	struct vcpu_profile profile;	/* (l) */
	struct vcpu_share share;	/* (l) */
	bool held;			/* (g) its share of the present period is used up */
};

/* (l) */
struct cpu_share {
	struct cpu_limits limits;
	struct cpu_group group;
	bool grouped;			/* the host keeps the limits, by group; the rest is not used */
	bool asked;			/* ... for a group, once */
	bool vcpus_grouped;		/* the host keeps those of vCPUs, by a group for each */
	bool vcpus_asked;
	uint64_t contended;		/* until then (CLOCK_MONOTONIC) vCPUs have to share */
	struct share_file *file;	/* NULL until there is a weight */
	struct share_entry *entry;
	struct timer timer;
	uint64_t ticked;		/* CLOCK_MONOTONIC ns of the last tick */
	int64_t credit;			/* ns that the cap still allows */
};

/*
 * (g) under gate_lock; (e) engine_lock, written with all vCPUs paused; (l) loop's thread; the rest
 * is constant after vm_create()
 */
struct vm {
	struct vm_config config;
	struct log *log;
	struct gpa_space space;
	struct clock clock;
	struct loop *loop;
	struct pc pc;
	struct e820_map map;
	struct acpi_image acpi;
	struct char_backend *serial[VM_SERIALS];
	struct char_backend *printer;	/* NULL: no parallel port */
	enum vm_watchdog watchdog;	/* what it does */
	struct loop_work watchdog_work;	/* WATCHDOG_PAUSE */
	struct virtio_device *balloon;	/* NULL: none */
	unsigned int balloon_slot;
	struct loop_work eject_work;
	_Atomic uint32_t leaving;	/* PCI slots that the guest was asked to let go */
	_Atomic uint32_t ejected;	/* ... and did, not yet emptied */
	unsigned int cpus_wanted;	/* (l) after power-on so many processors are there */
	_Atomic uint64_t cpus_ejected;	/* let go of, not yet taken out */
	struct loop_work cpus_work;
	pthread_rwlock_t engine_lock;	/* for those who kick: set_engine.c */
	struct engine *engine;		/* (e) and config.engine */
	struct engine_config engine_config; /* config.engine_config's copy */
	unsigned int engines;		/* (e) how many it had, from 1 */
	pthread_mutex_t routes_lock;
	struct msi_route *routes;	/* under routes_lock, or (e): those that the engine has */
	_Atomic uint64_t routed;	/* messages that went by one */
	struct vm_vcpu *vcpus;
	unsigned int vcpu_count;

	struct vm_watcher *watchers;	/* (l) */
	bool off;			/* (l) ended, with config.stay_off */
	atomic_bool reset_by_host;	/* the EVENT_RESET to come is vm_reset()'s */

	_Atomic uint32_t events;	/* bits of enum vm_event, not yet handled */
	_Atomic unsigned int exit_status; /* of EVENT_DEBUG_EXIT */
	struct loop_work event_work;
	struct vm_result result;	/* (l) */
	int failed;			/* (l) -errno of EVENT_ERROR */
	struct err err;			/* (g) of EVENT_ERROR: the first */

	pthread_mutex_t gate_lock;
	pthread_cond_t gate;		/* state or running changed */
	enum { VM_PAUSED, VM_RUNNING, VM_ENDING } state; /* (g) */
	unsigned int running;		/* (g) vCPU threads that have passed the gate */
	bool held;			/* (g) the vCPUs' share of the present period is used up */
	bool frozen;			/* (g) vm_freeze() */
	bool paused;			/* (g) vm_pause() */
	uint64_t paused_at;		/* (l) the host's TSC then, or at power-on if that was later */
	struct loop_work *debug_work;	/* whom a vCPU's VCPU_EXIT_DEBUGGER is told, or NULL */
	struct cpu_share share;		/* (l) */
	struct timer profile_timer;
	uint64_t profile_until;		/* (l) VM ns */
};

/* Notes @what and has the loop see to it; any thread, any locks but the gate's. */
void vm_event(struct vm *vm, enum vm_event what);
/* The same with the host's error, the first of which is kept. */
void vm_fail(struct vm *vm, const struct err *e);

/* freeze.c: tells all watchers; on the loop's thread. */
void vm_tell(struct vm *vm, const struct vm_news *news);

/* msi.c: messages to local APICs go to those of the engine, if it has any. */
void vm_connect_apics(struct vm *vm);

/* msi.c: for devices; and, with engine_lock held for writing, before the engine goes. */
struct msi_line vm_msi_line(struct vm *vm);
void vm_drop_routes(struct vm *vm);

/* hotplug.c: before the board is built. */
void vm_init_hotplug(struct vm *vm);
/* hotplug_cpu.c: the same; and at power-on those are there that are wanted. */
void vm_init_cpu_hotplug(struct vm *vm);
void vm_power_on_cpus(struct vm *vm);

/* --- cpu_share.c --- */

void cpu_share_init(struct vm *vm);
void cpu_share_destroy(struct vm *vm);
/* Puts the threads where they belong. */
int cpu_share_pin(struct vm *vm, struct err *e);
/* Starts or ends the accounting, as the limits have it. */
void cpu_share_restart(struct vm *vm);
/* The VM's group, if there is to be one. */
void cpu_share_open_group(struct vm *vm);
/* Puts this process into it; false: it has none, or it is not to be had after all. */
bool cpu_share_enter_group(struct vm *vm, struct err *e);
/* The cap's credit after @passed ns, of which @ran were used; true: it is used up. */
bool cpu_share_capped(int64_t *credit, unsigned int cap, uint64_t passed, uint64_t ran);
/* Closes or opens a gate of pass_gate()'s for @n vCPUs from @first on. */
void cpu_share_hold(struct vm *vm, bool *gate, bool held, unsigned int first, unsigned int n);

/* --- cpu_share_vcpu.c --- */

/* What the threads ran since last time, and how many want to. */
uint64_t vcpu_shares_count(struct vm *vm, unsigned int *active);
/* Has those wait that are ahead of their shares, after @passed ns. */
void vcpu_shares_tick(struct vm *vm, uint64_t now, uint64_t passed);
/* Is one kept back by us? */
bool vcpu_shares_ours(const struct vm *vm);
/* Has them kept by the host or by us. */
void vcpu_share_set(struct vm_vcpu *c, const struct cpu_limits *l);
/* The threads are there now: into their groups. */
void vcpu_shares_begin(struct vm *vm);
/* The groups of the vCPUs, opened once. */
void vcpu_shares_open(struct vm *vm);
void vcpu_shares_close(struct vm *vm);

/* --- profile.c --- */

void profile_init(struct vm *vm);
void profile_destroy(struct vm *vm);

/* --- vcpu_thread.c --- */

/* Makes the vCPUs; after a failure vcpus_destroy() takes down what is there. */
int vcpus_create(struct vm *vm, struct err *e);
void vcpus_destroy(struct vm *vm);
/* Starts the threads; they wait at the gate. */
int vcpus_start(struct vm *vm, struct err *e);
/* Nanoseconds of processor time that were spent running it; any thread. */
uint64_t vcpu_ran(struct vm_vcpu *c);
/* Threads of other processes that run it, too: struct engine_ops. */
#define VCPU_OTHERS	16
unsigned int vcpu_other_threads(struct vm_vcpu *c, pid_t *tid, unsigned int max);
/* Opens the gate. */
void vcpus_resume(struct vm *vm);
/* Closes it and waits until all vCPUs are behind it; not on a vCPU's thread. */
void vcpus_pause(struct vm *vm);
/* The same, whatever the gate does meanwhile: nobody passes it until they are thawed. */
void vcpus_freeze(struct vm *vm, bool frozen);
/* The same for vm_pause(). */
void vcpus_hold(struct vm *vm, bool paused);
/* Ends the threads. */
void vcpus_join(struct vm *vm);

#endif
