// SPDX-License-Identifier: Apache-2.0
/* The options of `vireo run`: their values and their help. */
#include "mgmt/run_options.h"
#include "mgmt/cpu_limits.h"
#include "mgmt/escape.h"
#include "machine/vm.h"
#include "mgmt/host.h"
#include "mgmt/run_devices.h"
#include "mgmt/machine.h"
#include "mgmt/run_char.h"
#include "mgmt/run_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB		(1ULL << 20)
#define DEFAULT_MEMORY	(512 * MIB)

void run_options_init(struct run_options *o)
{
	*o = (struct run_options){
		.cpu = "vireo-v1", .cpus = 1, .memory = DEFAULT_MEMORY, .engine = ENGINE_AUTO,
		.mux_key = 'a',
		.translate = TRANSLATOR_AUTO,
		.log_level = LOG_INFO, .escape_key = ESCAPE_DEFAULT, .session = -1,
	};
}

/* The power of two that a size's suffix stands for; -1: not a suffix. */
static int suffix_shift(const char *s)
{
	static const char letters[] = "KMGT";
	const char *at;

	if (*s == '\0')
		return 20;
	at = strchr(letters, *s & ~0x20);
	if (!at || (s[1] != '\0' && strcmp(s + 1, "iB")))
		return -1;
	return 10 * (at - letters + 1);
}

int parse_memory(uint64_t *bytes, const char *text, struct err *e)
{
	unsigned long long n;
	int shift = -1;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && !errno)
		shift = suffix_shift(end);
	if (shift < 0 || n > UINT64_MAX >> shift)
		return err_set(e, EINVAL, "'%s' is no size of memory: write 512M or 2G", text);
	n <<= shift;
	if (n < MIB || n % MIB)
		return err_set(e, EINVAL, "a size of memory cannot be %s: give whole MiB, at least "
			       "one, such as 512M", text);
	*bytes = n;
	return 0;
}

static int set_name(void *dest, const char *value, struct err *e)
{
	((struct run_options *)dest)->name = value;
	return machine_name_check(value, e);
}

static int set_kernel(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->kernel = value;
	return 0;
}

static int set_root(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->root = value;
	return 0;
}

static int set_rm(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->throw_away = true;
	return 0;
}

static int set_initrd(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->initrd = value;
	return 0;
}

static int set_cmdline(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->cmdline = value;
	return 0;
}

static int set_cpu(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->cpu = value;
	return 0;
}

static int set_memory(void *dest, const char *value, struct err *e)
{
	return parse_memory(&((struct run_options *)dest)->memory, value, e);
}

int cpus_parse(unsigned int *out, const char *value, struct err *e)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || !n || n > VM_CPUS_MAX)
		return err_set(e, EINVAL, "a VM cannot have '%s' processors: give a number from 1 to %d",
			       value, VM_CPUS_MAX);
	*out = n;
	return 0;
}

static int set_cpus(void *dest, const char *value, struct err *e)
{
	return cpus_parse(&((struct run_options *)dest)->cpus, value, e);
}

static int set_max_cpus(void *dest, const char *value, struct err *e)
{
	return cpus_parse(&((struct run_options *)dest)->max_cpus, value, e);
}

static int set_cpu_weight(void *dest, const char *value, struct err *e)
{
	return cpu_weight_parse(&((struct run_options *)dest)->limits, value, e);
}

static int set_cpu_cap(void *dest, const char *value, struct err *e)
{
	return cpu_cap_parse(&((struct run_options *)dest)->limits, value, e);
}

static int set_cpu_pin(void *dest, const char *value, struct err *e)
{
	return cpu_pin_parse(&((struct run_options *)dest)->limits, value, e);
}

static int set_vcpu(void *dest, const char *value, struct err *e)
{
	return vcpu_limits_parse(((struct run_options *)dest)->vcpu, VM_CPUS_MAX, value, e);
}

/* The place of @value among @names, for enums that count from 0. */
static int parse_choice(const char *option, const char *value, const char *const *names,
			unsigned int count, struct err *e)
{
	char list[128] = "";

	for (unsigned int i = 0; i < count; i++) {
		if (!strcmp(value, names[i]))
			return i;
		if (i)
			strcat(list, ", ");
		strcat(list, names[i]);
	}
	return err_set(e, EINVAL, "'%s' is no value for --%s; it takes one of %s", value, option,
		       list);
}

static int set_engine(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { "auto", "soft", "kvm" };
	const int i = parse_choice("engine", value, names, ARRAY_SIZE(names), e);

	if (i < 0)
		return i;
	((struct run_options *)dest)->engine = i;
	return 0;
}

static int set_translator(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { "off", "on", "auto", "lockstep", "lockstep-user" };
	const int i = parse_choice("translator", value, names, ARRAY_SIZE(names), e);

	if (i < 0)
		return i;
	/* The first three are enum translator_choice's, then come those of enum lockstep_choice. */
	((struct run_options *)dest)->lockstep = i < 3 ? LOCKSTEP_OFF : LOCKSTEP_ALL + i - 3;
	((struct run_options *)dest)->translate = i < 3 ? (enum translator_choice)i : TRANSLATOR_ON;
	return 0;
}

static const struct { const char *name, *sentence; } translator_opts[] = {
#define OPT(id, name, sentence) { name, sentence },
#include "engine/translator_opt.def"
#undef OPT
};

static void print_translator_opts(void)
{
	printf("What the translator does to be fast; --translator-opt no-NAME,... does without:\n\n");
	for (unsigned int i = 0; i < TRANSLATOR_OPTS; i++)
		printf("  %-12s %s\n", translator_opts[i].name, translator_opts[i].sentence);
}

/* "no-NAME": the number of the optimization, or -EINVAL. */
static int parse_translator_opt(const char *word, struct err *e)
{
	for (unsigned int i = 0; i < TRANSLATOR_OPTS; i++)
		if (!strncmp(word, "no-", 3) && !strcmp(word + 3, translator_opts[i].name))
			return i;
	return err_set(e, EINVAL, "'%s' is no value for --translator-opt; "
		       "'vireo run --translator-opt help' lists what it takes", word);
}

/* A list of no-NAME; "no-all" is all of them. */
static int set_translator_opt(void *dest, const char *value, struct err *e)
{
	uint32_t *no = &((struct run_options *)dest)->translator_no;
	char words[256], *rest = words, *word;
	int i;

	if (!strcmp(value, "help")) {
		print_translator_opts();
		return OPTIONS_HELP;
	}
	if (snprintf(words, sizeof(words), "%s", value) >= (int)sizeof(words))
		return err_set(e, EINVAL, "the list for --translator-opt is too long: to do without "
			       "everything write no-all");
	while ((word = strsep(&rest, ","))) {
		if (!strcmp(word, "no-all")) {
			*no = BIT(TRANSLATOR_OPTS) - 1;
			continue;
		}
		i = parse_translator_opt(word, e);
		if (i < 0)
			return i;
		*no |= BIT(i);
	}
	return 0;
}

static int set_direct(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { "auto", "off", "always" };
	const int i = parse_choice("direct", value, names, ARRAY_SIZE(names), e);

	if (i < 0)
		return i;
	((struct run_options *)dest)->direct = i;
	return 0;
}

static int set_windows(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { "auto", "off", "always" };
	const int i = parse_choice("windows", value, names, ARRAY_SIZE(names), e);

	if (i < 0)
		return i;
	((struct run_options *)dest)->windows = i;
	return 0;
}

static int set_cache(void *dest, const char *value, struct err *e)
{
	return parse_memory(&((struct run_options *)dest)->cache, value, e);
}

static int set_log_level(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	const int i = parse_choice("log-level", value, names, ARRAY_SIZE(names), e);

	if (i < 0)
		return i;
	((struct run_options *)dest)->log_level = i;
	return 0;
}

static int set_transport(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { "pci", "mmio" };
	const int i = parse_choice("transport", value, names, ARRAY_SIZE(names), e);

	if (i < 0)
		return i;
	((struct run_options *)dest)->virtio_mmio = i == 1;
	return 0;
}

static int set_debug_exit(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->debug_exit = true;
	return 0;
}

static int set_perf_map(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->perf_map = true;
	return 0;
}

static int set_stats(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->stats = true;
	return 0;
}

static int set_no_reboot(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->no_reboot = true;
	return 0;
}

static int set_escape(void *dest, const char *value, struct err *e)
{
	return escape_parse_key(&((struct run_options *)dest)->escape_key, value, e);
}

static int set_disk(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->disk_count == RUN_DISKS_MAX)
		return err_set(e, E2BIG, "a VM has at most %d disks", RUN_DISKS_MAX);
	o->disk[o->disk_count++] = value;
	return 0;
}

static int set_console(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->console_count == RUN_CONSOLES_MAX)
		return err_set(e, E2BIG, "a VM has at most %d consoles and ports", RUN_CONSOLES_MAX);
	o->console[o->console_count++] = value;
	return 0;
}

static int set_net(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->net_count == RUN_NETS_MAX)
		return err_set(e, E2BIG, "a VM has at most %d network cards", RUN_NETS_MAX);
	o->net[o->net_count++] = value;
	return 0;
}

static int set_spare_disk(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->spare_disk_count == RUN_SPARES_MAX)
		return err_set(e, E2BIG, "at most %d disks can be kept for later", RUN_SPARES_MAX);
	o->spare_disk[o->spare_disk_count++] = value;
	return 0;
}

static int set_spare_net(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->spare_net_count == RUN_SPARES_MAX)
		return err_set(e, E2BIG, "at most %d networks can be kept for later", RUN_SPARES_MAX);
	o->spare_net[o->spare_net_count++] = value;
	return 0;
}

static int set_publish(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->publish_count == RUN_PUBLISH_MAX)
		return err_set(e, E2BIG, "at most %d ports can be published", RUN_PUBLISH_MAX);
	o->publish[o->publish_count++] = value;
	return 0;
}

static int set_serial(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->serial_count == RUN_SERIALS_MAX)
		return err_set(e, E2BIG, "a VM has two serial ports, COM1 and COM2");
	o->serial[o->serial_count++] = value;
	return 0;
}

static int set_printer(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->printer = value;
	return 0;
}

static int set_watchdog(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = {
		[WATCHDOG_RESET] = "reset", [WATCHDOG_POWEROFF] = "poweroff", [WATCHDOG_PAUSE] = "pause",
		[WATCHDOG_NONE] = "none",
	};
	const int i = parse_choice("watchdog", value, names, ARRAY_SIZE(names), e);

	if (i < 0)
		return i;
	((struct run_options *)dest)->watchdog = true;
	((struct run_options *)dest)->watchdog_action = i;
	return 0;
}

static int set_vsock(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->vsock = value;
	return 0;
}

static int set_gdb(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->gdb = value;
	return 0;
}

static int set_gdb_wait(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->gdb_wait = true;
	return 0;
}

static int add_monitor(const char **list, unsigned int *count, const char *option, const char *value,
		       struct err *e)
{
	struct char_place p;

	if (*count == RUN_MONITORS_MAX)
		return err_set(e, E2BIG, "%s can be given %d times", option, RUN_MONITORS_MAX);
	list[(*count)++] = value;
	return char_place_parse(&p, option, value, e);
}

static int set_qmp(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	return add_monitor(o->qmp, &o->qmp_count, "--qmp", value, e);
}

static int set_monitor(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	return add_monitor(o->monitor, &o->monitor_count, "--monitor", value, e);
}

static int set_mux(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (o->mux_count == RUN_MUXES_MAX)
		return err_set(e, E2BIG, "--mux can be given %d times", RUN_MUXES_MAX);
	o->mux[o->mux_count++] = value;
	return run_mux_check(value, e);
}

static int set_mux_key(void *dest, const char *value, struct err *e)
{
	struct run_options *o = dest;

	if (*value < 'a' || *value > 'z' || value[1])
		return err_set(e, EINVAL, "--mux-key: '%s' is no letter from a to z", value);
	o->mux_key = *value;
	return 0;
}

static int set_paused(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct run_options *)dest)->paused = true;
	return 0;
}

static int set_balloon(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct run_options *)dest)->balloon = value;
	return 0;
}

static int add_share(struct run_options *o, const char *value, bool is_short, struct err *e)
{
	if (o->share_count == RUN_SHARES_MAX)
		return err_set(e, E2BIG, "a VM has at most %d shared directories", RUN_SHARES_MAX);
	o->share[o->share_count++] = (struct share_option){ value, is_short };
	return 0;
}

static int set_share(void *dest, const char *value, struct err *e)
{
	return add_share(dest, value, false, e);
}

static int set_volume(void *dest, const char *value, struct err *e)
{
	return add_share(dest, value, true, e);
}

static const struct option_def option_defs[] = {
	{ "name", "NAME", "what other commands call this VM: vireo stats NAME", set_name },
	{ "kernel", "FILE", "what to boot: a Linux bzImage, a 64-bit vmlinux, an ELF file with a\n"
	  "PVH note, or a Multiboot 1 kernel (default: the one beside the first\n"
	  "disk, as 'vireo image create debian12' leaves it)", set_kernel },
	{ "root", "IMAGE", "boot the system in a directory of the host or on a disk image, with an\n"
	  "initramfs of vireo's; the same as the operand", set_root },
	{ "rm", NULL, "throw away what the guest changes in IMAGE", set_rm },
	{ "initrd", "FILE", "initial RAM disk, or the Multiboot module", set_initrd },
	{ "cmdline", "TEXT", "kernel command line; console=ttyS0 shows Linux's messages",
	  set_cmdline },
	{ "memory", "SIZE", "guest memory: 512M, 2G, or a number of MiB (default 512M)",
	  set_memory },
	{ "cpus", "N", "number of processors, 1 (default) to 64; each is a thread of the host",
	  set_cpus },
	{ "max-cpus", "N", "'vireo set NAME --cpus' may later give it so many (default: --cpus)",
	  set_max_cpus },
	{ "disk", "FILE", "a disk image, raw or qcow2, as /dev/vda and so on; after the name may\n"
	  "follow ,readonly=on ,snapshot=on ,serial=TEXT ,format=raw\n"
	  ",aio=io_uring: see vireo(1)", set_disk },
	{ "console", "WHERE", "a virtio console, or with name=NAME a port of that name, on out=FILE,\n"
	  "in=FILE (or both), socket=PATH, fd=N or at=WHERE (as --serial has it); may\n"
	  "be given several times", set_console },
	{ "net", "NETWORK", "a network card on user[,hostfwd=2222:22,...], tap,ifname=NAME,\n"
	  "switch=NAME, socket,listen=HOST:PORT (or connect=, mcast=, udp=, fd=:\n"
	  "QEMU's -netdev socket) or none; with ,mac= and ,mtu= of the card; may be\n"
	  "given several times", set_net },
	{ "spare-disk", "FILE,node=NAME", "as --disk, but no device: QMP's device_add makes one of NAME", set_spare_disk },
	{ "spare-net", "NETWORK,netdev=NAME", "as --net, but no card: QMP's device_add makes one of NAME; the\n"
	  "network is opened now, which a confined VM cannot do later", set_spare_net },
	{ "publish", "PORTS", "2222:22: this host's port 2222 (on loopback) leads to the guest's 22;\n"
	  "53:53/udp; may be given several times; makes a user network if none\n"
	  "is named", set_publish },
	{ "share", "DIR,tag=TAG", "a directory of the host, which the guest mounts with\n"
	  "mount -t 9p TAG PLACE; also readonly, security=none (default),\n"
	  "mapped-xattr or passthrough; may be given several times", set_share },
	{ "v", "DIR:TAG[:ro]", "short for --share DIR,tag=TAG[,readonly]", set_volume },
	{ "vsock", "PATH[,cid=N]", "AF_VSOCK in the guest, a unix socket here: say \"CONNECT port\" to PATH;\n"
	  "what the guest connects to is PATH_port", set_vsock },
	{ "serial", "WHERE", "COM1, and given again COM2: /dev/NAME (a serial device of the host, ours\n"
	  "alone), pty, file:PATH, socket:PATH, tcp:HOST:PORT, pipe:PATH, fd:N,\n"
	  "stdio, mux:NAME or none", set_serial },
	{ "printer", "QUEUE", "a parallel port with a printer that spools into QUEUE of 'vireo spool';\n"
	  ",out=DIR or ,lp=NAME say where its jobs go; ,idle=SECONDS ends one", set_printer },
	{ "watchdog", "ACTION", "a watchdog timer (i6300esb), and what happens when the guest does not\n"
	  "reset it in time: reset, poweroff, pause or none (a line in the log)", set_watchdog },
	{ "balloon", "SIZE", "a memory balloon that takes SIZE from the guest (0: nothing at first),\n"
	  "and by which it tells which pages are free, so that the host gets them", set_balloon },
	{ "cpu-weight", "N", "share of the processors beside other VMs of this user that have a weight,\n"
	  "1 to 10000", set_cpu_weight },
	{ "cpu-cap", "N%", "at most so much of one processor: 150% is one and a half", set_cpu_cap },
	{ "cpu-pin", "LIST", "run on these processors of the host only: 0-1,4", set_cpu_pin },
	{ "vcpu", "LIST,...", "the same for single processors of the VM, with weight=N (among them, else\n"
	  "100), cap=N% and, last, pin=LIST; repeatable", set_vcpu },
	{ "cpu", "MODEL", "processor: vireo-v1 (default; the same on every host), vireo-v0\n"
	  "(the least) or host (with every instruction set that this host can run)", set_cpu },
	{ "engine", "NAME", "auto (default), soft (no help from hardware) or kvm",
	  set_engine },
	{ "translator", "CHOICE", "auto, on or off: translate hot 64-bit code instead of only interpreting;\n"
	  "auto (default) does where this host's processor has what that needs.\n"
	  "lockstep: do both, compare, stop where they differ (slow);\n"
	  "lockstep-user: the same for what runs at CPL 3", set_translator },
	{ "translator-opt", "LIST", "no-NAME,...: do without these of the translator's optimizations;\n"
	  "'help' lists them", set_translator_opt },
	{ "direct", "CHOICE", "auto (default), off or always: run on the processor itself, in a process\n"
	  "of its own, user programs that run long enough, none, or all", set_direct },
	{ "windows", "CHOICE", "auto (default), off or always: let the host's page tables do what lookups\n"
	  "do else, for user programs that run long enough, none, or all", set_windows },
	{ "code-cache", "SIZE", "memory for translated code and what is known of it, an eighth as much\n"
	  "besides for decoded code (default: 64M, 128M with several processors);\n"
	  "all of it for decoded code with --translator off",
	  set_cache },
	{ "perf-map", NULL, "name translated code for perf(1) in /tmp/perf-PID.map", set_perf_map },
	{ "stats", NULL, "at the end, print on stderr what was counted while the guest ran",
	  set_stats },
	{ "no-reboot", NULL, "when the guest resets, end with status 4 instead of booting again",
	  set_no_reboot },
	{ "transport", "NAME", "where virtio devices are: pci (default), or mmio, in pages of their own,\n"
	  "for systems without PCI", set_transport },
	{ "gdb", "WHERE", "let gdb debug the guest (target remote) at PORT (of loopback),\n"
	  "[tcp:]ADDRESS:PORT or unix:PATH", set_gdb },
	{ "gdb-wait", NULL, "with --gdb: wait for gdb before the first instruction", set_gdb_wait },
	{ "qmp", "WHERE", "serve QEMU's machine protocol (JSON) at unix:PATH, tcp:HOST:PORT, stdio,\n"
	  "pipe:PATH ...; ,wait=on waits for a client before the guest begins,\n"
	  ",server=off connects; may be given several times", set_qmp },
	{ "monitor", "WHERE", "the same of commands for people, as QEMU's monitor has them", set_monitor },
	{ "mux", "NAME=WHERE", "what several of --serial, --console at=, --monitor and --qmp share, each\n"
	  "as mux:NAME; Ctrl-A c goes from one to the next", set_mux },
	{ "mux-key", "LETTER", "--mux: Ctrl and this letter instead of Ctrl-A (a)", set_mux_key },
	{ "paused", NULL, "do not begin before somebody says cont at a socket (--qmp, --monitor,\n"
	  "--name)",
	  set_paused },
	{ "sandbox", "CHOICE", "auto (default): let this process do nothing but run its guest, as far as\n"
	  "the host has the means; on: fail where it lacks one; off: do not.  Then,\n"
	  "after commas: dir=DIR, files in which it may open disks later; kvm, so\n"
	  "that vireo set can move it there; dump, so that debuggers may look into it", run_set_sandbox },
	{ "jail", NULL, "besides, put the VM's process into namespaces of its own, without a\n"
	  "network or files", run_set_jail },
	{ "limit", "LIST", "put it into a control group with these of cpu-weight=N, cpu=PERCENT,\n"
	  "memory=SIZE, pids=N, io-weight=N, io-read=RATE, io-write=RATE", run_set_limit },
	{ "debug-exit", NULL, "give the guest port 0xf4: writing N there ends vireo with status\n"
	  "(N << 1) | 1, as QEMU's isa-debug-exit does", set_debug_exit },
	{ "console-escape", "KEY", "the console's escape key: ^] (default), ^A ..., or none",
	  set_escape },
	{ "log-level", "LEVEL", "error, warn, info (default) or debug; the log is on stderr",
	  set_log_level },
};

const struct command command_run = {
	.name = "run",
	.operand = "[IMAGE]",
	.rest = "[-- COMMAND...]",
	.summary = "boot a kernel or an image in a VM on this terminal, or run a command in it",
	.about =
	"Boots a kernel in a virtual machine.  The guest's first serial port is this terminal,\n"
	"or stdin and stdout where there is none; the log is on stderr.  On a terminal, Ctrl-C\n"
	"goes to the guest, and Ctrl-] then . ends the VM.\n"
	"\n"
	"With IMAGE, a directory of the host (or an unpacked OCI bundle) or a disk image, boots the\n"
	"system in it with a kernel that is found in or beside it, this host's, or --kernel's; with\n"
	"COMMAND runs that and nothing else, gives its stdout and stderr apart, and ends with its\n"
	"exit status.\n"
	"\n"
	"Examples:\n"
	"  vireo run --rm -v ~/src:/src -p 8080:80 rootfs/ -- make -C /src check\n"
	"  vireo run --kernel vmlinuz --initrd initramfs.cpio --memory 512M \\\n"
	"            --cmdline \"console=ttyS0 panic=-1\" --no-reboot",
	.exits = "says how the VM ended ('vireo help' lists them); with a COMMAND its own, 128 + N after\n"
		 "signal N, 127 it was not found, 126 it could not be executed, 125 it did not come to its end.",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.letter = 'p',
	.letter_option = "publish",
	.run = run_main,
};

/* A name is one VM's, whether it runs or is kept. */
static int check_name(const struct run_options *o, struct err *e)
{
	struct machine m;

	if (o->kept || !o->name || machine_open(&m, o->name, NULL))
		return 0;
	machine_close(&m);
	return err_set(e, EEXIST, "there is a VM '%s' already ('%.300s'): 'vireo start %s' runs it, or "
		       "choose another name", m.name, m.path, m.name);
}

static int check_vcpus(const struct run_options *o, struct err *e)
{
	for (unsigned int i = MAX(o->cpus, o->max_cpus); i < VM_CPUS_MAX; i++)
		if (o->vcpu[i].weight || o->vcpu[i].cap || o->vcpu[i].pinned)
			return err_set(e, EINVAL, "--vcpu speaks of processor %u: this VM has 0 to %u", i,
				       MAX(o->cpus, o->max_cpus) - 1);
	return 0;
}

/* Standard input and output have one user, which may be a --mux. */
static int check_stdio(const struct run_options *o, struct err *e)
{
	unsigned int users = !o->serial_count && !o->kept && !o->trace;

	for (unsigned int i = 0; i < o->serial_count; i++)
		users += !strcmp(o->serial[i], "stdio");
	for (unsigned int i = 0; i < o->console_count; i++)
		users += !strncmp(o->console[i], "at=stdio", 8);
	for (unsigned int i = 0; i < o->qmp_count; i++)
		users += !strcmp(o->qmp[i], "stdio");
	for (unsigned int i = 0; i < o->monitor_count; i++)
		users += !strcmp(o->monitor[i], "stdio");
	for (unsigned int i = 0; i < o->mux_count; i++)
		users += strlen(o->mux[i]) > 6 && !strcmp(strchrnul(o->mux[i], '='), "=stdio");
	if (users > 1)
		return err_set(e, EINVAL, "stdio is used twice%s: --mux m=stdio lets several use it, as mux:m",
			       o->serial_count ? "" : " (COM1 is there without --serial)");
	return 0;
}

int run_options_check(const struct run_options *o, struct err *e)
{
	struct host_memory host;
	int rc = check_name(o, e);

	if (!rc)
		rc = check_stdio(o, e);

	if (rc)
		return rc;
	if (!o->kernel && !o->nothing_to_boot)
		return err_set(e, EINVAL, "no kernel is named: vireo run --kernel FILE "
			       "('vireo run --help' shows an example)");
	if (o->max_cpus && o->max_cpus < o->cpus)
		return err_set(e, EINVAL, "a VM cannot start with %u processors and have at most %u: "
			       "raise --max-cpus", o->cpus, o->max_cpus);
	if (MAX(o->cpus, o->max_cpus) > 1 && o->lockstep)
		return err_set(e, EINVAL, "--translator lockstep compares what one processor does: use it with --cpus 1");
	if (o->perf_map && !o->translate)
		return err_set(e, EINVAL, "--perf-map names translated code: use it without --translator off");
	if (o->gdb && o->engine == ENGINE_KVM)
		return err_set(e, EINVAL, "--gdb debugs what --engine soft runs, not kvm");
	if (o->paused && !o->qmp_count && !o->monitor_count && !o->name && !o->gdb)
		return err_set(e, EINVAL, "--paused waits for a cont: say where with --qmp, --monitor or --name");
	if (o->gdb_wait && !o->gdb)
		return err_set(e, EINVAL, "--gdb-wait says when to begin: --gdb WHERE says where gdb comes");
	rc = check_vcpus(o, e);
	if (!rc)
		rc = run_net_check(o, e);
	if (!rc)
		rc = run_sandbox_check(o, e);
	if (rc)
		return rc;
	host_memory_read(&host);
	if (o->memory > host.limit)
		return err_set(e, EINVAL, "the guest cannot have %llu MiB of memory: %s has %llu MiB",
			       (unsigned long long)(o->memory / MIB),
			       host.limited_by ? host.limited_by : "the host",
			       (unsigned long long)(host.limit / MIB));
	return 0;
}
