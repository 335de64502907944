/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `vireo run`. */
#ifndef VIREO_MGMT_RUN_OPTIONS_H
#define VIREO_MGMT_RUN_OPTIONS_H

#include "base/err.h"
#include "base/log.h"
#include "base/types.h"
#include "engine/config.h"
#include "machine/cpu_share.h"
#include "machine/vm.h"
#include "mgmt/jail.h"

#define RUN_DISKS_MAX		16
#define RUN_CONSOLES_MAX	31
#define RUN_NETS_MAX		8
#define RUN_SPARES_MAX		8
#define RUN_PUBLISH_MAX		64
#define RUN_SERIALS_MAX		2
#define RUN_MUXES_MAX		8
#define RUN_MONITORS_MAX	4
#define RUN_SHARES_MAX		16
#define RUN_SANDBOX_DIRS_MAX	16

struct vm;

enum engine_choice { ENGINE_AUTO, ENGINE_SOFT, ENGINE_KVM };

struct share_option {
	const char *text;
	bool is_short;			/* -v's DIR:TAG, not --share's */
};

enum sandbox_choice { SANDBOX_AUTO, SANDBOX_ON, SANDBOX_OFF };

/* For who runs a VM on behalf of another; on the loop's thread. */
struct run_events {
	void (*runs)(void *arg);	/* all is there: the guest's first instruction comes next */
	void (*fails)(void *arg, const struct err *e);
	void (*ended)(void *arg, int status, const char *how);	/* it ran; the process's status */
	void *arg;
};

struct run_options {
	const char *name;		/* its control socket's, or NULL: it has none */
	bool kept;			/* a machine.h's: the current folder is its directory */
	const struct run_events *events; /* or NULL */
	const char *kernel;
	const char *initrd;		/* NULL: none */
	const char *cmdline;		/* NULL: none */
	const char *root;		/* --root's: what run_root.c boots; NULL: nothing */
	bool throw_away;		/* --rm: changes to it */
	bool overlay;			/* changes to it are kept in memory, it is only read */
	int session;			/* the descriptor of the first command's session, or -1 */
	char *beside[3];		/* the three, if they were found beside the first disk */
	const char *cpu;
	uint64_t memory;		/* bytes */
	unsigned int cpus, max_cpus;	/* max_cpus 0: as many as cpus */
	struct cpu_limits limits;	/* --cpu-weight, --cpu-cap, --cpu-pin */
	struct cpu_limits vcpu[VM_CPUS_MAX]; /* --vcpu's */
	enum engine_choice engine;
	enum translator_choice translate;
	enum lockstep_choice lockstep;	/* ... compared with the interpreter */
	uint32_t translator_no;		/* enum translator_opt bits: without these */
	uint64_t cache;			/* its code cache in bytes, 0: the default */
	enum window_choice windows;
	enum direct_choice direct;
	bool perf_map;
	bool stats;			/* counters at the end */
	bool debug_exit;
	bool virtio_mmio;
	bool no_reboot;
	bool nothing_to_boot;		/* it stands still, as without a kernel it would */
	bool stay_off;			/* vm_config's; and its triple_fault */
	unsigned int triple_fault;
	const char *disk[RUN_DISKS_MAX];	/* --disk's texts */
	unsigned int disk_count;
	const char *console[RUN_CONSOLES_MAX];	/* --console's texts */
	unsigned int console_count;
	const char *net[RUN_NETS_MAX];	/* --net's texts */
	unsigned int net_count;
	const char *spare_disk[RUN_SPARES_MAX], *spare_net[RUN_SPARES_MAX];	/* their texts */
	unsigned int spare_disk_count, spare_net_count;
	const char *publish[RUN_PUBLISH_MAX];
	unsigned int publish_count;
	const char *serial[RUN_SERIALS_MAX];	/* --serial's texts: COM1, COM2 */
	unsigned int serial_count;
	const char *printer;		/* --printer's text, or NULL */
	bool watchdog;
	unsigned int watchdog_action;	/* enum vm_watchdog */
	const char *vsock;		/* --vsock's text, or NULL */
	const char *gdb;		/* --gdb's text, or NULL */
	bool gdb_wait;
	const char *mux[RUN_MUXES_MAX];	/* --mux's texts */
	unsigned int mux_count;
	char mux_key;			/* their letter, with Ctrl */
	const char *qmp[RUN_MONITORS_MAX], *monitor[RUN_MONITORS_MAX];	/* their texts */
	unsigned int qmp_count, monitor_count;
	bool terminal_signals;		/* Ctrl-C and its kin on the terminal are not the guest's */
	bool paused;			/* it waits for a cont of theirs, or of the control socket */
	const char *label, *uuid;	/* what they tell of it; NULL: name, none */
	const char *balloon;		/* --balloon's text, or NULL */
	enum sandbox_choice sandbox;
	bool jail;			/* namespaces and an empty file system */
	struct jail_limits jail_limits;	/* --limit */
	bool sandbox_kvm;		/* vireo set may move it to KVM, wherever it begins */
	bool dumpable;			/* other processes of the user may look into this one */
	char *sandbox_dir[RUN_SANDBOX_DIRS_MAX]; /* in which the VM may open files later */
	unsigned int sandbox_dir_count;
	struct share_option share[RUN_SHARES_MAX];
	unsigned int share_count;
	const struct engine_trace *trace; /* vireo trace's, or NULL; the console leads nowhere then */
	struct vm **vm;			/* gets the VM while it runs; NULL: nobody asks */
	enum log_level log_level;
	uint8_t escape_key;
};

void run_options_init(struct run_options *o);
/* What one option alone cannot tell: that a kernel is named, that the host has the memory. */
int run_options_check(const struct run_options *o, struct err *e);
/* A number of processors. */
int cpus_parse(unsigned int *out, const char *value, struct err *e);
/* "512M", "2G", "1048576K", or a number of MiB. */
int parse_memory(uint64_t *bytes, const char *text, struct err *e);

#endif
