// SPDX-License-Identifier: Apache-2.0
/*
 * QEMU's options: one row each; what cannot be had here is an error that names it, what makes no
 * difference to a guest is in qemu_keys.def.
 *
 * Source: QEMU's documentation, "Invocation".
 */
#include "mgmt/qemu_priv.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- memory, processors, machine --- */

static int set_memory(struct qemu *q, const char *value, struct err *e)
{
	char size[64];
	int rc;

	rc = qemu_check_keys("m", value, "size", e);
	if (rc)
		return rc;
	if (!qemu_value(value, "size", size, sizeof(size)) && !qemu_value(value, "", size, sizeof(size)))
		return err_set(e, EINVAL, "-m %s: no size is given", value);
	return qemu_push(q, e, "--memory", "%s", size);
}

/* Without a count it is the topology's product, of which nothing else is left. */
static int set_smp(struct qemu *q, const char *value, struct err *e)
{
	static const char *const parts[] = { "sockets", "dies", "clusters", "cores", "threads" };
	char count[64] = "", max[64] = "", part[64];
	unsigned long product = 1, total;
	int rc;

	rc = qemu_check_keys("smp", value, "cpus maxcpus", e);
	if (rc)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (qemu_value(value, parts[i], part, sizeof(part)))
			product *= strtoul(part, NULL, 10);
	qemu_value(value, "maxcpus", max, sizeof(max));
	if (!qemu_value(value, "cpus", count, sizeof(count)) && !qemu_value(value, "", count, sizeof(count)))
		snprintf(count, sizeof(count), "%lu", product);
	total = strtoul(max[0] ? max : count, NULL, 10);
	if (!product || (total && total % product))
		return err_set(e, EINVAL, "Invalid CPU topology: product of the hierarchy must match maxcpus: "
			       "-smp %s", value);
	rc = qemu_push(q, e, "--cpus", "%s", count);
	return rc || !max[0] || !strcmp(max, count) ? rc : qemu_push(q, e, "--max-cpus", "%s", max);
}

/* "kvm", "kvm:tcg", or as -accel has it "kvm,...". */
static int set_accel(struct qemu *q, const char *value, struct err *e)
{
	char copy[256], *rest = copy, *name;
	int rc;

	rc = qemu_check_keys("accel", value, "accel", e);
	if (rc)
		return rc;
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
	rc = qemu_check_keys("machine", value, "type accel pcie", e);
	q->microvm = !strcmp(type, "microvm") && !qemu_on(value, "pcie", false);
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

/* --- what starts, and how it ends --- */

static int set_kernel(struct qemu *q, const char *value, struct err *e)
{
	q->kernel = true;
	return qemu_push(q, e, "--kernel", "%s", value);
}

static int set_initrd(struct qemu *q, const char *value, struct err *e)
{
	q->initrd = true;
	return qemu_push(q, e, "--initrd", "%s", value);
}

static int set_append(struct qemu *q, const char *value, struct err *e)
{
	q->append = true;
	return qemu_push(q, e, "--cmdline", "%s", value);
}

static int set_watchdog_action(struct qemu *q, const char *value, struct err *e)
{
	static const struct { const char *theirs, *ours; } actions[] = {
		{ "reset", "reset" }, { "shutdown", "poweroff" }, { "poweroff", "poweroff" }, { "pause", "pause" },
		{ "none", "none" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (!strcmp(actions[i].theirs, value)) {
			q->watchdog_action = actions[i].ours;
			return 0;
		}
	return err_set(e, EINVAL, "-watchdog-action %s: Parameter 'watchdog' does not accept value '%s' here; "
		       "there are reset, shutdown, poweroff, pause, none", value, value);
}

static int set_action(struct qemu *q, const char *value, struct err *e)
{
	char what[32];
	int rc;

	rc = qemu_check_keys("action", value, "reboot shutdown panic watchdog", e);
	if (rc)
		return rc;
	if (qemu_value(value, "shutdown", what, sizeof(what)))
		q->no_shutdown = !strcmp(what, "pause");
	if (qemu_value(value, "panic", what, sizeof(what))) {
		q->panic_fails = !strcmp(what, "exit-failure");
		if (!q->panic_fails && strcmp(what, "shutdown"))
			return err_set(e, EINVAL, "-action panic=%s: there are shutdown and exit-failure here", what);
	}
	if (qemu_value(value, "watchdog", what, sizeof(what)))
		rc = set_watchdog_action(q, what, e);
	if (rc || !qemu_value(value, "reboot", what, sizeof(what)) || !strcmp(what, "reset"))
		return rc;
	if (strcmp(what, "shutdown"))
		return err_set(e, EINVAL, "-action %s: Parameter 'reboot' does not accept value '%s'", value, what);
	return qemu_push(q, e, "--no-reboot", NULL);
}

/* Without -kernel the first disk's is booted, by no firmware. */
static int set_bios(struct qemu *q, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	q->bios = true;
	return 0;
}

static int set_boot(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	return strchr(value, '=') ? qemu_check_keys("boot", value, "", e) : 0;
}

static int set_name(struct qemu *q, const char *value, struct err *e)
{
	int rc;

	rc = qemu_check_keys("name", value, "guest", e);
	if (!rc && (qemu_value(value, "guest", q->name_text, sizeof(q->name_text)) ||
		    qemu_value(value, "", q->name_text, sizeof(q->name_text))))
		q->name = q->name_text;
	return rc;
}

static int set_uuid(struct qemu *q, const char *value, struct err *e)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t n = 0;

	while (n < sizeof(form) - 1 && (form[n] == '-' ? value[n] == '-' : isxdigit((unsigned char)value[n])))
		n++;
	if (form[n] || value[n])
		return err_set(e, EINVAL, "-uuid %s: failed to parse UUID string: wrong format", value);
	q->uuid = value;
	return 0;
}

/* The character, by its number; 1 is Ctrl-A. */
static int set_echr(struct qemu *q, const char *value, struct err *e)
{
	char *end;
	unsigned long n = strtoul(value, &end, 0);

	if (!*value || *end || n < 1 || n > 26)
		return err_set(e, EINVAL, "-echr %s: only Ctrl-A (1) to Ctrl-Z (26) are here", value);
	return qemu_push(q, e, "--mux-key", "%c", (char)('a' + n - 1));
}

static int set_watchdog(struct qemu *q, const char *value, struct err *e)
{
	if (strcmp(value, "i6300esb"))
		return err_set(e, EINVAL, "-watchdog %s: there is i6300esb here", value);
	q->watchdog = true;
	return 0;
}

/* --- who looks at it --- */

/* tcp::PORT, tcp:HOST:PORT, unix:PATH, each with ,server... behind it. */
static int set_gdb(struct qemu *q, const char *value, struct err *e)
{
	char where[256];

	q->gdb = value ? value : "tcp::1234";
	snprintf(where, sizeof(where), "%.*s", (int)strcspn(q->gdb, ","), q->gdb);
	return qemu_push(q, e, "--gdb", "%s", strncmp(where, "tcp::", 5) ? where : where + 5);
}

static int set_display(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	if (strcmp(value, "none"))
		return err_set(e, EINVAL, "-display %s: there is no display here, only none", value);
	return 0;
}

static int set_vga(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	if (strcmp(value, "none"))
		return err_set(e, EINVAL, "-vga %s: there is no graphics card here, only none", value);
	return 0;
}

static int set_parallel(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	if (strcmp(value, "none") && strcmp(value, "null"))
		return err_set(e, EINVAL, "-parallel %s: 'vireo run --printer' has a parallel port", value);
	return 0;
}

/* --- the rest --- */

static int set_net(struct qemu *q, const char *value, struct err *e)
{
	char model[64];

	q->net_given = true;
	if (!strcmp(value, "none"))
		return 0;
	/* -net nic is the card of -net user. */
	if (strncmp(value, "nic", 3))
		return qemu_keep(&q->nics, "-nic", value, e);
	q->nic_mac = value;
	if (qemu_value(value, "model", model, sizeof(model)) && strncmp(model, "virtio", 6))
		return err_set(e, EINVAL, "-net nic,model=%s: there is virtio here", model);
	return qemu_check_keys("net", value, "model macaddr netdev", e);
}

static int set_netdev(struct qemu *q, const char *value, struct err *e)
{
	q->net_given = true;
	return qemu_keep(&q->netdevs, "-netdev", value, e);
}

static int set_rtc(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	return qemu_check_keys("rtc", value, "", e);
}

static int set_object(struct qemu *q, const char *value, struct err *e)
{
	static const char *const kinds[] = {
		"rng-random", "rng-builtin", "memory-backend-ram", "memory-backend-memfd",
		"memory-backend-file", "iothread",
	};
	char kind[64] = "";

	(void)q;
	qemu_value(value, "", kind, sizeof(kind));
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kind, kinds[i]))
			return qemu_check_keys("object", value, "", e);
	return err_set(e, EINVAL, "-object %s: there is no '%s' here", value, kind);
}

/* "driver.property=value" */
static int set_global(struct qemu *q, const char *value, struct err *e)
{
	const char *is = strchr(value, '=');
	char key[128];

	(void)q;
	snprintf(key, sizeof(key), "%.*s", (int)strcspn(value, "="), value);
	return qemu_check_harmless("global", key, is ? is + 1 : "on", e);
}

static int set_overcommit(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	return qemu_check_keys("overcommit", value, "", e);
}

static int set_msg(struct qemu *q, const char *value, struct err *e)
{
	(void)q;
	return qemu_check_keys("msg", value, "", e);
}

/* dir= is ours: where disks that are plugged in later may be.  The option may be repeated for it. */
static int set_sandbox(struct qemu *q, const char *value, struct err *e)
{
	char on[16] = "on", dir[PATH_MAX];
	int rc;

	qemu_value(value, "", on, sizeof(on));
	qemu_value(value, "enable", on, sizeof(on));
	rc = qemu_check_keys("sandbox", value, "enable dir", e);
	if (!rc && strcmp(on, "on") && strcmp(on, "off"))
		rc = err_set(e, EINVAL, "Parameter 'enable' expects 'on' or 'off'");
	if (rc)
		return rc;
	if (!qemu_value(value, "dir", dir, sizeof(dir)))
		return qemu_push(q, e, "--sandbox", "%s", strcmp(on, "off") ? "auto" : "off");
	if (strchr(dir, ','))
		return err_set(e, EINVAL, "-sandbox: a directory with a comma in its name cannot be allowed: %s", dir);
	return qemu_push(q, e, "--sandbox", "%s,dir=%s", strcmp(on, "off") ? "auto" : "off", dir);
}

/* --- the table --- */

enum what { FLAG, TEXT, WORD, BARE, KEEP, CALL, IGNORE };

#define FIELD(f)	offsetof(struct qemu, f)

/*
 * FLAG, TEXT, KEEP: a field is set, set to the value, gets one more.  WORD, BARE: an option of ours
 * with the value, without.  CALL: @set.  IGNORE: makes no difference here, @ours says why.
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
	{ .name = "action", .takes = true, .what = CALL, .set = set_action },
	{ .name = "append", .takes = true, .what = CALL, .set = set_append },
	{ .name = "bios", .takes = true, .what = CALL, .set = set_bios },
	{ .name = "blockdev", .takes = true, .what = KEEP, .field = FIELD(drives) },
	{ .name = "boot", .takes = true, .what = CALL, .set = set_boot },
	{ .name = "chardev", .takes = true, .what = KEEP, .field = FIELD(chardevs) },
	{ .name = "cpu", .takes = true, .what = TEXT, .field = FIELD(cpu) },
	{ .name = "daemonize", .what = FLAG, .field = FIELD(daemonize) },
	{ .name = "device", .takes = true, .what = KEEP, .field = FIELD(devices) },
	{ .name = "display", .takes = true, .what = CALL, .set = set_display },
	{ .name = "drive", .takes = true, .what = KEEP, .field = FIELD(drives) },
	{ .name = "echr", .takes = true, .what = CALL, .set = set_echr },
	{ .name = "enable-kvm", .what = CALL, .set = set_kvm },
	{ .name = "fsdev", .takes = true, .what = KEEP, .field = FIELD(fsdevs) },
	{ .name = "gdb", .takes = true, .what = CALL, .set = set_gdb },
	{ .name = "global", .takes = true, .what = CALL, .set = set_global },
	{ .name = "initrd", .takes = true, .what = CALL, .set = set_initrd },
	{ .name = "kernel", .takes = true, .what = CALL, .set = set_kernel },
	{ .name = "L", .takes = true, .what = IGNORE, .ours = "there is no firmware" },
	{ .name = "m", .takes = true, .what = CALL, .set = set_memory },
	{ .name = "M", .takes = true, .what = CALL, .set = set_machine },
	{ .name = "machine", .takes = true, .what = CALL, .set = set_machine },
	{ .name = "mon", .takes = true, .what = KEEP, .field = FIELD(mons) },
	{ .name = "monitor", .takes = true, .what = KEEP, .field = FIELD(monitors) },
	{ .name = "msg", .takes = true, .what = CALL, .set = set_msg },
	{ .name = "name", .takes = true, .what = CALL, .set = set_name },
	{ .name = "net", .takes = true, .what = CALL, .set = set_net },
	{ .name = "netdev", .takes = true, .what = CALL, .set = set_netdev },
	{ .name = "nic", .takes = true, .what = CALL, .set = set_net },
	{ .name = "no-hpet", .what = IGNORE, .ours = "it stays; a guest leaves it alone with hpet=disable" },
	{ .name = "no-reboot", .what = BARE, .ours = "--no-reboot" },
	{ .name = "no-shutdown", .what = FLAG, .field = FIELD(no_shutdown) },
	{ .name = "no-user-config", .what = IGNORE, .ours = "there is none" },
	{ .name = "nodefaults", .what = FLAG, .field = FIELD(no_defaults) },
	{ .name = "nographic", .what = FLAG, .field = FIELD(nographic) },
	{ .name = "object", .takes = true, .what = CALL, .set = set_object },
	{ .name = "overcommit", .takes = true, .what = CALL, .set = set_overcommit },
	{ .name = "parallel", .takes = true, .what = CALL, .set = set_parallel },
	{ .name = "pidfile", .takes = true, .what = TEXT, .field = FIELD(pidfile) },
	{ .name = "print", .what = FLAG, .field = FIELD(print) },
	{ .name = "qmp", .takes = true, .what = KEEP, .field = FIELD(qmps) },
	{ .name = "rtc", .takes = true, .what = CALL, .set = set_rtc },
	{ .name = "s", .what = CALL, .set = set_gdb },
	{ .name = "S", .what = FLAG, .field = FIELD(stopped) },
	{ .name = "sandbox", .takes = true, .what = CALL, .set = set_sandbox },
	{ .name = "serial", .takes = true, .what = KEEP, .field = FIELD(serials) },
	{ .name = "smp", .takes = true, .what = CALL, .set = set_smp },
	{ .name = "snapshot", .what = FLAG, .field = FIELD(snapshot) },
	{ .name = "uuid", .takes = true, .what = CALL, .set = set_uuid },
	{ .name = "vga", .takes = true, .what = CALL, .set = set_vga },
	{ .name = "virtfs", .takes = true, .what = KEEP, .field = FIELD(fsdevs) },
	{ .name = "watchdog", .takes = true, .what = CALL, .set = set_watchdog },
	{ .name = "watchdog-action", .takes = true, .what = CALL, .set = set_watchdog_action },
};

void qemu_print_options(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].what != IGNORE)
			printf("  -%s%s\n", options[i].name, options[i].takes ? " ..." : "");
	printf("\nOptions and parameters that make no difference here, and why:\n");
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].what == IGNORE)
			printf("  -%-43s %s\n", options[i].name, options[i].ours);
	qemu_print_harmless();
}

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

bool qemu_option_takes(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++)
		if (!strcmp(options[i].name, name))
			return options[i].takes;
	return false;
}

/* Each of @items has an id, and no two have the same. */
static int check_ids(const struct qemu_items *items, const char *what, struct err *e)
{
	char id[256], node[256], other[256];

	for (unsigned int i = 0; i < items->count; i++) {
		if (!qemu_value(items->text[i], "id", id, sizeof(id))) {
			if (!strcmp(what, "drive") || !strcmp(what, "fsdev"))
				continue;	/* which may be a device without one, or a node */
			return err_set(e, EINVAL, "-%s %s: Parameter 'id' is missing", what, items->text[i]);
		}
		for (unsigned int j = 0; j < i; j++)
			if ((qemu_value(items->text[j], "id", other, sizeof(other)) && !strcmp(id, other)) ||
			    (qemu_value(items->text[j], "node-name", node, sizeof(node)) && !strcmp(id, node)))
				return err_set(e, EINVAL, "-%s %s: Duplicate ID '%s' for %s", what, items->text[i], id,
					       what);
	}
	return 0;
}

int qemu_parse(struct qemu *q, int argc, char **argv, struct err *e)
{
	int rc = 0;

	for (int i = 1; i < argc && !rc; i++)
		rc = parse_one(q, argc, argv, &i, e);
	if (!rc)
		rc = check_ids(&q->chardevs, "chardev", e);
	if (!rc)
		rc = check_ids(&q->netdevs, "netdev", e);
	if (!rc)
		rc = check_ids(&q->drives, "drive", e);
	if (!rc)
		rc = check_ids(&q->fsdevs, "fsdev", e);
	if (!rc && (q->append || q->initrd) && !q->kernel)
		rc = err_set(e, EINVAL, "%s only allowed with -kernel option", q->append ? "-append" : "-initrd");
	if (!rc && q->daemonize && q->nographic)
		rc = err_set(e, EINVAL, "-nographic cannot be used with -daemonize");
	return rc;
}
