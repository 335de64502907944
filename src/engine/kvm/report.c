// SPDX-License-Identifier: Apache-2.0
/*
 * What is said when KVM fails: a sentence, and in the log what the guest was doing; and the
 * engine's counters.
 */
#include "engine/kvm/kvm_priv.h"

#include "cpu/mmu.h"
#include "x86/decode.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const exit_names[] = {
	[KVM_EXIT_UNKNOWN] = "unknown", [KVM_EXIT_EXCEPTION] = "exception",
	[KVM_EXIT_IO] = "ports", [KVM_EXIT_HYPERCALL] = "hypercall", [KVM_EXIT_DEBUG] = "debug",
	[KVM_EXIT_HLT] = "HLT", [KVM_EXIT_MMIO] = "device memory",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "interrupt window", [KVM_EXIT_SHUTDOWN] = "shutdown",
	[KVM_EXIT_FAIL_ENTRY] = "failed entry", [KVM_EXIT_INTR] = "signal",
	[KVM_EXIT_SET_TPR] = "task priority", [KVM_EXIT_TPR_ACCESS] = "access to the task priority",
	[KVM_EXIT_NMI] = "NMI", [KVM_EXIT_INTERNAL_ERROR] = "internal error",
	[KVM_EXIT_WATCHDOG] = "watchdog", [KVM_EXIT_SYSTEM_EVENT] = "system event",
	[KVM_EXIT_IOAPIC_EOI] = "end of an I/O APIC's interrupt", [KVM_EXIT_HYPERV] = "Hyper-V",
	[KVM_EXIT_X86_RDMSR] = "RDMSR", [KVM_EXIT_X86_WRMSR] = "WRMSR",
	[KVM_EXIT_DIRTY_RING_FULL] = "full ring of written pages",
	[KVM_EXIT_AP_RESET_HOLD] = "held processor", [KVM_EXIT_X86_BUS_LOCK] = "bus lock",
	[KVM_EXIT_XEN] = "Xen", [KVM_EXIT_NOTIFY] = "no progress",
};

const char *kvm_exit_name(unsigned int reason)
{
	return reason < ARRAY_SIZE(exit_names) && exit_names[reason] ? exit_names[reason] : "unknown";
}

/* The bytes at RIP, and their instruction's name where they are one. */
static void report_code(struct kvm_cpu *c)
{
	char text[3 * INSN_MAX_LEN + 1] = "";
	uint8_t bytes[INSN_MAX_LEN];
	struct vcpu *v = c->v;
	gva_t at = v->code_size == CODE_64 ? v->rip : (uint32_t)(v->seg[SEG_CS].base + v->rip);
	struct insn insn;
	unsigned int got = 0;
	bool known;

	if (mem_fetch(v, at, bytes, sizeof(bytes), &got) != MEM_OK) {
		log_error(v->log, "  code: cannot be fetched");
		return;
	}
	for (unsigned int i = 0; i < got; i++)
		snprintf(text + 3 * i, 4, " %02x", bytes[i]);
	known = insn_decode(&insn, bytes, got, v->code_size) == DECODE_OK && insn.info;
	log_error(v->log, "  code:%s (%s, %d-bit, CPL %u)", text,
		  known ? insn.info->name : "no instruction", 16 << v->code_size, v->cpl);
}

static void report_state(struct kvm_cpu *c)
{
	static const char *const name[16] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15",
	};
	static const char *const seg[6] = { "es", "cs", "ss", "ds", "fs", "gs" };
	const struct vcpu *v = c->v;

	log_error(v->log, "processor %u at rip %016llx, rflags %llx", v->index,
		  (unsigned long long)v->rip, (unsigned long long)v->rflags);
	for (unsigned int i = 0; i < 16; i += 4)
		log_error(v->log, "  %s %016llx %s %016llx %s %016llx %s %016llx",
			  name[i], (unsigned long long)v->gpr[i],
			  name[i + 1], (unsigned long long)v->gpr[i + 1],
			  name[i + 2], (unsigned long long)v->gpr[i + 2],
			  name[i + 3], (unsigned long long)v->gpr[i + 3]);
	log_error(v->log, "  cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx",
		  (unsigned long long)v->cr0, (unsigned long long)v->cr2, (unsigned long long)v->cr3,
		  (unsigned long long)v->cr4, (unsigned long long)v->efer);
	for (unsigned int i = 0; i < 6; i++)
		log_error(v->log, "  %s %04x base %llx limit %x attributes %x", seg[i], v->seg[i].sel,
			  (unsigned long long)v->seg[i].base, v->seg[i].limit, v->seg[i].attr);
}

/* What KVM still tells of its state; the events it has half delivered stay as they are. */
void kvm_report(struct kvm_cpu *c, const char *fmt, ...)
{
	char text[256];
	struct vcpu *v = c->v;
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	v->err.code = 0;
	if (kvm_registers_get(c)) {
		report_state(c);
		report_code(c);
		if (c->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
			for (uint32_t i = 0; i < MIN(c->run->internal.ndata, 16U); i++)
				log_error(v->log, "  KVM's data %u: %llx", i,
					  (unsigned long long)c->run->internal.data[i]);
	}
	err_set(&v->err, EIO, "%s; the log says what the guest was doing: use --engine soft", text);
}

void kvm_counters(struct engine *en, const struct vcpu *v, counter_fn *tell, void *arg)
{
	const struct kvm_cpu *c = ((struct kvm *)en)->cpu[v->index];
	char name[64];

	tell(arg, "KVM exits", c->counts.exits);
	for (unsigned int i = 0; i < ARRAY_SIZE(c->counts.by_reason); i++) {
		if (!c->counts.by_reason[i])
			continue;
		snprintf(name, sizeof(name), "KVM exits: %s", kvm_exit_name(i));
		tell(arg, name, c->counts.by_reason[i]);
	}
	tell(arg, "instructions interpreted for KVM", c->counts.steps);
	tell(arg, "writes collected by KVM", c->counts.coalesced);
}
