/* SPDX-License-Identifier: Apache-2.0 */
/* What the emitters of code for windows (dbt_window_*.c) share. */
#ifndef ENGINE_SOFT_DBT_WINDOW_H
#define ENGINE_SOFT_DBT_WINDOW_H

#include "engine/soft/dbt_tr.h"

enum where { WHERE_LOW, WHERE_HIGH, WHERE_ANY };

#define REACH	BIT(32)		/* from a fact to an operand that needs no check */
#define BY_ENTRY 0xff		/* struct fact.by: true wherever the block is entered */
#define OFF_MAX	BIT(31)		/* of a fact, and between two that a loop takes for one */
#define COUNTER_MAX BIT(16)	/* of the counter of a loop with few turns, and of other small values */
#define STACK_SLACK BIT(20)	/* from an access or check in a block to RSP at its end */
#define NARROW_MAX BIT(32)	/* an index that is less, or half of that below 0, needs no check */
_Static_assert(REACH + OFF_MAX + BIT(30) + STACK_SLACK + 8 * (COUNTER_MAX + NARROW_MAX) < WINDOW_GUARD,
	       "operands could reach beyond the guard");

static inline uint64_t distance(int64_t a, int64_t b)
{
	return a > b ? (uint64_t)a - b : (uint64_t)b - a;
}

/* dbt_window_emit.c */

/* The fact with @m's registers, or NULL. */
struct fact *window_find_fact(struct known *k, const struct mem_operand *m);
/* From here on it is known that @m's registers + @off are in a window. */
void window_set_fact(struct tr *t, const struct mem_operand *m, int64_t off);
/* Can facts speak of the place of @m? */
bool window_has_facts(const struct mem_operand *m);
/* The window that @m is likely to be in. */
enum where window_guess(const struct tr *t, const struct mem_operand *m);
/* @m, without an index that is so small that the base is near the operand. */
struct mem_operand window_without_small(struct tr *t, const struct mem_operand *m);
/*
 * The window that the base of @m is likely to be in, and so is @m, because the index is narrow,
 * one of the registers @narrow.  The two may change places.
 */
enum where window_by_base(const struct tr *t, struct mem_operand *m, unsigned int narrow);
/* The host register with guest register @reg; r14, loaded here, if it has none of its own. */
unsigned int window_base_register(struct tr *t, unsigned int reg);
/* Faults unless host register @reg is in a window.  Clobbers rcx. */
void emit_window_check(struct tr *t, unsigned int reg);

/* dbt_window_value.c */

/* Is the value of register @reg, were the block run now, t->known.value[@reg]? */
bool window_value_known(const struct tr *t, unsigned int reg);
/* The address of @m, were the block run with the registers as they are now; or false. */
bool window_foresee(const struct tr *t, const struct mem_operand *m, gva_t *gva);
/* What is known of the values behind @i. */
void window_foresee_values(struct tr *t, const struct insn *i);
/* From which register @i, an addition of a constant, *@by, makes its first operand; or NO_REG. */
unsigned int insn_moved_from(const struct insn *i, int64_t *by);
/* Is @i's first operand, a whole register, narrow behind it: see struct known? */
bool insn_makes_narrow(const struct insn *i);
/* Does @i set its first operand, a whole register, to a constant? */
bool insn_is_constant(const struct insn *i);

#endif
