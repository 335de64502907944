// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo run --sandbox` and --jail: what the process may still do once everything is open and
 * before its guest runs: a filter of system calls (sandbox_calls.c), of the file system what its
 * options name for later, no new privileges, no core dumps.
 */
#include "base/confine.h"
#include "base/named_socket.h"
#include "base/thread.h"
#include "backend/block.h"
#include "backend/spool_queue.h"
#include "machine/cpu_share.h"
#include "mgmt/char_place.h"
#include "mgmt/privileges.h"
#include "mgmt/run_devices.h"
#include "mgmt/run_priv.h"
#include "mgmt/sandbox_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <libgen.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define KVM_DEVICE "/dev/kvm"

_Static_assert((int)STATUS_SANDBOX == CONFINE_STATUS, "two statuses of a violation");

/* --- the option --- */

static int add_dir(struct run_options *o, const char *dir, struct err *e)
{
	if (o->sandbox_dir_count == RUN_SANDBOX_DIRS_MAX)
		return err_set(e, E2BIG, "--sandbox takes at most %d directories",
			       RUN_SANDBOX_DIRS_MAX);
	o->sandbox_dir[o->sandbox_dir_count] = realpath(dir, NULL);
	if (!o->sandbox_dir[o->sandbox_dir_count])
		return err_errno(e, errno, "--sandbox cannot allow the directory '%s'", dir);
	o->sandbox_dir_count++;
	return 0;
}

static int set_item(struct run_options *o, const char *item, struct err *e)
{
	static const char *const choices[] = {
		[SANDBOX_AUTO] = "auto", [SANDBOX_ON] = "on", [SANDBOX_OFF] = "off",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(choices); i++)
		if (!strcmp(item, choices[i])) {
			o->sandbox = i;
			return 0;
		}
	if (!strcmp(item, "dump")) {
		o->dumpable = true;
		return 0;
	}
	if (!strcmp(item, "kvm")) {
		o->sandbox_kvm = true;
		return 0;
	}
	if (!strncmp(item, "dir=", 4))
		return add_dir(o, item + 4, e);
	return err_set(e, EINVAL, "'%s' is no value for --sandbox; it takes auto, on, off, dir=DIR, "
		       "kvm, dump", item);
}

int run_set_sandbox(void *dest, const char *value, struct err *e)
{
	char *text = strdup(value), *rest = text, *item;
	int rc = text ? 0 : err_set(e, ENOMEM, "out of memory for --sandbox");

	while (!rc && (item = strsep(&rest, ",")))
		rc = set_item(dest, item, e);
	free(text);
	return rc;
}

int run_set_jail(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->jail = true;
	return 0;
}

int run_set_limit(void *dest, const char *value, struct err *e)
{
	return jail_limits_parse(&((struct run_options *)dest)->jail_limits, value, e);
}

int run_limit_devices(struct jail_limits *l, const struct run_options *o, struct err *e)
{
	struct block_options disk;
	char path[PATH_MAX];
	bool readonly;
	int rc = 0;

	if (!l->io_read && !l->io_write)
		return 0;
	if (o->root)
		rc = jail_io_add(l, o->root, JAIL_SYS_BLOCK, e);
	for (unsigned int i = 0; i < o->disk_count && !rc; i++) {
		rc = block_options_parse(&disk, o->disk[i], e);
		if (!rc)
			rc = jail_io_add(l, disk.path, JAIL_SYS_BLOCK, e);
	}
	for (unsigned int i = 0; i < o->share_count && !rc; i++) {
		rc = run_share_path(path, sizeof(path), &readonly, &o->share[i], e);
		if (!rc)
			rc = jail_io_add(l, path, JAIL_SYS_BLOCK, e);
	}
	if (!rc && !l->io_device_count)
		rc = err_set(e, EINVAL, "--limit io-read= and io-write= are for disks and shared directories, "
			     "and this VM has none");
	return rc;
}

int run_sandbox_check(const struct run_options *o, struct err *e)
{
	if (!o->jail)
		return 0;
	if (o->limits.weight)
		return err_set(e, EINVAL, "--cpu-weight shares with VMs outside of the jail, which it cannot "
			       "see: --limit cpu-weight=N has the host do it");
	if (o->perf_map)
		return err_set(e, EINVAL, "--perf-map is for looking into the process, --jail against it");
	for (unsigned int i = 0; i < o->share_count; i++)
		if (strstr(o->share[i].text, "security=passthrough"))
			return err_set(e, EINVAL, "security=passthrough needs rights that --jail takes "
				       "away: share with none or mapped-xattr");
	return 0;
}

/* --- what the options need later --- */

struct plan {
	struct confine *confine;	/* NULL: no sandbox, only a jail */
	struct jail_files files;
	struct sandbox_needs needs;
	bool kept;			/* the current folder is a kept machine's */
};

static void need_path(struct plan *p, const char *path, enum confine_access access)
{
	if (p->confine)
		confine_path(p->confine, path, access);
	jail_files_add(&p->files, path, access != CONFINE_READ);
}

/*
 * Removes the socket @path, "..." up to @end, when the VM ends; but where that would let it remove
 * a kept machine's vm.json, too, the socket stays, and is replaced when it is started next.
 */
static void will_remove(struct plan *p, const char *path, char end)
{
	char *copy = strndup(path, strchrnul(path, end) - path);

	if (copy && (!p->kept || strchr(copy, '/')))
		need_path(p, dirname(copy), CONFINE_REMOVE);
	p->needs.removal = true;
	free(copy);
}

/* @text as char_place.h has it. */
static void place_of(struct plan *p, const char *text)
{
	struct char_place place;

	if (!char_place_parse(&place, "", text, NULL) && char_place_leaves(&place))
		will_remove(p, place.path, '\0');
}

static void net_of(struct plan *p, const char *text)
{
	const char *at = strstr(text, "listen=unix:");

	if (at)
		will_remove(p, at + 12, ',');
	if (!strncmp(text, "switch=", 7))
		p->needs.sockets = true;
}

static void sockets_of(struct plan *p, const struct run_options *o)
{
	const char *at;

	for (unsigned int i = 0; i < o->serial_count; i++)
		place_of(p, o->serial[i]);
	for (unsigned int i = 0; i < o->mux_count; i++)
		place_of(p, strchrnul(o->mux[i], '=') + 1);
	for (unsigned int i = 0; i < o->console_count; i++) {
		at = strstr(o->console[i], "socket=");
		if (at)
			will_remove(p, at + 7, ',');
		else if (!strncmp(o->console[i], "at=unix:", 8) && !strstr(o->console[i], "server=off"))
			will_remove(p, o->console[i] + 8, ',');
	}
	if (o->gdb && !strncmp(o->gdb, "unix:", 5))
		will_remove(p, o->gdb + 5, '\0');
	for (unsigned int i = 0; i < o->qmp_count; i++)
		place_of(p, o->qmp[i]);
	for (unsigned int i = 0; i < o->monitor_count; i++)
		place_of(p, o->monitor[i]);
	if (o->vsock) {
		will_remove(p, o->vsock, ',');
		p->needs.sockets = true;
	}
	for (unsigned int i = 0; i < o->net_count; i++)
		net_of(p, o->net[i]);
	for (unsigned int i = 0; i < o->spare_net_count; i++)
		net_of(p, o->spare_net[i]);
}

/* A file, and not what lies beside it: that may be a whole home folder. */
static void backing_of(void *arg, const char *path)
{
	if (strncmp(path, "/dev/", 5))
		need_path(arg, path, CONFINE_READ);
}

/*
 * The control socket, QMP and monitors may add disks: beside those that are there, unless these are
 * devices, over the same backing files or of these, and where --sandbox says.
 */
static void disks_of(struct plan *p, struct run_disks *disks, const struct run_options *o)
{
	struct block_options disk;
	struct sockaddr_un a;

	for (unsigned int i = 0; i < o->sandbox_dir_count; i++)
		need_path(p, o->sandbox_dir[i], CONFINE_WRITE);
	if (!o->name && !o->qmp_count && !o->monitor_count) {
		p->needs.names |= o->sandbox_dir_count > 0;
		return;
	}
	p->needs.names = true;
	run_disks_each_backing(disks, backing_of, p);
	/*
	 * A kept machine's directory has its vm.json, which nothing in here may change; its sockets
	 * stay, and are replaced when it is started next.
	 */
	if (o->kept)
		return;
	if (o->name && !named_socket_address(&a, "", o->name, ".sock", NULL))
		will_remove(p, a.sun_path, '\0');
	for (unsigned int i = 0; i < o->disk_count + o->spare_disk_count; i++) {
		const bool spare = i >= o->disk_count;

		if (block_options_parse(&disk, spare ? o->spare_disk[i - o->disk_count] : o->disk[i], NULL))
			continue;
		if (strncmp(disk.path, "/dev/", 5))
			need_path(p, dirname(disk.path), CONFINE_WRITE);
		else if (spare)
			need_path(p, disk.path, CONFINE_WRITE);
	}
}

static void rings_of(struct plan *p, const struct run_options *o)
{
	struct block_options disk;

	for (unsigned int i = 0; i < o->disk_count; i++)
		p->needs.rings |= !block_options_parse(&disk, o->disk[i], NULL) && disk.io_uring;
}

static int shares_of(struct plan *p, const struct run_options *o,
		     struct err *e)
{
	char path[PATH_MAX];
	bool readonly;
	int rc = 0;

	for (unsigned int i = 0; i < o->share_count && !rc; i++) {
		rc = run_share_path(path, sizeof(path), &readonly, &o->share[i], e);
		if (!rc)
			need_path(p, path, readonly ? CONFINE_READ : CONFINE_WRITE);
		p->needs.shares = true;
	}
	return rc;
}

static int printer_of(struct plan *p, const struct run_options *o,
		      struct err *e)
{
	char path[PATH_MAX], name[SPOOL_NAME_MAX + 1];
	int rc;

	if (!o->printer)
		return 0;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(o->printer, ","), o->printer);
	rc = spool_queue_path(path, name, e);
	if (!rc)
		need_path(p, path, CONFINE_WRITE);
	p->needs.names = true;
	return rc;
}

/* A VM that can be moved to KVM later opens the device then; a jail has none. */
static void kvm_of(struct plan *p, const struct run_options *o)
{
	if (!o->name || o->jail || run_engine_stays(o, p->needs.kvm) ||
	    access(KVM_DEVICE, R_OK | W_OK))
		return;
	if (p->confine)
		confine_path(p->confine, KVM_DEVICE, CONFINE_WRITE);
	p->needs.kvm = true;
}

static int plan_for(struct plan *p, struct run_disks *disks, const struct run_options *o, struct err *e)
{
	int rc;

	kvm_of(p, o);
	sockets_of(p, o);
	disks_of(p, disks, o);
	rings_of(p, o);
	rc = shares_of(p, o, e);
	if (!rc)
		rc = printer_of(p, o, e);
	p->files.proc = p->needs.shares || CONFINE_SANITIZED;
	return rc;
}

/* --- entering --- */

/* What is in force is also the most that there will be. */
static void limit_resources(bool dumpable)
{
	static const int none[] = { RLIMIT_CORE, RLIMIT_MSGQUEUE, RLIMIT_RTPRIO, RLIMIT_NICE };
	const struct rlimit zero = { 0, 0 };
	struct rlimit files;

	for (size_t i = dumpable ? 1 : 0; i < ARRAY_SIZE(none); i++)
		setrlimit(none[i], &zero);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_max = files.rlim_cur;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static void tell(struct log *log, const struct confine_state *s)
{
	if (s->calls && s->landlock)
		log_info(log, "sandbox: system calls are filtered, files are kept by Landlock (version %u)",
			 s->landlock);
	else if (s->calls)
		log_info(log, "sandbox: system calls are filtered; this kernel has no Landlock to keep files");
	else
		log_warn(log, "sandbox: this host does not let vireo filter system calls%s; 'vireo doctor' "
			 "says more", s->landlock ? "; files are kept by Landlock" : "");
}

static int enter_jail(const struct plan *p, struct log *log, struct err *e)
{
	const int threads = threads_list(e);
	int rc = threads;

	if (threads >= 0) {
		rc = jail_close(&p->files, threads, e);
		close(threads);
	}
	if (rc)
		return rc;
	log_info(log, "jail: no network, no capabilities, %u place%s of the host", p->files.count,
		 p->files.count == 1 ? "" : "s");
	return 0;
}

/*
 * Root's capabilities, which ordinary users do not have: all go, but those by which files of others
 * are reached where the VM opens files later.
 */
static int drop_privileges(const struct plan *p, const struct run_options *o, struct err *e)
{
	uint64_t keep = p->needs.names ? 1ULL << CAP_DAC_OVERRIDE : 0;
	int threads, rc;

	for (unsigned int i = 0; i < o->share_count; i++)
		if (strstr(o->share[i].text, "security=passthrough"))
			return 0;	/* the guest's root is this one */
	if (p->needs.shares)
		keep |= 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_DAC_READ_SEARCH | 1ULL << CAP_FOWNER |
			1ULL << CAP_CHOWN | 1ULL << CAP_FSETID;
	if (o->jail || !privileges_any())
		return 0;
	threads = threads_list(e);
	rc = threads < 0 ? threads : privileges_drop(keep, threads, e);
	if (threads >= 0)
		close(threads);
	return rc;
}

static int enter_sandbox(struct plan *p, const struct run_options *o, struct log *log,
			 struct err *e)
{
	struct confine_state state;
	int rc;

	rc = drop_privileges(p, o, e);
	if (rc)
		return rc;
	limit_resources(o->dumpable || o->perf_map);
	sandbox_allow_calls(p->confine, &p->needs);
	rc = confine_enter(p->confine, o->sandbox == SANDBOX_ON, &state, e);
	if (!rc)
		tell(log, &state);
	return rc;
}

int run_sandbox_enter(struct vm *vm, struct run_disks *disks, const struct run_options *o, bool kvm,
		      struct log *log, struct err *e)
{
	struct plan p = { .needs.kvm = kvm, .kept = o->kept };
	int rc = 0;

	if (o->sandbox == SANDBOX_OFF)
		log_info(log, "sandbox: off");
	else
		rc = confine_create(&p.confine, false, e);
	/* Shares by weight can be asked for later; where that cannot work it fails then. */
	if (o->name && !o->jail)
		vm_open_cpu_share(vm, NULL);
	if (!rc)
		rc = plan_for(&p, disks, o, e);
	if (!rc && !o->dumpable && !o->perf_map && p.confine && !CONFINE_SANITIZED)
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (!rc && o->jail)
		rc = enter_jail(&p, log, e);
	if (!rc && p.confine)
		rc = enter_sandbox(&p, o, log, e);
	confine_free(p.confine);
	jail_files_free(&p.files);
	return rc;
}
