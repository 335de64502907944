// SPDX-License-Identifier: Apache-2.0
/*
 * A virtual machine's life: creation, power-on, events, end.  See vm.h.
 *
 * Devices and vCPU threads report events in a bit set; the loop's thread handles them
 * with all vCPUs stopped.
 */
#include "machine/vm_priv.h"

#include "cpu/cpuid.h"
#include "dev/acpi_pm.h"
#include "dev/i6300esb.h"
#include "dev/fw_cfg.h"
#include "dev/lapic.h"
#include "dev/uart16550.h"

#include <errno.h>
#include <stdlib.h>

/* --- events --- */

void vm_event(struct vm *vm, enum vm_event what)
{
	atomic_fetch_or(&vm->events, 1U << what);
	/* The guest runs no further than it must. */
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vcpu_attention(vm->vcpus[i].vcpu, ATTN_STOP);
	loop_post(vm->loop, &vm->event_work);
}

void vm_fail(struct vm *vm, const struct err *e)
{
	pthread_mutex_lock(&vm->gate_lock);
	if (!vm->err.code)
		vm->err = *e;
	pthread_mutex_unlock(&vm->gate_lock);
	vm_event(vm, EVENT_ERROR);
}

/* The power line of the devices; their locks may be held. */
static void power_line_event(void *sink, enum machine_event what, unsigned int value)
{
	static const enum vm_event event[] = {
		[MACHINE_POWEROFF] = EVENT_POWEROFF,
		[MACHINE_RESET] = EVENT_RESET,
		[MACHINE_TRIPLE_FAULT] = EVENT_TRIPLE_FAULT,
		[MACHINE_DEBUG_EXIT] = EVENT_DEBUG_EXIT,
		[MACHINE_PANIC] = EVENT_PANIC,
	};
	struct vm *vm = sink;

	if (what == MACHINE_DEBUG_EXIT)
		atomic_store(&vm->exit_status, value);
	vm_event(vm, event[what]);
}

/* --- power-on --- */

/* No firmware runs before a kernel that is booted directly; this is what it leaves behind. */
static void leave_as_firmware_does(struct vm *vm)
{
	const uint64_t enabled = BIT(11), fixed_enabled = BIT(10), write_back = 6;

	lapic_set_virtual_wire(vm->pc.bsp_lapic);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vm->vcpus[i].vcpu->mtrr_def_type = enabled | fixed_enabled | write_back;
}

/* Everything as after power-on, but for the RAM's contents; then the boot images. */
static int power_on(struct vm *vm, struct err *e)
{
	enum mem_result written;

	pc_reset(&vm->pc);
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		vcpu_reset(vm->vcpus[i].vcpu, false);
		/* All processors' time-stamp counters start together. */
		vm->vcpus[i].vcpu->tsc_offset = vm->vcpus[0].vcpu->tsc_offset;
		vm->vcpus[i].vcpu->tsc_boot_offset = vm->vcpus[0].vcpu->tsc_offset;
	}
	vm_power_on_cpus(vm);
	vm->paused_at = __builtin_ia32_rdtsc();	/* of use while paused */
	written = gpa_write(&vm->space, LAYOUT_ACPI, vm->acpi.data, vm->acpi.size);
	if (written != MEM_OK)
		return err_set(e, EFAULT, "could not write the ACPI tables to guest memory");
	if (!vm->config.load)
		return 0;
	leave_as_firmware_does(vm);
	return vm->config.load(vm->config.load_arg, vm, e);
}

/* The vCPUs stay where they are until it is reset. */
static void stay_off(struct vm *vm)
{
	vm->off = true;
	vm_pause(vm);
	vcpus_resume(vm);
}

static void end_run(struct vm *vm, enum vm_exit how, bool by_host)
{
	if (how == VM_EXIT_PANIC)
		vm_tell(vm, &(struct vm_news){ .kind = VM_NEWS_PANIC });
	vm_tell(vm, &(struct vm_news){ .kind = VM_NEWS_SHUTDOWN, .by_host = by_host, .exit = how });
	if (vm->config.stay_off &&
	    (how == VM_EXIT_POWEROFF || how == VM_EXIT_PANIC || how == VM_EXIT_RESET)) {
		stay_off(vm);
		return;
	}
	vm->result.exit = how;
	vm->result.status = atomic_load(&vm->exit_status);
	loop_quit(vm->loop);
}

static void fail_run(struct vm *vm)
{
	vm->failed = vm->err.code ? vm->err.code : -EIO;
	end_run(vm, VM_EXIT_ERROR, true);
}

static void reset_or_end(struct vm *vm)
{
	const bool by_host = atomic_exchange(&vm->reset_by_host, false);
	struct err e = { 0 };

	if (vm->config.no_reboot) {
		end_run(vm, VM_EXIT_RESET, by_host);
		return;
	}
	log_info(vm->log, by_host ? "the VM is reset" : "the guest resets");
	vm_tell(vm, &(struct vm_news){ .kind = VM_NEWS_RESET, .by_host = by_host });
	vm->off = false;
	if (power_on(vm, &e)) {
		vm->err = e;
		fail_run(vm);
		return;
	}
	vcpus_resume(vm);
}

/* On the loop's thread.  A run that goes on resumes the vCPUs, one that ends does not. */
static void handle_events(void *arg)
{
	struct vm *vm = arg;
	uint32_t events;

	if (!atomic_load(&vm->events))
		return;
	vcpus_pause(vm);
	/* Everything that came in until the last vCPU stood still. */
	events = atomic_exchange(&vm->events, 0);
	switch ((enum vm_event)__builtin_ctz(events)) {
	case EVENT_STOP:
		end_run(vm, VM_EXIT_STOPPED, true);
		break;
	case EVENT_ERROR:
		fail_run(vm);
		break;
	case EVENT_DEBUG_EXIT:
		end_run(vm, VM_EXIT_DEBUG, false);
		break;
	case EVENT_POWEROFF:
		end_run(vm, VM_EXIT_POWEROFF, false);
		break;
	case EVENT_PANIC:
		end_run(vm, VM_EXIT_PANIC, false);
		break;
	case EVENT_TRIPLE_FAULT:
		if (vm->config.triple_fault == TRIPLE_FAULT_END)
			end_run(vm, VM_EXIT_TRIPLE_FAULT, false);
		else
			reset_or_end(vm);
		break;
	case EVENT_RESET:
	case EVENT_COUNT:
		reset_or_end(vm);
		break;
	}
}

int vm_run(struct vm *vm, struct vm_result *r, struct err *e)
{
	int rc;

	rc = vcpus_start(vm, e);
	if (!rc)
		rc = power_on(vm, e);
	if (rc)
		goto out;
	if (!vm->paused)
		clock_start(&vm->clock);
	vcpus_resume(vm);
	rc = loop_run(vm->loop, e);
	clock_stop(&vm->clock);
	if (!rc && vm->failed) {
		rc = vm->failed;
		if (e)
			*e = vm->err;
	}
out:
	vcpus_join(vm);
	*r = vm->result;
	return rc;
}

void vm_stop(struct vm *vm)
{
	vm_event(vm, EVENT_STOP);
}

void vm_reset(struct vm *vm)
{
	atomic_store(&vm->reset_by_host, true);
	vm_event(vm, EVENT_RESET);
}

void vm_power_button(struct vm *vm)
{
	vm_tell(vm, &(struct vm_news){ .kind = VM_NEWS_POWERDOWN });
	acpi_pm_power_button(vm->pc.pm);
}

/* --- creation --- */

static void map_add(struct e820_map *m, uint64_t base, uint64_t end, uint32_t type)
{
	if (base < end)
		m->entry[m->count++] = (struct e820_entry){ base, end - base, type };
}

static void make_map(struct vm *vm)
{
	uint64_t memory = vm->config.memory, low_end = MIN(memory, LAYOUT_LOW_END);
	struct e820_map *m = &vm->map;

	map_add(m, 0, LAYOUT_EBDA, E820_RAM);
	map_add(m, LAYOUT_EBDA, LAYOUT_BASE_RAM_END, E820_RESERVED);
	map_add(m, LAYOUT_UPPER_RAM, LAYOUT_ACPI_END, E820_RESERVED);
	map_add(m, LAYOUT_ACPI_END, low_end, E820_RAM);
	map_add(m, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_SIZE, E820_RESERVED);
	map_add(m, LAYOUT_HIGH_RAM, LAYOUT_HIGH_RAM + memory - low_end, E820_RAM);
}

static int build_board(struct vm *vm, struct err *e)
{
	struct pc_config c = {
		.memory = vm->config.memory, .vcpus = vm->config.vcpus,
		.max_vcpus = vm->config.max_vcpus,
		.debug_exit = vm->config.debug_exit, .virtio_mmio = vm->config.virtio_mmio,
	};

	clock_gettime(CLOCK_REALTIME, &c.epoch);
	vm->pc.space = &vm->space;
	vm->pc.clock = &vm->clock;
	vm->pc.log = vm->log;
	vm->pc.msi = vm_msi_line(vm);
	vm_init_hotplug(vm);
	vm_init_cpu_hotplug(vm);
	vm->pc.power = (struct power_line){ .event = power_line_event, .sink = vm };
	return pc_build(&vm->pc, &c, e);
}

/* What a system asks of firmware: the tables in memory, and for real firmware by file. */
static int build_tables(struct vm *vm, struct err *e)
{
	int rc;

	make_map(vm);
	rc = acpi_build(&vm->acpi, vm->config.memory, vm->config.max_vcpus, vm->config.virtio_mmio, e);
	if (!rc)
		rc = fw_cfg_add_file(vm->pc.fw_cfg, "etc/e820", vm->map.entry,
				     vm->map.count * sizeof(vm->map.entry[0]), e);
	if (!rc)
		rc = fw_cfg_add_file(vm->pc.fw_cfg, "etc/acpi/rsdp", vm->acpi.data,
				     ACPI_RSDP_SIZE, e);
	if (!rc)
		rc = fw_cfg_add_file(vm->pc.fw_cfg, "etc/acpi/tables", vm->acpi.data,
				     vm->acpi.size, e);
	return rc;
}

static int build_engine(struct vm *vm, struct err *e)
{
	const struct engine_config *c = vm->config.engine_config;
	int rc;

	if (c)
		vm->engine_config = *c;	/* for the engines of later */
	rc = vm->config.engine->probe(e);
	if (rc)
		return rc;
	return vm->config.engine->create(&vm->engine, &vm->space, c ? c : &vm->engine_config,
					 vm->log, e);
}

int vm_create(struct vm **out, const struct vm_config *c, struct err *e)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int rc;

	if (!vm)
		return err_set(e, ENOMEM, "out of memory for a virtual machine");
	vm->config = *c;
	vm->cpus_wanted = vm->config.vcpus = MAX(c->vcpus, 1U);
	vm->config.max_vcpus = MAX(c->max_vcpus, vm->config.vcpus);
	vm->log = c->log;
	vm->event_work = (struct loop_work){ .run = handle_events, .arg = vm };
	pthread_mutex_init(&vm->gate_lock, NULL);
	pthread_cond_init(&vm->gate, NULL);
	pthread_rwlock_init(&vm->engine_lock, NULL);
	pthread_mutex_init(&vm->routes_lock, NULL);
	vm->engines = 1;
	clock_init(&vm->clock, false);
	clock_stop(&vm->clock);
	cpu_share_init(vm);
	profile_init(vm);
	rc = gpa_space_init(&vm->space, e);
	if (!rc)
		rc = loop_create(&vm->loop, &vm->clock, e);
	if (!rc)
		rc = pc_add_memory(&vm->space, c->memory, e);
	if (!rc)
		rc = build_board(vm, e);
	if (!rc)
		rc = build_tables(vm, e);
	if (!rc)
		rc = build_engine(vm, e);
	if (!rc)
		rc = vcpus_create(vm, e);
	if (!rc)
		vm_connect_apics(vm);
	if (rc) {
		vm_destroy(vm);
		return rc;
	}
	*out = vm;
	return 0;
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	for (unsigned int i = 0; i < VM_SERIALS; i++)
		if (vm->serial[i])
			vm->serial[i]->ops->destroy(vm->serial[i]);
	if (vm->printer)
		vm->printer->ops->destroy(vm->printer);
	pc_destroy(&vm->pc);
	vcpus_destroy(vm);
	if (vm->engine)
		vm->config.engine->destroy(vm->engine);
	cpu_share_destroy(vm);
	profile_destroy(vm);
	loop_destroy(vm->loop);
	gpa_space_destroy(&vm->space);
	clock_destroy(&vm->clock);
	acpi_image_free(&vm->acpi);
	pthread_mutex_destroy(&vm->routes_lock);
	pthread_rwlock_destroy(&vm->engine_lock);
	pthread_cond_destroy(&vm->gate);
	pthread_mutex_destroy(&vm->gate_lock);
	free(vm);
}

void vm_attach_serial(struct vm *vm, unsigned int index, struct char_backend *b)
{
	vm->serial[index] = b;
	uart16550_attach(vm->pc.uart[index], b);
}

void vm_serial_break(struct vm *vm, unsigned int index)
{
	const struct char_backend *b = vm->serial[index];

	if (b && b->front && b->front->line_break)
		b->front->line_break(b->front_dev);
}

int vm_add_printer(struct vm *vm, struct char_backend *printer, struct err *e)
{
	vm->printer = printer;
	return pc_add_parallel(&vm->pc, printer, e);
}

static void watchdog_pauses(void *arg)
{
	vm_pause(arg);
}

static void watchdog_bites(void *sink)
{
	struct vm *vm = sink;

	log_warn(vm->log, "the watchdog timer was not reset by the guest in time");
	vm_tell(vm, &(struct vm_news){ .kind = VM_NEWS_WATCHDOG, .action = vm->watchdog });
	switch (vm->watchdog) {
	case WATCHDOG_RESET:
		vm_event(vm, EVENT_RESET);
		break;
	case WATCHDOG_POWEROFF:
		vm_event(vm, EVENT_POWEROFF);
		break;
	case WATCHDOG_PAUSE:
		/* Not from here: the clock is in the middle of its timers. */
		loop_post(vm->loop, &vm->watchdog_work);
		break;
	case WATCHDOG_NONE:
		break;
	}
}

int vm_add_watchdog(struct vm *vm, enum vm_watchdog action, struct err *e)
{
	const struct watchdog_wire bite = { .bite = watchdog_bites, .sink = vm };

	vm->watchdog = action;
	vm->watchdog_work = (struct loop_work){ .run = watchdog_pauses, .arg = vm };
	return pc_add_watchdog(&vm->pc, &bite, e);
}

int vm_add_balloon(struct vm *vm, struct virtio_device *d, struct err *e)
{
	const int slot = vm_plug_virtio(vm, d, e);

	if (slot < 0)
		return slot;
	vm->balloon = d;
	vm->balloon_slot = slot;
	return 0;
}

struct virtio_device *vm_balloon(struct vm *vm)
{
	return vm->balloon;
}

/* --- counters --- */

static void vcpu_counters(const struct vcpu *v, counter_fn *tell, void *arg)
{
	const struct vcpu_stats *s = &v->stats;
	uint64_t exceptions = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(s->exceptions); i++)
		exceptions += stat_get(&s->exceptions[i]);
	tell(arg, "exceptions", exceptions);
	tell(arg, "page faults", stat_get(&s->exceptions[EXC_PF]));
	tell(arg, "interrupts", stat_get(&s->interrupts));
	tell(arg, "halts", stat_get(&s->halts));
	tell(arg, "port accesses", stat_get(&s->pio));
	tell(arg, "device memory accesses", stat_get(&s->mmio));
	tell(arg, "TLB fills", stat_get(&s->tlb_fills));
	tell(arg, "TLB flushes", stat_get(&s->tlb_flushes));
	tell(arg, "page walks", stat_get(&s->page_walks));
}

void vm_counters(struct vm *vm, counter_fn *tell, void *arg)
{
	const struct engine_ops *ops = vm->config.engine;

	tell(arg, "interrupts by file descriptor", atomic_load(&vm->routed));
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		vcpu_counters(vm->vcpus[i].vcpu, tell, arg);
		if (ops->counters)
			ops->counters(vm->engine, vm->vcpus[i].vcpu, tell, arg);
	}
}

/* --- what others need --- */

struct loop *vm_loop(struct vm *vm)
{
	return vm->loop;
}

struct gpa_space *vm_space(struct vm *vm)
{
	return &vm->space;
}

struct log *vm_log(struct vm *vm)
{
	return vm->log;
}

struct clock *vm_clock(struct vm *vm)
{
	return &vm->clock;
}

struct vcpu *vm_vcpu(struct vm *vm, unsigned int index)
{
	return index < vm->vcpu_count ? vm->vcpus[index].vcpu : NULL;
}

const char *vm_engine_name(const struct vm *vm)
{
	return vm->config.engine->name;
}

uint64_t vm_memory_size(const struct vm *vm)
{
	return vm->config.memory;
}

unsigned int vm_vcpu_count(const struct vm *vm)
{
	return vm->vcpu_count;
}

int vm_vcpu_thread(const struct vm *vm, unsigned int index)
{
	return index < vm->vcpu_count ? atomic_load(&vm->vcpus[index].tid) : 0;
}

const struct e820_map *vm_memory_map(const struct vm *vm)
{
	return &vm->map;
}

gpa_t vm_rsdp(const struct vm *vm)
{
	(void)vm;
	return LAYOUT_ACPI;
}
