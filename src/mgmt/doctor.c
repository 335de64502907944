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

#define TABLE_TIB	24	/* address space that a vCPU's tables may come to reserve */
#define TABLE_SPACE	((uint64_t)TABLE_TIB << 40)

void doctor_say(const char *mark, const char *what, const char *text)
{
	printf("  %-4s %-18s %s\n", mark, what, text);
}

void doctor_fix(const char *text)
{
	printf("  %-4s %-18s   to mend it: %s\n", "", "", text);
}

/* --- engines --- */

static bool doctor_soft(void)
{
	struct err e;

	if (engine_soft.probe(&e)) {
		doctor_say("no", "engine soft", e.text);
		return false;
	}
	doctor_say("yes", "engine soft", "runs guests without help from the hardware");
	return true;
}

static void doctor_hardware(void)
{
	if (host_cpu_flag("vmx") || host_cpu_flag("svm")) {
		doctor_say("yes", "virtualization", host_cpu_flag("vmx") ? "the processor has VT-x (vmx)" :
		    "the processor has AMD-V (svm)");
		return;
	}
	doctor_say("no", "virtualization", "the processor shows neither vmx nor svm");
	doctor_fix(host_cpu_flag("hypervisor") ?
	    "this is a virtual machine: its host must allow nested virtualization" :
	    "switch VT-x or AMD-V on in the firmware's settings");
}

static void doctor_kvm_engine(const struct kvm_probe *p)
{
	struct err e;

	if (p->state != KVM_SLOW && p->state != KVM_WORKS)
		doctor_say("no", "engine kvm", "needs a /dev/kvm that runs guests");
	else if (engine_kvm.probe(&e))
		doctor_say("no", "engine kvm", e.text);
	else if (p->state == KVM_SLOW)
		doctor_say("-", "engine kvm", "works here with --engine kvm, but the soft engine is faster");
	else
		doctor_say("yes", "engine kvm", "runs guests with the hardware's help");
}

static void doctor_kvm(void)
{
	struct kvm_probe p;
	char text[256];

	kvm_probe(&p);
	switch (p.state) {
	case KVM_ABSENT:
		doctor_say("no", "/dev/kvm", "does not exist");
		doctor_fix("load the module kvm_intel or kvm_amd, or pass the device to this container");
		break;
	case KVM_DENIED:
		doctor_say("no", "/dev/kvm", "exists, but this user may not open it");
		doctor_fix("adduser YOU kvm, and log in again");
		break;
	case KVM_BROKEN:
		snprintf(text, sizeof(text), "cannot be used: %s: %s", p.step, strerror(p.error));
		doctor_say("no", "/dev/kvm", text);
		break;
	case KVM_SLOW:
		snprintf(text, sizeof(text), "runs a guest, but emulates it: %.1f ns for a turn of "
			 "a two-instruction loop", p.turn_ps / 1000.0);
		doctor_say("no", "/dev/kvm", text);
		break;
	case KVM_WORKS:
		snprintf(text, sizeof(text), "runs a guest at full speed: %.2f ns for a turn of a "
			 "two-instruction loop", p.turn_ps / 1000.0);
		doctor_say("yes", "/dev/kvm", text);
		break;
	}
	doctor_kvm_engine(&p);
}

/* --- what the soft engine stands on --- */

static void doctor_memory(void)
{
	struct host_memory m;
	char text[256];

	host_memory_read(&m);
	snprintf(text, sizeof(text), "%" PRIu64 " MiB%s%s", m.limit >> 20,
		 m.limited_by ? ", limited by " : "", m.limited_by ? m.limited_by : "");
	doctor_say("yes", "memory", text);
}

static bool doctor_memfd(void)
{
	const int fd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0) {
		doctor_say("no", "memfd", strerror(errno));
		doctor_fix("allow memfd_create in the seccomp profile");
		return false;
	}
	close(fd);
	doctor_say("yes", "memfd", "guest memory can be a sealed file");
	return true;
}

static bool doctor_address_space(void)
{
	struct rlimit limit;
	uint64_t overcommit;
	char text[64];
	void *p;

	p = mmap(NULL, TABLE_SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED) {
		munmap(p, TABLE_SPACE);
		snprintf(text, sizeof(text), "%d TiB can be reserved", TABLE_TIB);
		doctor_say("yes", "address space", text);
		return true;
	}
	snprintf(text, sizeof(text), "%d TiB cannot be reserved", TABLE_TIB);
	doctor_say("no", "address space", text);
	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY)
		doctor_fix("ulimit -v unlimited");
	else if (host_read_number("/proc/sys/vm/overcommit_memory", &overcommit) &&
		 overcommit == 2)
		doctor_fix("sysctl vm.overcommit_memory=0");
	return false;
}

static bool doctor_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok;

	if (p == MAP_FAILED)
		return false;
	ok = !mprotect(p, 4096, PROT_READ | PROT_EXEC);
	doctor_say(ok ? "yes" : "no", "code at run time", ok ? "memory can be made executable" :
	    "memory cannot be made executable");
	if (!ok)
		doctor_fix("allow execmem in the SELinux policy or MemoryDenyWriteExecute=no in the unit");
	munmap(p, 4096);
	return ok;
}

static void doctor_seccomp(void)
{
	static const char *const modes[] = { "none", "strict", "a filter is installed" };
	char text[16];

	if (!host_read_key("/proc/self/status", "Seccomp", text, sizeof(text)) ||
	    text[0] < '0' || text[0] > '2')
		doctor_say("?", "seccomp", "cannot be told");
	else
		doctor_say("yes", "seccomp", modes[text[0] - '0']);
}

/* --- good to have --- */

static void doctor_perf(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE, .size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS, .exclude_kernel = 1, .exclude_hv = 1,
	};
	const int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		doctor_say("yes", "perf counters", "instructions can be counted");
		return;
	}
	doctor_say("-", "perf counters", errno == EACCES || errno == EPERM ?
	    "not allowed (only measurements need them; kernel.perf_event_paranoid)" :
	    "not here (only measurements need them)");
}

static void doctor_huge_pages(void)
{
	char text[128] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");

	if (f && fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = '\0';
		doctor_say(strstr(text, "[never]") ? "-" : "yes", "huge pages", text);
	} else {
		doctor_say("-", "huge pages", "not for shared memory (guests run somewhat slower)");
	}
	if (f)
		fclose(f);
}

static void doctor_models(void)
{
	struct cpu_model m;
	struct err e;

	for (const struct cpu_model_name *n = cpu_model_names; n->name; n++) {
		if (cpu_model_init(&m, n->name, &e))
			doctor_say("no", n->name, e.text);
		else
			doctor_say("yes", n->name, m.brand);
	}
}

static int doctor_main(const struct command *c, int argc, char **argv)
{
	struct err e = { 0 };
	bool soft;
	int rc;

	rc = options_parse(c, argc, argv, NULL, NULL, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	printf("Engines:\n");
	soft = doctor_soft();
	doctor_hardware();
	doctor_kvm();
	printf("What the soft engine stands on:\n");
	doctor_memory();
	soft &= doctor_memfd();
	soft &= doctor_address_space();
	soft &= doctor_code();
	doctor_seccomp();
	printf("Sandbox of VMs:\n");
	doctor_sandbox();
	printf("Good to have:\n");
	doctor_perf();
	doctor_huge_pages();
	printf("Processor models (--cpu):\n");
	doctor_models();
	printf("%s\n", soft ? "Guests can run here." :
	       "No guest can run here; see the lines marked no.");
	return soft ? STATUS_OK : STATUS_HOST;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "say which engines work on this host, and what would help",
	.about =
	"Tries what running a guest needs, and says which engines work here, which do not and\n"
	"why, and what would mend it.  Exit status 0 if some engine works, 12 if none does.\n"
	"\n"
	"Example:\n"
	"  vireo doctor",
	.run = doctor_main,
};
