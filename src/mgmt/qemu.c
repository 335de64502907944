// SPDX-License-Identifier: Apache-2.0
/*
 * The QEMU personality; see qemu.h.  One row an option; what cannot be had here is an error that
 * names it, what makes no difference to a guest is taken and does nothing.  There is no firmware:
 * a guest is booted by -kernel, or from beside its first disk.
 *
 * Source: QEMU's documentation, "Invocation".
 */
#include "mgmt/qemu.h"
#include "machine/vm.h"
#include "mgmt/command.h"
#include "mgmt/kvm_probe.h"
#include "mgmt/qemu_priv.h"
#include "mgmt/run_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION_TEXT	"QEMU emulator version 7.2.0 (Vireo " VIREO_VERSION ")"
#define PROGRAM		"qemu-system-x86_64"

bool qemu_is_name(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');

	return !strcmp(slash ? slash + 1 : argv0, PROGRAM);
}

/* --- options that are more than a word --- */

static int set_memory(struct qemu *q, const char *value, struct err *e)
{
	char size[64];

	if (!qemu_value(value, "size", size, sizeof(size)) && !qemu_value(value, "", size, sizeof(size)))
		return err_set(e, EINVAL, "-m %s: no size is given", value);
	return qemu_push(q, e, "--memory", "%s", size);
}

static int set_smp(struct qemu *q, const char *value, struct err *e)
{
	char count[64];

	if (!qemu_value(value, "cpus", count, sizeof(count)) &&
	    !qemu_value(value, "", count, sizeof(count)))
		return err_set(e, EINVAL, "-smp %s: no number of processors is given", value);
	return qemu_push(q, e, "--cpus", "%s", count);
}

/* "kvm", "kvm:tcg", or as -accel has it "kvm,...". */
static int set_accel(struct qemu *q, const char *value, struct err *e)
{
	char copy[256], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%.*s", (int)strcspn(value, ","), value);
	if (!strncmp(copy, "accel=", 6))
		rest += 6;
	while ((name = strsep(&rest, ":"))) {
		if (strcmp(name, "kvm") && strcmp(name, "tcg"))
			return err_set(e, EINVAL, "invalid accelerator %s", name);
		q->kvm |= !strcmp(name, "kvm");
		q->tcg |= !strcmp(name, "tcg");
	}
	return 0;
}

static int set_machine(struct qemu *q, const char *value, struct err *e)
{
	static const char *const types[] = { "pc", "q35", "microvm", "pc-i440fx-", "pc-q35-" };
	char type[64] = "pc", accel[64];
	bool known = false;
	int rc;

	if (!qemu_value(value, "type", type, sizeof(type)))
		qemu_value(value, "", type, sizeof(type));
	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++)
		known |= i < 3 ? !strcmp(type, types[i]) : !strncmp(type, types[i], strlen(types[i]));
	if (!known)
		return err_set(e, EINVAL, "unsupported machine type: '%s'; there are pc, q35, microvm", type);
	rc = qemu_check_keys("-machine", value, "type accel graphics usb kernel_irqchip kernel-irqchip smm "
			     "vmport mem-merge dump-guest-core hpet acpi pic pit rtc isa-serial "
			     "x-option-roms auto-kernel-cmdline memory-backend pcie virt", e);
	q->microvm = !strcmp(type, "microvm");
	if (!rc && qemu_value(value, "accel", accel, sizeof(accel)))
		rc = set_accel(q, accel, e);
	return rc;
}

static int set_kvm(struct qemu *q, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	q->kvm = true;
	return 0;
}

/* tcp::PORT, tcp:HOST:PORT, unix:PATH, each with ,server... behind it. */
static int set_gdb(struct qemu *q, const char *value, struct err *e)
{
	char where[256];

	q->gdb = value ? value : "tcp::1234";
	snprintf(where, sizeof(where), "%.*s", (int)strcspn(q->gdb, ","), q->gdb);
	return qemu_push(q, e, "--gdb", "%s", strncmp(where, "tcp::", 5) ? where : where + 5);
}

/* Where a server's clients come: a unix socket; QEMU waits for the first unless told not to. */
static int add_server(struct qemu *q, const char *option, const char *ours, const char *value,
		      struct err *e)
{
	char path[256], wait[16] = "on";

	if (strncmp(value, "unix:", 5) || !strstr(value, ",server"))
		return err_set(e, EINVAL, "%s %s: there is unix:PATH,server=on[,wait=off] here", option,
			       value);
	qemu_value(value + 5, "", path, sizeof(path));
	qemu_value(value + 5, "wait", wait, sizeof(wait));
	if (strstr(value, ",nowait"))
		strcpy(wait, "off");
	return qemu_push(q, e, ours, "unix:%s,wait=%s", path, wait);
}

static int set_qmp(struct qemu *q, const char *value, struct err *e)
{
	q->qmp = value;
	return add_server(q, "-qmp", "--qmp", value, e);
}

static int set_monitor(struct qemu *q, const char *value, struct err *e)
{
	if (!strcmp(value, "none") || !strcmp(value, "null"))
		return 0;
	q->monitor = value;
	return add_server(q, "-monitor", "--monitor", value, e);
}

static int set_net(struct qemu *q, const char *value, struct err *e)
{
	q->net_given = true;
	/* -net nic is the card of -net user; -nic and -net none are none. */
	if (!strcmp(value, "none") || !strncmp(value, "nic", 3))
		return 0;
	return qemu_keep(&q->netdevs, "-nic", value, e);
}

static int set_netdev(struct qemu *q, const char *value, struct err *e)
{
	q->net_given = true;
	return qemu_keep(&q->netdevs, "-netdev", value, e);
}

static int set_rtc(struct qemu *q, const char *value, struct err *e)
{
	char base[64] = "utc";

	(void)q;
	qemu_value(value, "base", base, sizeof(base));
	if (strcmp(base, "utc"))
		return err_set(e, EINVAL, "-rtc base=%s: the clock here is the host's, base=utc", base);
	return qemu_check_keys("-rtc", value, "base clock driftfix", e);
}

static int set_object(struct qemu *q, const char *value, struct err *e)
{
	static const char *const harmless[] = {
		"rng-random", "rng-builtin", "memory-backend-ram", "memory-backend-memfd",
		"memory-backend-file", "iothread",
	};
	char kind[64] = "";

	(void)q;
	qemu_value(value, "", kind, sizeof(kind));
	for (unsigned int i = 0; i < ARRAY_SIZE(harmless); i++)
		if (!strcmp(kind, harmless[i]))
			return 0;
	return err_set(e, EINVAL, "-object %s: there is no '%s' here", value, kind);
}

static int set_watchdog(struct qemu *q, const char *value, struct err *e)
{
	if (strcmp(value, "i6300esb"))
		return err_set(e, EINVAL, "-watchdog %s: there is i6300esb here", value);
	q->watchdog = true;
	return 0;
}

static int set_display(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	if (strncmp(value, "none", 4))
		return err_set(e, EINVAL, "-display %s: there is no display here, only none", value);
	return 0;
}

/* --- the table --- */

enum what { FLAG, TEXT, WORD, BARE, KEEP, CALL, IGNORE };

#define FIELD(f)	offsetof(struct qemu, f)

/*
 * FLAG, TEXT, KEEP: a field is set, set to the value, gets one more.  WORD, BARE: an option of ours
 * with the value, without.  CALL: @set.  IGNORE: makes no difference here.
 */
static const struct qemu_option {
	const char *name;
	bool takes;		/* a value */
	enum what what;
	size_t field;
	const char *ours;
	int (*set)(struct qemu *q, const char *value, struct err *e);
} options[] = {
	{ .name = "accel", .takes = true, .what = CALL, .set = set_accel },
	{ .name = "action", .takes = true, .what = IGNORE },
	{ .name = "append", .takes = true, .what = WORD, .ours = "--cmdline" },
	{ .name = "bios", .takes = true, .what = IGNORE },
	{ .name = "blockdev", .takes = true, .what = KEEP, .field = FIELD(drives) },
	{ .name = "boot", .takes = true, .what = IGNORE },
	{ .name = "chardev", .takes = true, .what = KEEP, .field = FIELD(chardevs) },
	{ .name = "cpu", .takes = true, .what = TEXT, .field = FIELD(cpu) },
	{ .name = "daemonize", .what = FLAG, .field = FIELD(daemonize) },
	{ .name = "device", .takes = true, .what = KEEP, .field = FIELD(devices) },
	{ .name = "display", .takes = true, .what = CALL, .set = set_display },
	{ .name = "drive", .takes = true, .what = KEEP, .field = FIELD(drives) },
	{ .name = "enable-kvm", .what = CALL, .set = set_kvm },
	{ .name = "fsdev", .takes = true, .what = KEEP, .field = FIELD(fsdevs) },
	{ .name = "gdb", .takes = true, .what = CALL, .set = set_gdb },
	{ .name = "global", .takes = true, .what = IGNORE },
	{ .name = "initrd", .takes = true, .what = WORD, .ours = "--initrd" },
	{ .name = "kernel", .takes = true, .what = WORD, .ours = "--kernel" },
	{ .name = "L", .takes = true, .what = IGNORE },
	{ .name = "m", .takes = true, .what = CALL, .set = set_memory },
	{ .name = "M", .takes = true, .what = CALL, .set = set_machine },
	{ .name = "machine", .takes = true, .what = CALL, .set = set_machine },
	{ .name = "monitor", .takes = true, .what = CALL, .set = set_monitor },
	{ .name = "msg", .takes = true, .what = IGNORE },
	{ .name = "name", .takes = true, .what = TEXT, .field = FIELD(name) },
	{ .name = "net", .takes = true, .what = CALL, .set = set_net },
	{ .name = "netdev", .takes = true, .what = CALL, .set = set_netdev },
	{ .name = "nic", .takes = true, .what = CALL, .set = set_net },
	{ .name = "no-hpet", .what = IGNORE },
	{ .name = "no-reboot", .what = BARE, .ours = "--no-reboot" },
	{ .name = "no-shutdown", .what = FLAG, .field = FIELD(no_shutdown) },
	{ .name = "no-user-config", .what = IGNORE },
	{ .name = "nodefaults", .what = FLAG, .field = FIELD(no_defaults) },
	{ .name = "nographic", .what = FLAG, .field = FIELD(nographic) },
	{ .name = "object", .takes = true, .what = CALL, .set = set_object },
	{ .name = "overcommit", .takes = true, .what = IGNORE },
	{ .name = "parallel", .takes = true, .what = IGNORE },
	{ .name = "pidfile", .takes = true, .what = TEXT, .field = FIELD(pidfile) },
	{ .name = "print", .what = FLAG, .field = FIELD(print) },
	{ .name = "qmp", .takes = true, .what = CALL, .set = set_qmp },
	{ .name = "rtc", .takes = true, .what = CALL, .set = set_rtc },
	{ .name = "s", .what = CALL, .set = set_gdb },
	{ .name = "S", .what = FLAG, .field = FIELD(stopped) },
	{ .name = "serial", .takes = true, .what = KEEP, .field = FIELD(serials) },
	{ .name = "smp", .takes = true, .what = CALL, .set = set_smp },
	{ .name = "snapshot", .what = FLAG, .field = FIELD(snapshot) },
	{ .name = "uuid", .takes = true, .what = TEXT, .field = FIELD(uuid) },
	{ .name = "vga", .takes = true, .what = IGNORE },
	{ .name = "virtfs", .takes = true, .what = KEEP, .field = FIELD(fsdevs) },
	{ .name = "watchdog", .takes = true, .what = CALL, .set = set_watchdog },
	{ .name = "watchdog-action", .takes = true, .what = TEXT, .field = FIELD(watchdog_action) },
};

static int take(struct qemu *q, const struct qemu_option *o, const char *value, struct err *e)
{
	char *field = (char *)q + o->field;

	switch (o->what) {
	case FLAG:
		*(bool *)field = true;
		return 0;
	case TEXT:
		*(const char **)field = value;
		return 0;
	case KEEP:
		return qemu_keep((struct qemu_items *)field, o->name, value, e);
	case WORD:
		q->kernel |= !strcmp(o->name, "kernel");
		return qemu_push(q, e, o->ours, "%s", value);
	case BARE:
		return qemu_push(q, e, o->ours, NULL);
	case CALL:
		return o->set(q, value, e);
	case IGNORE:
		break;
	}
	return 0;
}

static int parse_one(struct qemu *q, int argc, char **argv, int *at, struct err *e)
{
	const char *name = argv[*at];

	if (name[0] != '-')
		return err_set(e, EINVAL, "%s: there is no IDE disk here: -drive if=virtio,file=%s", name,
			       name);
	name += 1 + (name[1] == '-');
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++) {
		const struct qemu_option *o = &options[i];

		if (strcmp(o->name, name))
			continue;
		if (o->takes && *at + 1 == argc)
			return err_set(e, EINVAL, "-%s: requires an argument", name);
		return take(q, o, o->takes ? argv[++*at] : NULL, e);
	}
	return err_set(e, EINVAL, "%s: invalid option", argv[*at]);
}

/* --- processor and engine --- */

static int choose_cpu(struct qemu *q, struct err *e)
{
	static const char *const ours[] = { "vireo-v1", "vireo-v0" };
	char model[64] = "qemu64";

	if (q->cpu)
		snprintf(model, sizeof(model), "%.*s", (int)strcspn(q->cpu, ","), q->cpu);
	if (!strcmp(model, "qemu64") || !strcmp(model, "kvm64"))
		return 0;
	if (!strcmp(model, "host") && !q->kvm && !getenv("VIREO_ENGINE"))
		return err_set(e, EINVAL, "CPU model 'host' requires KVM");
	if (!strcmp(model, "max") || !strcmp(model, "host"))
		return qemu_push(q, e, "--cpu", "host");
	for (unsigned int i = 0; i < ARRAY_SIZE(ours); i++)
		if (!strcmp(model, ours[i]))
			return qemu_push(q, e, "--cpu", "%s", model);
	return err_set(e, EINVAL, "unable to find CPU model '%s'; there are qemu64, max, host, vireo-v1, "
		       "vireo-v0", model);
}

/* KVM where it was asked for and works; VIREO_ENGINE is for who wants ours under that name. */
static int choose_engine(struct qemu *q, struct err *e)
{
	const char *engine = getenv("VIREO_ENGINE");
	struct kvm_probe probe;

	if (engine && engine[0])
		return qemu_push(q, e, "--engine", "%s", engine);
	if (q->kvm && !q->tcg) {
		kvm_probe(&probe);
		if (probe.state != KVM_WORKS)
			return err_set(e, ENODEV, "failed to initialize kvm: %s; VIREO_ENGINE=soft in the "
				       "environment runs the guest without",
				       probe.state == KVM_ABSENT ? "No such file or directory" :
				       probe.state == KVM_DENIED ? "Permission denied" :
				       "/dev/kvm does not run guests at the processor's speed");
		return qemu_push(q, e, "--engine", "kvm");
	}
	return q->tcg && !q->kvm ? qemu_push(q, e, "--engine", "soft") : 0;
}

static int finish(struct qemu *q, struct err *e)
{
	int rc = choose_cpu(q, e);

	if (!rc)
		rc = choose_engine(q, e);
	if (!rc && q->microvm)
		rc = qemu_push(q, e, "--transport", "mmio");
	if (!rc && q->stopped)
		rc = qemu_push(q, e, q->gdb ? "--gdb-wait" : "--paused", NULL);
	if (!rc)
		rc = qemu_push(q, e, "--log-level", "warn");
	return rc ? rc : qemu_add_devices(q, e);
}

/* --- running --- */

struct daemon {
	const char *pidfile;
	int ready;		/* who waits for the VM to run reads here; -1: nobody */
};

static void runs(void *arg)
{
	const struct daemon *d = arg;
	const int null = d->ready >= 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;

	if (d->ready < 0)
		return;
	for (int fd = 0; fd < 3 && null >= 0; fd++)
		dup2(null, fd);
	if (write(d->ready, "", 1) != 1)
		return;
	close(d->ready);
}

static void fails(void *arg, const struct err *e)
{
	(void)arg;
	(void)e;
}

static void ended(void *arg, int status, const char *how)
{
	(void)arg;
	(void)status;
	(void)how;
}

/* The parent stays until the VM runs and ends with its status. */
static int go_behind(struct daemon *d, struct err *e)
{
	int fds[2];
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "could not make a pipe");
	pid = fork();
	if (pid < 0)
		return err_errno(e, errno, "could not start a process");
	if (pid) {
		close(fds[1]);
		_exit(read(fds[0], &byte, 1) == 1 ? 0 : 1);
	}
	setsid();
	close(fds[0]);
	d->ready = fds[1];
	return 0;
}

static int write_pid(const char *path, struct err *e)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return err_errno(e, errno, "cannot create PID file %s", path);
	fprintf(f, "%ld\n", (long)getpid());
	return fclose(f) ? err_errno(e, errno, "cannot write PID file %s", path) : 0;
}

/* What QEMU's users look at: 0 however it ended, unless the guest gave a status. */
static int status_for_clients(int status)
{
	switch (status) {
	case STATUS_OK:
	case STATUS_RESET:
	case STATUS_PANIC:
	case STATUS_STOPPED:
		return 0;
	default:
		return status & 1 ? status : 1;
	}
}

static int run(struct qemu *q, struct err *e)
{
	struct daemon d = { .ready = -1 };
	const struct run_events events = { .runs = runs, .fails = fails, .ended = ended, .arg = &d };
	const char *operand = NULL;
	struct run_options o;
	unsigned int count;
	int rc, status;

	run_options_init(&o);
	o.memory = 128ULL << 20;
	rc = options_parse_many(&command_run, q->words, q->word, &o, &operand, 1, &count, e);
	if (!rc && q->daemonize)
		rc = go_behind(&d, e);
	if (!rc && q->pidfile)
		rc = write_pid(q->pidfile, e);
	if (rc)
		return rc;
	o.label = q->name && !strncmp(q->name, "guest=", 6) ? q->name + 6 : q->name;
	o.uuid = q->uuid;
	o.stay_off = q->no_shutdown;
	o.triple_fault = TRIPLE_FAULT_RESET;
	o.events = &events;
	status = run_vm(&o);
	if (q->pidfile)
		unlink(q->pidfile);
	return status_for_clients(status);
}

static void print_words(const struct qemu *q)
{
	printf("vireo run");
	for (unsigned int i = 1; i < q->words; i++)
		printf(q->word[i][0] && !strpbrk(q->word[i], " '\"$\\") ? " %s" : " '%s'", q->word[i]);
	printf("\n");
}

static void print_help(void)
{
	printf(VERSION_TEXT "\n\nusage: " PROGRAM " [options]\n\nOptions that are known:\n");
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++)
		printf("  -%s%s%s\n", options[i].name, options[i].takes ? " ..." : "",
		       options[i].what == IGNORE ? "   (makes no difference here)" : "");
}

/* -version, -help: true, it was answered. */
static bool answered(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i] + strspn(argv[i], "-");

		if (argv[i][0] != '-')
			continue;
		if (!strcmp(name, "version")) {
			printf(VERSION_TEXT "\nWhat runs is Vireo, not QEMU.\n");
			return true;
		}
		if (!strcmp(name, "help") || !strcmp(argv[i], "-h")) {
			print_help();
			return true;
		}
	}
	return false;
}

int qemu_main(int argc, char **argv)
{
	struct qemu *q = calloc(1, sizeof(*q));
	struct err e = { 0 };
	int rc = q ? 0 : err_set(&e, ENOMEM, "out of memory");

	if (answered(argc, argv)) {
		free(q);
		return 0;
	}
	if (!rc)
		rc = qemu_push(q, &e, "run", NULL);
	for (int i = 1; i < argc && !rc; i++)
		rc = parse_one(q, argc, argv, &i, &e);
	if (!rc)
		rc = finish(q, &e);
	if (!rc && q->print)
		print_words(q);
	else if (!rc)
		rc = run(q, &e);
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", basename(argv[0]), e.text);
	for (unsigned int i = 0; q && i < q->words; i++)
		free(q->word[i]);
	free(q);
	return rc < 0 ? 1 : rc;
}
