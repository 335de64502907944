/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files behind system.h and except.h share: descriptors, stacks that are not
 * loaded yet, and the commit steps of control transfers.
 *
 * Every function here that returns an exec_status changes nothing of the vCPU but
 * v->fault unless it returns EXEC_OK; accessed and busy bits in memory apart.  Faults are
 * raised without the EXT bit: the delivery of an external event adds it.
 */
#ifndef VIREO_CPU_SYSTEM_PRIV_H
#define VIREO_CPU_SYSTEM_PRIV_H

#include "cpu/mmu.h"
#include "cpu/system.h"

/* System descriptor types (SDM volume 3, "System Descriptor Types") */
enum {
	DESC_TSS16 = 1, DESC_LDT = 2, DESC_TSS16_BUSY = 3, DESC_CALL16 = 4, DESC_TASK_GATE = 5,
	DESC_INT16 = 6, DESC_TRAP16 = 7, DESC_TSS32 = 9, DESC_TSS32_BUSY = 11,
	DESC_CALL32 = 12, DESC_INT32 = 14, DESC_TRAP32 = 15,
};
#define DESC_BUSY	2U	/* in the type of a TSS descriptor */

#define SEL_RPL		3U
#define SEL_TI		4U

/* A descriptor as it was read once from guest memory. */
struct descriptor {
	gva_t at;		/* where it stands */
	uint64_t low, high;	/* high: bytes 8-15 of the 16-byte kind, else 0 */
	struct segment seg;	/* low unpacked, as for a segment register */
};

/* A gate: low and high read as one. */
struct gate {
	uint16_t sel;
	uint64_t off;
	unsigned int params;	/* call gates: words to copy */
	unsigned int ist;	/* 64-bit interrupt gates */
};

/* A stack to push on or pop from, loaded or not yet. */
struct stack {
	struct segment ss;
	uint64_t sp;
	uint64_t mask;		/* of the stack pointer: 16, 32 or 64 bits */
	uint8_t cpl;		/* privilege of its accesses */
	uint16_t error;		/* of #SS where the limit is passed */
};

static inline bool sel_null(uint16_t sel)
{
	return !(sel & ~SEL_RPL);
}

static inline uint16_t sel_error(uint16_t sel)
{
	return sel & ~SEL_RPL;
}

static inline bool seg_is_code(const struct segment *s)
{
	return (s->attr & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}

static inline bool seg_is_conforming(const struct segment *s)
{
	return seg_is_code(s) && s->attr & SEG_E;
}

static inline bool seg_is_writable_data(const struct segment *s)
{
	return (s->attr & (SEG_S | SEG_CODE | SEG_W)) == (SEG_S | SEG_W);
}

/* The type of a system descriptor, 0 (reserved) for code and data. */
static inline unsigned int desc_type(const struct segment *s)
{
	return s->attr & SEG_S ? 0 : s->attr & SEG_TYPE;
}

/* A segment register that holds a null selector; its DPL keeps the CPL where it is SS. */
static inline struct segment seg_null(uint16_t sel, unsigned int dpl)
{
	return (struct segment){ .sel = sel, .attr = SEG_UNUSABLE | dpl << SEG_DPL_SHIFT };
}

static inline bool in_real_or_vm86(const struct vcpu *v)
{
	return in_real_mode(v) || in_vm86(v);
}

static inline unsigned int rflags_iopl(const struct vcpu *v)
{
	return (v->rflags & RFLAGS_IOPL) >> RFLAGS_IOPL_SHIFT;
}

/* --- descriptor.c --- */

/* Reads @sel's descriptor; *inside is false where it is outside its table or null. */
enum exec_status desc_lookup(struct vcpu *v, uint16_t sel, struct descriptor *d, bool *inside);
/* The same for a selector that must be good: @vector(@sel) where it is not. */
enum exec_status desc_read(struct vcpu *v, uint16_t sel, unsigned int vector,
			   struct descriptor *d);
/* Reads bytes 8-15 in long mode, where system descriptors and gates have 16. */
enum exec_status desc_read_high(struct vcpu *v, uint16_t sel, unsigned int vector,
				struct descriptor *d);
/* Sets bits of the type in memory, atomically; desc_clear_type clears them. */
enum exec_status desc_set_type(struct vcpu *v, struct descriptor *d, unsigned int bits);
enum exec_status desc_clear_type(struct vcpu *v, struct descriptor *d, unsigned int bits);
/* Sets the accessed bit of code or data where it is clear, in memory and in @d. */
enum exec_status desc_set_accessed(struct vcpu *v, struct descriptor *d);
void desc_unpack(struct descriptor *d, uint16_t sel);
struct gate desc_gate(const struct descriptor *d);

/* --- stack.c --- */

/* The stack in use, and one whose SS is @ss. */
struct stack stack_current(const struct vcpu *v);
struct stack stack_of(const struct segment *ss, uint64_t sp, uint8_t cpl);
/* SS:ESP of the TSS for @cpl, checked for a transfer to it (#TS, #SS). */
enum exec_status stack_inner(struct vcpu *v, unsigned int cpl, struct stack *st);
/* RSPn (@ist 0) or an IST entry of the 64-bit TSS; SS is the null selector. */
enum exec_status stack_inner64(struct vcpu *v, unsigned int cpl, unsigned int ist,
			       struct stack *st);
/*
 * Pushes @count words of @size bytes, words[0] first, all or nothing; st->sp moves, the
 * vCPU's RSP does not.
 */
enum exec_status stack_push(struct vcpu *v, struct stack *st, const uint64_t *words,
			    unsigned int count, unsigned int size);
/* Reads @count words from @off bytes above the top; st->sp stays. */
enum exec_status stack_peek(struct vcpu *v, const struct stack *st, unsigned int off,
			    uint64_t *words, unsigned int count, unsigned int size);
/* RSP := st->sp, as wide as the mask says; stack_load loads SS too. */
void stack_commit(struct vcpu *v, const struct stack *st);
void stack_load(struct vcpu *v, const struct stack *st);

/* --- segment.c --- */

/* The checks of SS at privilege @cpl and of DS and friends; they raise @vector (#GP, #TS). */
enum exec_status stack_segment_check(struct vcpu *v, uint16_t sel, unsigned int cpl,
				     unsigned int vector, struct descriptor *d);
enum exec_status data_segment_check(struct vcpu *v, uint16_t sel, unsigned int vector,
				    struct descriptor *d);

/* --- far.c --- */

/* Is @off a target within @cs?  #GP(0) where it is not. */
enum exec_status code_check_target(struct vcpu *v, const struct segment *cs, uint64_t off);
/* Loads CS (its RPL becomes @cpl) and RIP. */
void code_commit(struct vcpu *v, const struct segment *cs, unsigned int cpl, uint64_t rip);
/* After a return to an outer level: takes away data segments it may not have. */
void segs_drop_inner(struct vcpu *v);

/* --- flags.c --- */

/* Sets RFLAGS, and what depends on TF, IF, AC, RF and VM. */
void flags_commit(struct vcpu *v, uint64_t rflags);

/* --- crdr.c --- */

/* Loads CR3 for a task switch: checks nothing, flushes as MOV CR3. */
void cr3_commit(struct vcpu *v, uint64_t cr3, bool keep);

/* --- debug.c --- */

/* Records an I/O breakpoint on [port, port+size) in v->db_pending. */
void debug_io_breakpoint(struct vcpu *v, uint16_t port, unsigned int size);

#endif
