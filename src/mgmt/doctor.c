// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo doctor`: which engines work on this host and why the others do not, what the
 * host offers, and what would mend what is missing.  Everything is tried, not guessed.
 */
#include "cpu/cpuid.h"
#include "engine/engine.h"
#include "mgmt/command.h"
#include "mgmt/doctor_priv.h"
#include "mgmt/host.h"
#include "mgmt/kvm_probe.h"
#include "mgmt/status.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TABLE_TIB	30	/* address space that a vCPU's tables may come to reserve */
#define TABLE_SPACE	((uint64_t)TABLE_TIB << 40)

void doctor_say(struct doctor *d, const char *mark, const char *what, const char *text)
{
	if (!d->json)
		printf("  %-4s %-18s %s\n", mark, what, text);
	else
		json_array_append_new(d->findings, json_pack("{s:s,s:s,s:s,s:s}", "part", d->part,
							     "name", what, "works", mark, "text", text));
}

void doctor_fix(struct doctor *d, const char *text)
{
	const size_t n = json_array_size(d->findings);

	if (!d->json)
		printf("  %-4s %-18s   to mend it: %s\n", "", "", text);
	else if (n)
		json_object_set_new(json_array_get(d->findings, n - 1), "fix", json_string(text));
}

static void begin_part(struct doctor *d, const char *part)
{
	d->part = part;
	if (!d->json)
		printf("%s:\n", part);
}

/* --- engines --- */

static bool doctor_soft(struct doctor *d)
{
	struct err e;

	if (engine_soft.probe(&e)) {
		doctor_say(d, "no", "engine soft", e.text);
		return false;
	}
	doctor_say(d, "yes", "engine soft", "runs guests without help from the hardware");
	return true;
}

static void doctor_hardware(struct doctor *d)
{
	if (host_cpu_flag("vmx") || host_cpu_flag("svm")) {
		doctor_say(d, "yes", "virtualization", host_cpu_flag("vmx") ? "the processor has VT-x (vmx)" :
		    "the processor has AMD-V (svm)");
		return;
	}
	doctor_say(d, "no", "virtualization", "the processor shows neither vmx nor svm");
	doctor_fix(d, host_cpu_flag("hypervisor") ?
	    "this is a virtual machine: its host must allow nested virtualization" :
	    "switch VT-x or AMD-V on in the firmware's settings");
}

static void doctor_kvm_engine(struct doctor *d, const struct kvm_probe *p)
{
	struct err e;

	if (p->state != KVM_SLOW && p->state != KVM_WORKS)
		doctor_say(d, "no", "engine kvm", "needs a /dev/kvm that runs guests");
	else if (engine_kvm.probe(&e))
		doctor_say(d, "no", "engine kvm", e.text);
	else if (p->state == KVM_SLOW)
		doctor_say(d, "-", "engine kvm", "works here with --engine kvm, but the soft engine is faster");
	else
		doctor_say(d, "yes", "engine kvm", "runs guests with the hardware's help");
}

static void doctor_kvm(struct doctor *d)
{
	struct kvm_probe p;
	char text[256];

	kvm_probe(&p);
	switch (p.state) {
	case KVM_ABSENT:
		doctor_say(d, "no", "/dev/kvm", "does not exist");
		doctor_fix(d, "load the module kvm_intel or kvm_amd, or pass the device to this container");
		break;
	case KVM_DENIED:
		doctor_say(d, "no", "/dev/kvm", "exists, but this user may not open it");
		doctor_fix(d, "adduser YOU kvm, and log in again");
		break;
	case KVM_BROKEN:
		snprintf(text, sizeof(text), "cannot be used: %s: %s", p.step, strerror(p.error));
		doctor_say(d, "no", "/dev/kvm", text);
		break;
	case KVM_SLOW:
		snprintf(text, sizeof(text), "runs a guest, but emulates it: %.1f ns for a turn of "
			 "a two-instruction loop", p.turn_ps / 1000.0);
		doctor_say(d, "no", "/dev/kvm", text);
		break;
	case KVM_WORKS:
		snprintf(text, sizeof(text), "runs a guest at full speed: %.2f ns for a turn of a "
			 "two-instruction loop", p.turn_ps / 1000.0);
		doctor_say(d, "yes", "/dev/kvm", text);
		break;
	}
	doctor_kvm_engine(d, &p);
}

/* --- what the soft engine stands on --- */

static void doctor_memory(struct doctor *d)
{
	struct host_memory m;
	char text[256];

	host_memory_read(&m);
	snprintf(text, sizeof(text), "%" PRIu64 " MiB%s%s", m.limit >> 20,
		 m.limited_by ? ", limited by " : "", m.limited_by ? m.limited_by : "");
	doctor_say(d, "yes", "memory", text);
}

static bool doctor_memfd(struct doctor *d)
{
	const int fd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0) {
		doctor_say(d, "no", "memfd", strerror(errno));
		doctor_fix(d, "allow memfd_create in the seccomp profile");
		return false;
	}
	close(fd);
	doctor_say(d, "yes", "memfd", "guest memory can be a sealed file");
	return true;
}

static bool doctor_address_space(struct doctor *d)
{
	struct rlimit limit;
	uint64_t overcommit;
	char text[64];
	void *p;

	p = mmap(NULL, TABLE_SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED) {
		munmap(p, TABLE_SPACE);
		snprintf(text, sizeof(text), "%d TiB can be reserved", TABLE_TIB);
		doctor_say(d, "yes", "address space", text);
		return true;
	}
	snprintf(text, sizeof(text), "%d TiB cannot be reserved", TABLE_TIB);
	doctor_say(d, "no", "address space", text);
	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY)
		doctor_fix(d, "ulimit -v unlimited");
	else if (host_read_number("/proc/sys/vm/overcommit_memory", &overcommit) &&
		 overcommit == 2)
		doctor_fix(d, "sysctl vm.overcommit_memory=0");
	return false;
}

static bool doctor_code(struct doctor *d)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok;

	if (p == MAP_FAILED)
		return false;
	ok = !mprotect(p, 4096, PROT_READ | PROT_EXEC);
	doctor_say(d, ok ? "yes" : "no", "code at run time", ok ? "memory can be made executable" :
	    "memory cannot be made executable");
	if (!ok)
		doctor_fix(d, "allow execmem in the SELinux policy or MemoryDenyWriteExecute=no in the unit");
	munmap(p, 4096);
	return ok;
}

static void doctor_seccomp(struct doctor *d)
{
	static const char *const modes[] = { "none", "strict", "a filter is installed" };
	char text[16];

	if (!host_read_key("/proc/self/status", "Seccomp", text, sizeof(text)) ||
	    text[0] < '0' || text[0] > '2')
		doctor_say(d, "?", "seccomp", "cannot be told");
	else
		doctor_say(d, "yes", "seccomp", modes[text[0] - '0']);
}

/* --- good to have --- */

static void doctor_perf(struct doctor *d)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE, .size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS, .exclude_kernel = 1, .exclude_hv = 1,
	};
	const int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		doctor_say(d, "yes", "perf counters", "instructions can be counted");
		return;
	}
	doctor_say(d, "-", "perf counters", errno == EACCES || errno == EPERM ?
	    "not allowed (only measurements need them; kernel.perf_event_paranoid)" :
	    "not here (only measurements need them)");
}

static void doctor_huge_pages(struct doctor *d)
{
	char text[128] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");

	if (f && fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = '\0';
		doctor_say(d, strstr(text, "[never]") ? "-" : "yes", "huge pages", text);
	} else {
		doctor_say(d, "-", "huge pages", "not for shared memory (guests run somewhat slower)");
	}
	if (f)
		fclose(f);
}

static void doctor_models(struct doctor *d)
{
	struct cpu_model m;
	struct err e;

	for (const struct cpu_model_name *n = cpu_model_names; n->name; n++) {
		if (cpu_model_init(&m, n->name, &e))
			doctor_say(d, "no", n->name, e.text);
		else
			doctor_say(d, "yes", n->name, m.brand);
	}
}

/* Can guests run here? */
static bool look_at_all(struct doctor *d)
{
	bool soft;

	begin_part(d, "Engines");
	soft = doctor_soft(d);
	doctor_hardware(d);
	doctor_kvm(d);
	begin_part(d, "What the soft engine stands on");
	doctor_memory(d);
	soft &= doctor_memfd(d);
	soft &= doctor_address_space(d);
	soft &= doctor_code(d);
	doctor_seccomp(d);
	begin_part(d, "Sandbox of VMs");
	doctor_sandbox(d);
	begin_part(d, "Good to have");
	doctor_perf(d);
	doctor_huge_pages(d);
	begin_part(d, "Processor models (--cpu)");
	doctor_models(d);
	return soft;
}

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct doctor *)dest)->json = !strcmp(value, "json");
	return 0;
}

static const struct option_def option_defs[] = {
	{ "format", "text|json", "text (default), or json: an object with a list of findings",
	  set_format },
};

static int doctor_main(const struct command *c, int argc, char **argv)
{
	struct doctor d = { 0 };
	struct err e = { 0 };
	json_t *all;
	bool works;
	int rc;

	rc = options_parse(c, argc, argv, &d, NULL, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	d.findings = json_array();
	works = look_at_all(&d);
	if (d.json) {
		all = json_pack("{s:b,s:O}", "works", works, "findings", d.findings);
		json_dumpf(all, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(all);
	} else {
		printf("%s\n", works ? "Guests can run here." :
		       "No guest can run here; see the lines marked no.");
	}
	json_decref(d.findings);
	return works ? STATUS_OK : STATUS_HOST;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "say which engines work on this host, and what would help",
	.about =
	"Tries what running a guest needs, and says which engines work here, which do not and\n"
	"why, and what would mend it.\n"
	"\n"
	"Example:\n"
	"  vireo doctor",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.exits = "0 some engine works, 2 wrong usage, 12 none works.",
	.run = doctor_main,
};
