/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine: its memory, clock, event loop, devices and vCPUs.
 *
 * vm_create() builds it, powered off; the caller then adds what it watches to
 * vm_loop(); vm_run() powers it on and runs the event loop on the calling thread
 * until the guest or the host ends it.  vm_stop() and vm_reset() may be called from
 * any thread and from loop callbacks, not from signal handlers.
 */
#ifndef VIREO_MACHINE_VM_H
#define VIREO_MACHINE_VM_H

#include "base/char_backend.h"
#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "mem/e820.h"

struct vm;
struct vcpu;
struct cpu_model;
struct engine_ops;
struct engine_config;
struct gpa_space;
struct virtio_device;

#define VM_SERIALS 2
#define VM_CPUS_MAX 64

enum vm_triple_fault {
	TRIPLE_FAULT_END,	/* vm_run() returns VM_EXIT_TRIPLE_FAULT */
	TRIPLE_FAULT_RESET,	/* the PC's answer: reset */
};

struct vm_config {
	uint64_t memory;		/* bytes, a multiple of 1 MiB, at least 1 MiB */
	unsigned int vcpus;		/* 0: 1 */
	unsigned int max_vcpus;		/* for vm_set_cpus(); 0: as many as vcpus */
	const struct cpu_model *model;	/* borrowed; its cpus is the larger of these */
	const struct engine_ops *engine;
	/* Copied; what it points to is borrowed.  NULL: all default. */
	const struct engine_config *engine_config;
	const char *keep_engine;	/* why vm_set_engine() is refused, a sentence; NULL: it is not */
	struct log *log;		/* borrowed; may be NULL */
	bool no_reboot;			/* a reset ends vm_run() with VM_EXIT_RESET */
	bool debug_exit;		/* give it an isa-debug-exit port */
	bool stay_off;			/* ... and a power-off or panic too leaves it off: vm_is_off() */
	bool virtio_mmio;		/* its virtio devices have pages of their own; else PCI */
	enum vm_triple_fault triple_fault;
	/*
	 * Puts the boot images into guest memory and the first vCPU's state in place;
	 * called with all vCPUs stopped and reset, at power-on and after every reset.
	 * NULL: the vCPU starts at the reset vector.
	 */
	int (*load)(void *arg, struct vm *vm, struct err *e);
	void *load_arg;
};

enum vm_exit {
	VM_EXIT_POWEROFF,	/* the guest powered off */
	VM_EXIT_RESET,		/* the guest reset and no_reboot is set */
	VM_EXIT_TRIPLE_FAULT,
	VM_EXIT_PANIC,		/* the guest said that it panicked */
	VM_EXIT_DEBUG,		/* debug exit port; status is the process's exit status */
	VM_EXIT_STOPPED,	/* vm_stop() */
	VM_EXIT_ERROR,		/* the host failed; the error was filled */
};

enum vm_watchdog { WATCHDOG_RESET, WATCHDOG_POWEROFF, WATCHDOG_PAUSE, WATCHDOG_NONE };

struct vm_result {
	enum vm_exit exit;
	unsigned int status;	/* VM_EXIT_DEBUG: (value << 1) | 1 */
};

int vm_create(struct vm **out, const struct vm_config *c, struct err *e);
/*
 * Connects COM1 (0) or COM2 (1), before vm_run(); the backend then belongs to the VM.
 * It lives on vm_loop().
 */
void vm_attach_serial(struct vm *vm, unsigned int index, struct char_backend *b);
/* As if the other end of it sent a break; on the loop's thread. */
void vm_serial_break(struct vm *vm, unsigned int index);
/*
 * Puts a device on the PCI bus, before vm_run() or on the loop's thread while it runs; it then
 * belongs to the VM, also where this fails.  It was made with vm_space() and vm_log().
 */
int vm_add_virtio(struct vm *vm, struct virtio_device *d, struct err *e);
/* The same; returns its PCI slot. */
int vm_plug_virtio(struct vm *vm, struct virtio_device *d, struct err *e);
/*
 * Asks the guest to let go of the device in @slot, which is destroyed once it has; a guest
 * without ACPI never does.  On the loop's thread.  -ENOENT.
 */
int vm_unplug_slot(struct vm *vm, unsigned int slot, struct err *e);
/*
 * Gives it a parallel port with @printer on it, before vm_run(); the printer, which lives on
 * vm_loop(), then belongs to the VM, also where this fails.
 */
int vm_add_printer(struct vm *vm, struct char_backend *printer, struct err *e);
/*
 * Gives it more processors, or asks the guest to let go of the last ones; also before vm_run().
 * A guest without ACPI sees it after its next reset.  On the loop's thread.  -EINVAL: more than
 * max_vcpus, or none.
 */
int vm_set_cpus(struct vm *vm, unsigned int n, struct err *e);
/* How many processors are there now. */
unsigned int vm_cpus(const struct vm *vm);
/* Nanoseconds of processor time that processes beside this one spent on its processors. */
uint64_t vm_others_ran(struct vm *vm);
/* Gives it a watchdog timer (i6300esb), before vm_run(). */
int vm_add_watchdog(struct vm *vm, enum vm_watchdog action, struct err *e);
/* vm_add_virtio() with a virtio-balloon, which vm_balloon() then gives. */
int vm_add_balloon(struct vm *vm, struct virtio_device *d, struct err *e);
/* For virtio/balloon.h's functions; NULL: there is none. */
struct virtio_device *vm_balloon(struct vm *vm);
/* Returns 0 with *r filled, or an error before anything ran or by VM_EXIT_ERROR. */
int vm_run(struct vm *vm, struct vm_result *r, struct err *e);
void vm_stop(struct vm *vm);
void vm_reset(struct vm *vm);
/* Presses the power button. */
void vm_power_button(struct vm *vm);
/*
 * Moves the VM to another engine, also while it runs: on the loop's thread, before vm_run()
 * or during it.  @c as in vm_config; NULL: what vm_create() was given.  After a failure the VM
 * goes on with the engine it has.  -ENOTSUP: the engine cannot have this VM.
 */
int vm_set_engine(struct vm *vm, const struct engine_ops *ops, const struct engine_config *c,
		  struct err *e);
/*
 * Stops the VM and its time, and lets both go on: no guest and no device sees a pause, but for
 * the wall clock; with KVM its processors' counters go on.  On the loop's thread, or before
 * vm_run(), which then waits; each may be repeated.
 */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
bool vm_is_paused(const struct vm *vm);
/* With vm_config.stay_off: it ended, is paused, and waits for a vm_reset() or vm_stop(). */
bool vm_is_off(const struct vm *vm);
/*
 * Who wants to hear what becomes of the VM, on the loop's thread.  VM_NEWS_RESET and
 * VM_NEWS_SHUTDOWN: by_host says if a vm_ function was the reason or the guest, exit how it ended.
 */
enum vm_news_kind {
	VM_NEWS_STOP, VM_NEWS_RESUME, VM_NEWS_RESET, VM_NEWS_POWERDOWN, VM_NEWS_PANIC,
	VM_NEWS_WATCHDOG, VM_NEWS_SHUTDOWN,
};
struct vm_news {
	enum vm_news_kind kind;
	bool by_host;
	enum vm_exit exit;
	enum vm_watchdog action;
};
struct vm_watcher {
	void (*told)(void *arg, const struct vm_news *news);
	void *arg;
	struct vm_watcher *next;
};
void vm_watch(struct vm *vm, struct vm_watcher *w);
void vm_unwatch(struct vm *vm, struct vm_watcher *w);
/*
 * For a debugger, on the loop's thread: stops the vCPUs, whatever the VM does meanwhile (a reset
 * among it), and lets them go.  Frozen vCPUs' state may be read and changed.  May be called
 * before vm_run(), to freeze them before their first instruction.
 */
void vm_freeze(struct vm *vm);
void vm_thaw(struct vm *vm);
/*
 * Stops the vCPUs for a look at them, on the loop's thread; what it returns vm_go_on() takes.
 * Their time goes on meanwhile, so do not look for long.
 */
bool vm_still(struct vm *vm);
void vm_go_on(struct vm *vm, bool ran);
/* Executes one instruction of a frozen vCPU, with the faults it may raise, no interrupts. */
void vm_step(struct vm *vm, unsigned int vcpu);
/*
 * While frozen: gives all vCPUs @d, which stays the caller's, or NULL, and forgets what they have
 * hit; also after each change of it.  When one hits something @hit is posted.
 */
struct debugger;
void vm_set_debugger(struct vm *vm, const struct debugger *d, struct loop_work *hit);
/*
 * Tells @tell what @vm's processors and its engine counted since vm_create(); a name is
 * constant only during the call.  On the loop's thread while the VM runs: values of about
 * now, each of another moment; exact after vm_run() has returned.
 */
void vm_counters(struct vm *vm, void (*tell)(void *arg, const char *name, uint64_t value),
		 void *arg);
/* After vm_run() has returned, or instead of it. */
void vm_destroy(struct vm *vm);

/* What loaders and front ends need. */
struct loop *vm_loop(struct vm *vm);
struct gpa_space *vm_space(struct vm *vm);
struct log *vm_log(struct vm *vm);	/* may be NULL */
struct clock *vm_clock(struct vm *vm);
struct vcpu *vm_vcpu(struct vm *vm, unsigned int index);
const char *vm_engine_name(const struct vm *vm);
uint64_t vm_memory_size(const struct vm *vm);
unsigned int vm_vcpu_count(const struct vm *vm);	/* those that may come among them */
/* The host's number of its thread; 0 before vm_run(). */
int vm_vcpu_thread(const struct vm *vm, unsigned int index);
const struct e820_map *vm_memory_map(const struct vm *vm);
/* Where the RSDP is: boot_params.acpi_rsdp_addr, hvm_start_info.rsdp_paddr. */
gpa_t vm_rsdp(const struct vm *vm);

#endif
