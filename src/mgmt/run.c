// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo run`: one VM in the foreground, its first serial port on this terminal (or on
 * stdin and stdout), the log on stderr.
 */
#include "base/char_fd.h"
#include "boot/boot.h"
#include "cpu/cpuid.h"
#include "machine/vm.h"
#include "mgmt/command.h"
#include "mgmt/control.h"
#include "mgmt/escape.h"
#include "mgmt/gdb.h"
#include "mgmt/monitor.h"
#include "mgmt/qmp.h"
#include "engine/config.h"
#include "mgmt/run_char.h"
#include "mgmt/run_devices.h"
#include "mgmt/run_options.h"
#include "mgmt/run_command.h"
#include "mgmt/run_priv.h"
#include "mgmt/run_root.h"
#include "mgmt/status.h"
#include "mgmt/terminal.h"
#include "mgmt/vm_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run {
	struct run_options options;
	struct run_root root;
	struct log log;
	struct boot_file kernel, initrd;
	struct cpu_model model;
	const struct engine_ops *engine;
	const char *why_engine;
	struct vm *vm;
	struct boot_plan *plan;
	struct run_disks *disks;
	struct run_nets *nets;
	struct run_chars *chars;
	struct terminal *terminal;	/* NULL: stdin is none */
	struct control *control;	/* NULL: it has no name */
	struct gdb *gdb;		/* NULL: no --gdb */
	struct qmp *qmp;		/* NULL: no --qmp */
	struct monitor_server *monitor;	/* NULL: no --monitor */
	struct escape escape;
	bool stdio;			/* COM1 is here */
	struct char_backend *console;	/* the VM's; NULL: COM1 is elsewhere */
	const char *stopped_by;		/* who called vm_stop() */
	char *stats;			/* of --stats, or NULL */
};

/* --- the guest --- */

static int load(void *arg, struct vm *vm, struct err *e)
{
	struct run *r = arg;

	if (r->options.nothing_to_boot)
		return boot_nothing(vm_space(vm), vm_vcpu(vm, 0), e);
	return boot_enter(r->plan, vm_space(vm), vm_vcpu(vm, 0), e);
}

static int read_images(struct run *r, struct err *e)
{
	int rc;

	if (r->options.nothing_to_boot)
		return 0;
	rc = boot_file_open(&r->kernel, r->options.kernel, "kernel", e);
	if (!rc)
		rc = boot_file_load(&r->kernel, "kernel", e);
	if (!rc && r->options.initrd)
		rc = boot_file_open(&r->initrd, r->options.initrd, "initrd", e);
	return rc;
}

static int plan_boot(struct run *r, struct err *e)
{
	const struct boot_request rq = {
		.kernel = r->kernel, .initrd = r->initrd, .cmdline = r->options.cmdline,
		.rsdp = vm_rsdp(r->vm), .map = vm_memory_map(r->vm),
	};
	int rc;

	if (r->options.nothing_to_boot)
		return 0;
	rc = boot_prepare(&r->plan, &rq, e);
	boot_file_unload(&r->kernel);	/* at power-on and resets it is read again */
	return rc;
}

static int make_vm(struct run *r, struct err *e)
{
	const struct engine_config engine = {
		.translate = r->options.translate, .lockstep = r->options.lockstep,
		.translator_no = r->options.translator_no,
		.cache_bytes = r->options.cache, .windows = r->options.windows,
		.direct = r->options.direct,
		.perf_map = r->options.perf_map, .trace = r->options.trace,
	};
	const struct vm_config c = {
		.memory = r->options.memory, .vcpus = r->options.cpus,
		.max_vcpus = r->options.max_cpus, .model = &r->model, .engine = r->engine,
		.engine_config = &engine,
		.log = &r->log, .no_reboot = r->options.no_reboot,
		.stay_off = r->options.stay_off, .triple_fault = r->options.triple_fault,
		.debug_exit = r->options.debug_exit, .virtio_mmio = r->options.virtio_mmio,
		.load = load, .load_arg = r,
		.keep_engine = run_engine_stays(&r->options, engine_is_kvm(r->engine)),
	};
	int rc;

	rc = vm_create(&r->vm, &c, e);
	if (!rc)
		rc = vm_set_cpu_limits(r->vm, &r->options.limits, e);
	for (unsigned int i = 0; !rc && i < vm_vcpu_count(r->vm); i++)
		rc = vm_set_vcpu_limits(r->vm, i, &r->options.vcpu[i], e);
	return rc;
}

/* KVM may refuse what the other engine can do, a processor model for one. */
static int make_some_vm(struct run *r, struct err *e)
{
	int rc = make_vm(r, e);

	if (rc != -ENOTSUP || !engine_fall_back(&r->engine, &r->why_engine, r->options.engine))
		return rc;
	log_warn(&r->log, "%s", e->text);
	return make_vm(r, e);
}

/* --- the console --- */

static void stop(struct run *r, const char *by)
{
	r->stopped_by = by;
	vm_stop(r->vm);
}

static void escape_act(void *arg, enum escape_action what)
{
	struct run *r = arg;

	switch (what) {
	case ESCAPE_END:
		stop(r, "the escape key");
		break;
	case ESCAPE_POWER:
		vm_power_button(r->vm);
		break;
	case ESCAPE_RESET:
		vm_reset(r->vm);
		break;
	case ESCAPE_BREAK:
		vm_serial_break(r->vm, 0);
		break;
	case ESCAPE_HELP:
		escape_print_help(&r->escape, r->log.out);
		break;
	}
}

static void caught(void *arg, int signo)
{
	stop(arg, strsignal(signo));
}

/* Is @fd open, so that it can be a console? */
static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int take_terminal(struct run *r, struct err *e)
{
	const int rc = terminal_open(&r->terminal, STDIN_FILENO, r->options.terminal_signals, e);

	if (!rc)
		r->log.out = terminal_stderr(r->terminal);
	return rc;
}

/*
 * A terminal is made raw; a pipe or file is fed to the guest as it is; a terminal that
 * belongs to another job is left alone.
 */
static int open_console(struct run *r, struct err *e)
{
	const bool tty = isatty(STDIN_FILENO);
	struct char_fd_config c = {
		.in = is_open(STDIN_FILENO) ? STDIN_FILENO : -1,
		.out = is_open(STDOUT_FILENO) ? STDOUT_FILENO : -1,
	};
	int rc;

	if (r->options.trace)	/* stdout is for what it shows */
		c.in = c.out = -1;
	if (tty && !terminal_usable(STDIN_FILENO))
		c.in = -1;
	if (tty && c.in >= 0) {
		r->escape = (struct escape){ .key = r->options.escape_key, .act = escape_act,
					     .arg = r };
		c.filter = escape_filter;
		c.arg = &r->escape;
	}
	rc = char_fd_create(&r->console, vm_loop(r->vm), &c, e);
	if (rc)
		return rc;
	vm_attach_serial(r->vm, 0, r->console);
	return c.filter ? take_terminal(r, e) : 0;
}

/* Somebody else than COM1, who is not only for programs, may have the terminal. */
static bool wants_terminal(const struct run_options *o)
{
	for (unsigned int i = 0; i < o->serial_count; i++)
		if (run_char_is_stdio(o, o->serial[i]))
			return true;
	for (unsigned int i = 0; i < o->monitor_count; i++)
		if (run_char_is_stdio(o, o->monitor[i]))
			return true;
	for (unsigned int i = 0; i < o->console_count; i++)
		if (!strncmp(o->console[i], "at=", 3) && run_char_is_stdio(o, o->console[i] + 3))
			return true;
	return false;
}

static void say_how_it_starts(struct run *r)
{
	char key[8];

	log_info(&r->log, "%s", r->why_engine);
	log_info(&r->log, "%llu MiB, %u processor%s %s; %s: %s",
		 (unsigned long long)r->options.memory >> 20, r->options.cpus,
		 r->options.cpus == 1 ? "" : "s", r->model.name,
		 r->plan ? r->options.kernel : "no kernel", r->plan ? boot_plan_format(r->plan) : "it stands still");
	if (isatty(STDIN_FILENO) && r->options.escape_key != ESCAPE_NONE) {
		escape_key_name(r->options.escape_key, key);
		log_info(&r->log, "%s then . ends the VM, %s then ? shows the other keys", key, key);
	}
}

static void say_how_it_ended(struct run *r, int status, const struct vm_result *result)
{
	const struct run_events *events = r->options.events;
	enum log_level level = LOG_WARN;
	char how[128];

	switch (result->exit) {
	case VM_EXIT_POWEROFF:
		level = LOG_INFO;
		snprintf(how, sizeof(how), "the guest powered off");
		break;
	case VM_EXIT_DEBUG:
		level = LOG_INFO;
		snprintf(how, sizeof(how), "the guest ended through the debug-exit port, status %d",
			 status);
		break;
	case VM_EXIT_STOPPED:
		snprintf(how, sizeof(how), "ended by %s", r->stopped_by ? r->stopped_by : "request");
		break;
	default:
		snprintf(how, sizeof(how), "%s", status_meaning(status));
		break;
	}
	log_print(&r->log, level, "%s", how);
	if (r->log.json)
		fprintf(stderr, "{\"end\":\"%s\",\"status\":%d}\n", how, status);
	if (events)
		events->ended(events->arg, status, how);
}

/* --- the whole --- */

static int prepare(struct run *r, struct err *e)
{
	int rc;

	rc = run_root_prepare(&r->root, &r->options, e);
	if (!rc)
		rc = run_boot_beside(&r->options, e);
	if (!rc)
		rc = run_options_check(&r->options, e);
	if (!rc && r->options.gdb)
		r->options.engine = ENGINE_SOFT;	/* KVM's vCPUs know nothing of a debugger */
	if (!rc)
		rc = engine_choose(&r->engine, &r->why_engine, r->options.engine, e);
	if (!rc)
		rc = cpu_model_init(&r->model, r->options.cpu, e);
	r->model.cpus = MAX(r->options.cpus, r->options.max_cpus);
	if (!rc)
		rc = read_images(r, e);
	return rc ? STATUS_USAGE : 0;
}

/* Whoever can be asked of the VM, or told what to do with it. */
static int open_servers(struct run *r, struct err *e)
{
	const struct run_options *o = &r->options;
	const struct vm_access at = { .vm = r->vm, .disks = r->disks, .nets = r->nets,
				      .chars = r->chars, .options = o };

	if (o->name && control_create(&r->control, &at, e))
		return STATUS_HOST;
	if ((o->gdb && gdb_create(&r->gdb, r->vm, o->gdb, o->gdb_wait, e)) ||
	    (o->monitor_count && monitor_create(&r->monitor, &at, e)) ||
	    (o->qmp_count && qmp_create(&r->qmp, &at, e)))
		return STATUS_USAGE;
	if (o->paused)
		vm_pause(r->vm);
	return 0;
}

static int start(struct run *r, struct err *e)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	int rc;

	if (make_some_vm(r, e))
		return STATUS_HOST;
	if (run_add_disks(&r->disks, r->vm, &r->options, e))
		return STATUS_USAGE;
	if (run_add_nets(&r->nets, r->vm, &r->options, e))
		return STATUS_HOST;
	if (run_chars_create(&r->chars, r->vm, &r->options, e) ||
	    run_add_consoles(r->vm, r->chars, &r->options, e) ||
	    run_add_shares(r->vm, &r->options, e) ||
	    run_add_balloon(r->vm, &r->options, e) ||
	    run_add_vsock(r->vm, &r->options, e) ||
	    run_add_printer(r->vm, &r->options, e) ||
	    run_add_serials(r->vm, r->chars, &r->options, &r->stdio, e) ||
	    (r->options.watchdog && vm_add_watchdog(r->vm, r->options.watchdog_action, e)) || plan_boot(r, e))
		return STATUS_USAGE;
	rc = open_servers(r, e);
	if (rc)
		return rc;
	if (r->options.vm)
		*r->options.vm = r->vm;
	say_how_it_starts(r);
	signal(SIGPIPE, SIG_IGN);
	if (loop_watch_signals(vm_loop(r->vm), signals, ARRAY_SIZE(signals), caught, r, e) ||
	    (r->stdio && open_console(r, e)))
		return STATUS_HOST;
	if (!r->stdio && wants_terminal(&r->options) && terminal_usable(STDIN_FILENO) &&
	    take_terminal(r, e))
		return STATUS_HOST;
	return 0;
}

static void print_counter(void *arg, const char *name, uint64_t value)
{
	fprintf(arg, "%15llu  %s\n", (unsigned long long)value, name);
}

/* Kept as text until the VM is gone and the terminal is as it was. */
static void take_stats(struct run *r)
{
	size_t size;
	FILE *f = r->options.stats ? open_memstream(&r->stats, &size) : NULL;

	if (!f)
		return;
	vm_counters(r->vm, print_counter, f);
	fclose(f);
}

/* Also after a failure anywhere: whatever exists goes. */
static void finish(struct run *r)
{
	run_chars_free(r->chars);
	gdb_destroy(r->gdb);
	qmp_destroy(r->qmp);
	monitor_destroy(r->monitor);
	control_destroy(r->control);
	if (r->vm)
		vm_destroy(r->vm);	/* sends out what the guest printed last */
	run_disks_free(r->disks);
	run_nets_free(r->nets);
	terminal_close(r->terminal);
	r->log.out = stderr;
	boot_plan_free(r->plan);
	boot_file_free(&r->kernel);
	run_boot_free(&r->options);
	run_root_free(&r->root);
	boot_file_free(&r->initrd);
}

static int run_here(void *arg)
{
	const struct run_options *o = arg;
	struct vm_result result = { .exit = VM_EXIT_ERROR };
	struct err e = { 0 };
	struct run r = { .options = *o };
	int status;

	log_init(&r.log, r.options.log_level, stderr);
	r.log.json = command_json();
	status = prepare(&r, &e);
	if (!status)
		status = start(&r, &e);
	if (!status && run_sandbox_enter(r.vm, r.disks, &r.options, engine_is_kvm(r.engine), &r.log, &e))
		status = STATUS_HOST;
	if (!status && o->events)
		o->events->runs(o->events->arg);
	if (!status && vm_run(r.vm, &result, &e))
		status = STATUS_HOST;
	if (!status)
		take_stats(&r);
	finish(&r);
	if (status && o->events)
		o->events->fails(o->events->arg, &e);
	if (status)
		return command_fail(&e, status);
	status = status_of_vm(&result);
	say_how_it_ended(&r, status, &result);
	if (r.stats)
		fputs(r.stats, stderr);
	free(r.stats);
	return status;
}

int run_vm(const struct run_options *o)
{
	struct jail_limits limits = o->jail_limits;
	struct err e = { 0 };
	int status;

	if (!o->jail && !jail_limits_set(&o->jail_limits))
		return run_here((void *)o);
	if (run_limit_devices(&limits, o, &e))
		status = e.code;
	else
		status = jail_run(o->jail, &limits, run_here, (void *)o, &e);
	if (status >= 0)
		return status;
	if (o->events)
		o->events->fails(o->events->arg, &e);
	return command_fail(&e, e.code == -EINVAL ? STATUS_USAGE : STATUS_HOST);
}

/* `vireo run IMAGE -- COMMAND`, whose log is only for what goes wrong. */
static int run_words(struct run_options *o, char **words)
{
	const char *term = getenv("TERM");
	char text[128] = "TERM=linux", *environment[] = { text, NULL };
	const struct session s = {
		.words = words, .environment = environment, .folder = "",
		.in = STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO,
	};

	if (term)
		snprintf(text, sizeof(text), "TERM=%.100s", term);
	if (o->log_level == LOG_INFO)
		o->log_level = LOG_WARN;
	return run_command(o, &s);
}

int run_main(const struct command *c, int argc, char **argv)
{
	char **words = command_words(&argc, argv);
	const char *image = NULL;
	struct run_options o;
	struct err e = { 0 };
	unsigned int count;
	int rc;

	run_options_init(&o);
	rc = options_parse_many(c, argc, argv, &o, &image, 1, &count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc && image && o.root)
		rc = err_set(&e, EINVAL, "the image is named twice, as '%.200s' and with --root", image);
	o.root = image ? image : o.root;
	if (!rc && words && (!words[0] || !o.root))
		rc = err_set(&e, EINVAL, words[0] ? "a command needs an image to run in: vireo run IMAGE -- COMMAND" :
			     "no command comes after --");
	if (!rc && o.throw_away && !o.root)
		rc = err_set(&e, EINVAL, "--rm throws away what is changed in an image: vireo run --rm IMAGE");
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	return words ? run_words(&o, words) : run_vm(&o);
}
