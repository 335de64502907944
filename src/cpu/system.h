/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What privileged and segment instructions mean, for every engine: the engine decodes
 * operands, these functions do the checks and the work.  All of them expect v->rip at the
 * start of the instruction and leave it there on EXEC_FAULT; those that transfer control
 * set v->rip, the others leave advancing it to the caller.  @next is the address of the
 * following instruction.
 *
 * Source: Intel SDM volume 2 (each instruction) and volume 3, "Protection", "Task
 * Management".
 */
#ifndef VIREO_CPU_SYSTEM_H
#define VIREO_CPU_SYSTEM_H

#include "cpu/except.h"

/* MOV Sreg, POP Sreg, LDS and friends; CS is refused with #UD by the caller. */
enum exec_status seg_load(struct vcpu *v, unsigned int seg, uint16_t sel);
/* Real mode or VM86 style load, no checks: sel << 4. */
void seg_load_real(struct vcpu *v, unsigned int seg, uint16_t sel);
enum exec_status sys_lldt(struct vcpu *v, uint16_t sel);
enum exec_status sys_ltr(struct vcpu *v, uint16_t sel);
/* LAR, LSL, VERR, VERW: *ok is ZF; no fault but for memory. */
enum exec_status sys_lar(struct vcpu *v, uint16_t sel, uint32_t *value, bool *ok);
enum exec_status sys_lsl(struct vcpu *v, uint16_t sel, uint32_t *value, bool *ok);
enum exec_status sys_verify(struct vcpu *v, uint16_t sel, bool write, bool *ok);

/* Far transfers; @opsize 2, 4 or 8.  @next is also what a task that is left goes on at. */
enum exec_status far_jump(struct vcpu *v, uint16_t sel, uint64_t off, unsigned int opsize,
			  gva_t next);
enum exec_status far_call(struct vcpu *v, uint16_t sel, uint64_t off, unsigned int opsize,
			  gva_t next);
enum exec_status far_return(struct vcpu *v, unsigned int opsize, unsigned int pop_bytes);
enum exec_status sys_iret(struct vcpu *v, unsigned int opsize, gva_t next);
enum exec_status sys_syscall(struct vcpu *v, gva_t next);
enum exec_status sys_sysret(struct vcpu *v, unsigned int opsize);
/* What they load, and RFLAGS that SYSRET takes from R11: all that exist but RF and VM. */
void syscall_segments(const struct vcpu *v, struct segment *cs, struct segment *ss);
void sysret_segments(const struct vcpu *v, bool is64, struct segment *cs, struct segment *ss);
#define FLAGS_SYSRET	0x3c7fd7ULL
enum exec_status sys_sysenter(struct vcpu *v, gva_t next);
enum exec_status sys_sysexit(struct vcpu *v, unsigned int opsize);

/*
 * Hardware task switch to the TSS @sel.  A fault found after the switch is the new task's:
 * EXEC_FAULT with v->rip already there.
 */
enum task_reason { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_GATE };
enum exec_status task_switch(struct vcpu *v, uint16_t sel, enum task_reason why, gva_t next,
			     bool has_error, uint32_t error);

enum exec_status sys_mov_to_cr(struct vcpu *v, unsigned int cr, uint64_t value);
enum exec_status sys_mov_from_cr(struct vcpu *v, unsigned int cr, uint64_t *value);
enum exec_status sys_mov_to_dr(struct vcpu *v, unsigned int dr, uint64_t value);
enum exec_status sys_mov_from_dr(struct vcpu *v, unsigned int dr, uint64_t *value);
enum exec_status sys_clts(struct vcpu *v);
enum exec_status sys_lmsw(struct vcpu *v, uint16_t value);
enum exec_status sys_invlpg(struct vcpu *v, gva_t gva);
enum exec_status sys_invpcid(struct vcpu *v, uint64_t type, uint64_t pcid, uint64_t gva);
enum exec_status sys_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value);
enum exec_status sys_wrmsr(struct vcpu *v, uint32_t index, uint64_t value);
enum exec_status sys_rdtsc(struct vcpu *v, uint64_t *value);
enum exec_status sys_rdpmc(struct vcpu *v, uint32_t index, uint64_t *value);
enum exec_status sys_xsetbv(struct vcpu *v, uint32_t index, uint64_t value);
/* EXEC_EXIT when it halted; the caller advances v->rip then too. */
enum exec_status sys_hlt(struct vcpu *v);
enum exec_status sys_swapgs(struct vcpu *v);

/* Flags: POPF and PUSHF with IOPL, VM86, VIF rules; CLI, STI (sets the shadow). */
enum exec_status sys_popf(struct vcpu *v, uint64_t value, unsigned int opsize);
enum exec_status sys_pushf(struct vcpu *v, uint64_t *value);
enum exec_status sys_cli(struct vcpu *v);
enum exec_status sys_sti(struct vcpu *v);

/* EXEC_OK where [port, port+size) is allowed by IOPL or the bitmap in the TSS, else #GP(0). */
enum exec_status io_permitted(struct vcpu *v, uint16_t port, unsigned int size);
/* Port accesses after the check; they put SIMD state away first. */
uint32_t io_in(struct vcpu *v, uint16_t port, unsigned int size);
void io_out(struct vcpu *v, uint16_t port, unsigned int size, uint32_t value);

/* CPUID by the model: fills all four from leaf and subleaf. */
void sys_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/*
 * Debug registers: instruction breakpoints armed at linear @rip (RF clear)?  Data
 * breakpoints hit are recorded in v->db_pending by mmu.c's slow path.
 */
bool debug_code_breakpoint(struct vcpu *v, gva_t rip, uint64_t *dr6);

#endif
