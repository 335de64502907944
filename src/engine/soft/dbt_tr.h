/* SPDX-License-Identifier: Apache-2.0 */
/* A block that is being translated, and who emits what of it. */
#ifndef VIREO_ENGINE_SOFT_DBT_TR_H
#define VIREO_ENGINE_SOFT_DBT_TR_H

#include "engine/soft/dbt_priv.h"

/* A JRCXZ: to the interpreter or, with a size, to the question whether it must. */
struct near_exit {
	uint8_t *rel8;
	uint8_t n;
	bool group;		/* not to the interpreter: to the group's cold code */
	uint16_t size;
	void *back;
};

/* A way out of the block's code: a step, or to the cold code of the group led by @n. */
struct far_exit {
	uint8_t *rel32;
	uint8_t n;
	bool group;
};

/*
 * Instructions that share one lookup, because their operands are at known distances from
 * each other and all in one page.
 */
struct group {
	enum { GROUP_MEM, GROUP_PUSH, GROUP_POP } kind;
	unsigned int first, last;
	int64_t min;		/* the lowest displacement, and the bytes from there */
	unsigned int range;
	bool write;
};

/*
 * What is known of registers at a place in the code, because of instructions before it in
 * the block.  The instructions from the one that made it so to the one that relies on
 * it cannot be entered from elsewhere.
 */
struct known {
	/* The guest registers that rcx [0] and r14 [1] hold, equal to memory, or NO_REG. */
	uint8_t held[2], held_by[2];
	bool dirty[2];		/* not equal: memory is still to be written */
	/* For windows: see dbt_window_emit.c. */
	uint8_t facts;
	struct fact {
		uint8_t base, index, scale;	/* guest registers, as in an operand */
		uint8_t by;			/* the instruction that made it so */
		int64_t off;
	} fact[16];
	bool stack_moved;	/* RSP is not where it was last accessed or checked */
	int32_t rsp_off;	/* RSP is so many bytes behind its host register: dbt_flow.c */
	uint16_t written;	/* registers whose value cannot be foreseen, and of the others ... */
	uint64_t value[16];	/* ... were the block run with the registers as they are now */
	uint16_t sure;		/* of these, registers that have the value in any case, ... */
	uint8_t sure_by[16];	/* ... because of this instruction */
	uint16_t narrow;	/* registers from -2^31 to 2^32 - 1, likewise, */
	uint16_t small;		/* and those of them from 0 to COUNTER_MAX */
	uint8_t narrow_by[16];
};

/* A loop within a block, in code for windows. */
struct loop {
	uint8_t head;		/* instruction */
	uint8_t last;		/* the jump back; 0: it is not known how many turns there are */
	uint8_t counter;	/* else the register that counts them: COUNTER_MAX at most */
	uint16_t off;		/* of its code behind the checks made before the loop */
	struct known known;	/* there */
};

/* One block being translated. */
struct tr {
	struct dbt *d;
	struct vcpu *v;
	struct emit e;
	uint8_t *end;			/* of the code, while e is at what hardly runs */
	struct tblock *b;
	const struct insn *i;		/* the present one ... */
	unsigned int n;			/* ... and its number */
	unsigned int count;		/* of instructions in the block */
	gpa_t second;			/* page of the last one's last bytes, or GPA_NONE */
	uint64_t id;			/* as in struct crossing */
	uint32_t id_at;			/* 0: the last one is not checked */
	uint8_t *far_miss;		/* where the far entry goes else; NULL: there is none */
	uint64_t record_end;		/* offset in d->records */
	gva_t rip, next;		/* its address, the following one's */
	const struct group *in_group;	/* the one being emitted, or NULL */
	bool cold;			/* emitting members one by one */
	struct known known;
	uint64_t no_entry;		/* bit n: not to be entered from elsewhere */
	uint64_t always_step;		/* bit n: instruction n has no code of its own */
	uint64_t polled, counted;	/* bit n: jump n asks whether it should stop; need not, of a few turns */
	const char *why[TBLOCK_INSNS];	/* what was done with each: dbt_trace.c */
	unsigned int near_count, cross_count, step_count, group_count, loops, jump_count,
		     probe_calls;
	/* From here on, so many of them hold something. */
	struct insn insn[TBLOCK_INSNS];
	struct near_exit near[64];	/* waiting for an island */
	struct { struct near_exit exit; uint8_t *rel32; } cross[4 * TBLOCK_INSNS];
	struct far_exit step[12 * TBLOCK_INSNS];	/* jumps to steps' exits and cold code */
	struct group group[TBLOCK_INSNS / 2];
	struct loop loop[4];
	struct { uint8_t *rel32; gva_t target; void *own; bool probed; } jump[TBLOCK_INSNS + 1]; /* direct */
	uint8_t *probe_call[TBLOCK_INSNS];	/* indirect calls */
	struct moves moves;
};

/* Bytes of a stack slot and of an address, also of the instruction's own mode. */
static inline unsigned int word_of(const struct tr *t)
{
	return t->b->mode & MODE_32 ? 4 : 8;
}

static inline unsigned int insn_word(const struct insn *i)
{
	return i->code_size == CODE_64 ? 8 : 4;
}

/* An address in the code: it wraps. */
static inline gva_t code_gva(const struct tr *t, gva_t gva)
{
	return t->b->mode & MODE_32 ? (uint32_t)gva : gva;
}

static inline void e_load_word(struct tr *t, unsigned int dst, struct host_mem m)
{
	e_op_mem(&t->e, word_of(t) == 8, 0x8b, dst, m);
}

static inline void e_store_word(struct tr *t, struct host_mem m, unsigned int src)
{
	e_op_mem(&t->e, word_of(t) == 8, 0x89, src, m);
}

static inline void e_store_word_imm(struct tr *t, struct host_mem m, int32_t imm)
{
	(word_of(t) == 8 ? e_store_imm(&t->e, m, imm) : e_store32_imm(&t->e, m, imm));
}

static inline void e_lea_word(struct tr *t, unsigned int dst, struct host_mem m)
{
	e_op_mem(&t->e, word_of(t) == 8, 0x8d, dst, m);
}

/* dbt_32.c */
/* False if the operand, or the whole instruction, is the interpreter's.  True for 64-bit code. */
bool code32_reaches(const struct tr *t, const struct insn *i);
bool code32_copies(const struct tr *t, const struct insn *i);
bool code32_system(const struct insn *i);
/* r14, an offset, becomes a linear address: @base is the segment's.  Clobbers rcx. */
void code32_segment_base(struct tr *t, const struct mem_operand *m, struct host_mem base);
/* INC and DEC of one byte: true, and *i has the encoding with ModRM. */
bool code32_lengthen(struct insn *i);

/* Is this the user's code, not the kernel's? */
static inline bool user_side(const struct tr *t)
{
	return (t->b->mode & MODE_USER) != 0;
}

/* The host register with guest register @reg, or IN_MEMORY. */
static inline unsigned int host_reg(const struct tr *t, unsigned int reg)
{
	return host_regs[!!(t->b->mode & MODE_WINDOW)][reg];
}

/* The displacement of an operand with base @reg and displacement @disp. */
static inline int64_t base_disp(const struct tr *t, unsigned int reg, int64_t disp)
{
	return reg == REG_RSP ? disp + t->known.rsp_off : disp;
}

/* dbt_mem.c */
struct host_mem emit_operand(struct tr *t, const struct insn *i, unsigned int size);
struct host_mem emit_bytes_at(struct tr *t, unsigned int reg, unsigned int size, bool write);
struct host_mem emit_pointed(struct tr *t, unsigned int reg, int disp, bool write);
/* Where r14 leads for an access of @size bytes, or to the interpreter; not in code for windows. */
struct host_mem emit_looked_up(struct tr *t, unsigned int size, bool write);
/* rcx = where the page that r14 is in is, from there, in table @table; or 0 */
void emit_table_load(struct emit *e, unsigned int table);
void emit_near_step(struct tr *t, uint8_t *rel8);
void emit_islands(struct tr *t, bool fallthrough);
void emit_cross_checks(struct dbt *d, struct emit *e);
void emit_lookups(struct dbt *d, struct emit *e);
void emit_cross_exits(struct tr *t);
void emit_group_lookup(struct tr *t, unsigned int size, bool write);
void emit_effective(struct tr *t, const struct mem_operand *m, unsigned int dst, bool narrow);
void emit_segment_base(struct tr *t, const struct mem_operand *m);
void emit_lea(struct tr *t, const struct insn *i);

/* The temporaries hold nothing any more. */
static inline void temps_lost(struct tr *t)
{
	t->known.held[0] = t->known.held[1] = NO_REG;
}

/* Nothing is known of any register. */
static inline void regs_lost(struct tr *t)
{
	temps_lost(t);
	t->known.facts = 0;
}

/* dbt_window_emit.c */
struct host_mem emit_window_operand(struct tr *t, const struct mem_operand *m);
/* rcx = the constant of the window that host register @reg is in; faults if it is in none. */
void emit_window_constant(struct tr *t, unsigned int reg);
void window_begin(struct tr *t);
void window_entered(struct tr *t);
/* Before control may leave the block. */
void window_leave(struct tr *t);
unsigned int loop_end(const struct tr *t);
bool window_turns_counted(const struct tr *t);
void window_loop_head(struct tr *t);
/* Where the present jump to @target may go within the block, or NULL. */
void *window_loop_back(struct tr *t, gva_t target);
void window_after(struct tr *t, const struct insn *i);
bool window_direct(const struct tr *t, const struct mem_operand *m);

/* dbt_copy.c: false if @i is not of a kind that can be copied; nothing was emitted then. */
bool emit_copy(struct tr *t, const struct insn *i);
/* The same with the memory operand at host address r14 + @disp, rcx free. */
bool emit_copy_at(struct tr *t, const struct insn *i, int32_t disp);
/* Registers that only temporaries hold are put into memory. */
void put_temps(struct tr *t);
bool copy_is_quiet(const struct tr *t, const struct insn *i);
/* How many temporaries emit_copy or emit_copy_at need besides; more than 2: not copyable. */
unsigned int copy_temps(const struct tr *t, const struct insn *i);

/* dbt_group.c */
bool group_find(struct tr *t, unsigned int n, struct group *g);
bool emit_group_member(struct tr *t, const struct insn *i);
bool block_copies(struct tr *t, const struct insn *i);

/* dbt_flow.c: false if @i is not a stack or control-flow instruction that is done in line. */
bool emit_flow(struct tr *t, const struct insn *i, bool *ends);
void emit_settle_stack(struct tr *t);
bool stack_may_wait(struct tr *t);
void emit_taken(struct tr *t);
void emit_probes(struct tr *t);
void emit_continue(struct tr *t, gva_t rip);

void emit_push_scratch(struct tr *t);

static inline uint32_t branch_id(const struct tr *t)
{
	return t->d->block_count << 8 | t->n;
}
void emit_host_ret(struct tr *t);

/* Without an immediate. */
static inline bool is_plain_ret(const struct insn *i)
{
	return i->info->id == INSN_ID_RET && i->opsize == insn_word(i) &&
	       !(i->op_count && i->op[0].kind == OPND_IMM);
}

/* dbt_string.c: false if @i is not a string instruction that is done in line. */
bool emit_string(struct tr *t, const struct insn *i);
/* One whose code, if it is, has islands of its own. */
bool string_is_long(const struct insn *i);

/* dbt_bit.c: false if @i is no BT, BTS, BTR, BTC in memory, or not done in line. */
bool emit_bit(struct tr *t, const struct insn *i);

/* dbt_system.c: false if @i is not a sensitive instruction that is done in line. */
bool emit_system(struct tr *t, const struct insn *i, bool *ends);
void emit_load_tables(struct emit *e);

/* dbt_switch.c: false if SYSCALL, SYSRET is the interpreter's. */
bool emit_syscall(struct tr *t);
bool emit_sysret(struct tr *t, const struct insn *i);
void emit_switches(struct dbt *d, struct emit *e, const struct vcpu *v);
bool switches(const struct tr *t);
/* A stack pointer, in @reg, for code with windows has passed their check; faults if it does not. */
void emit_check_stack(struct tr *t, unsigned int reg);
/* Fixed code: segment @seg, of base 0, is what is at @from.  Clobbers @tmp. */
void emit_segment(struct emit *e, unsigned int seg, struct host_mem from, unsigned int tmp);
/* rcx = the flags to load, of which RFLAGS takes @mask; clobbers rax. */
void emit_load_rflags(struct emit *e, struct host_mem from, uint32_t mask);
/* The host's arithmetic flags are those in rcx.  Clobbers rax. */
void emit_arith_flags(struct emit *e);

/* dbt_iret.c: false if it is the interpreter's; and its fixed code */
bool emit_iretq(struct tr *t, const struct insn *i);
void emit_iret_frame(struct emit *e);
void emit_iret_kernel(struct dbt *d, struct emit *e);

#endif
