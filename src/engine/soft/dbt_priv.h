/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The translator's inside.  Host registers while translated code runs:
 *
 *   rax rdx rbx rbp rsi rdi r8 r9 r12	the guest's own
 *   r11		guest RCX	(rcx is ours: JRCXZ tests it without flags)
 *   r10		guest RSP	(rsp is ours: a private stack of return addresses)
 *   r14, rcx		temporaries: guest-virtual address, delta
 *   rsp		the private stack: host return addresses of guest calls
 *   flags		the guest's arithmetic flags; DF clear, AC clear
 *   SIMD, x87		the guest's
 *
 * The rest depends on how memory is reached (MODE_WINDOW):
 *			tables of page deltas		windows
 *   r15, r13		those for reads and for writes,	the guest's own
 *			plus TABLE_BIAS
 *   fs:, gs:		as C code has them		the low and the high window
 *   struct vcpu		guest R10 R11 R13 R14 R15	guest R10 R11 R14
 *
 * struct vcpu is below 2 GiB, and its fields are absolute addresses in the code.
 *
 * Between two guest instructions the guest's whole state is in these places, so any host
 * address within an instruction maps to the state before it: a fault, a miss or a signal
 * goes on in the interpreter at that instruction.
 */
#ifndef VIREO_ENGINE_SOFT_DBT_PRIV_H
#define VIREO_ENGINE_SOFT_DBT_PRIV_H

#include "cpu/mmu.h"
#include "engine/soft/dbt.h"
#include "engine/soft/dbt_emit.h"
#include "engine/soft/trap.h"
#include "engine/trace.h"
#include "x86/decode.h"
#include "x86/regs.h"

#include <stdio.h>

enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI,
       H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15 };

#define H_ADDR		H_R14	/* temporary: guest-virtual address */
#define H_TMP		H_RCX	/* temporary: delta */
#define H_READ		H_R15	/* table for reads */
#define H_WRITE		H_R13	/* table for writes */
#define H_GRSP		H_R10	/* guest RSP */
#define H_GRCX		H_R11	/* guest RCX */
#define IN_MEMORY	0xff	/* guest register without a host register */

/* Guest registers' places, [1] in code for windows. */
static const uint8_t host_regs[2][16] = {
	{ H_RAX, H_GRCX, H_RDX, H_RBX, H_GRSP, H_RBP, H_RSI, H_RDI,
	  H_R8, H_R9, IN_MEMORY, IN_MEMORY, H_R12, IN_MEMORY, IN_MEMORY, IN_MEMORY },
	{ H_RAX, H_GRCX, H_RDX, H_RBX, H_GRSP, H_RBP, H_RSI, H_RDI,
	  H_R8, H_R9, IN_MEMORY, IN_MEMORY, H_R12, H_R13, IN_MEMORY, H_R15 },
};

/* Added to the tables' addresses, which are page-aligned: SHRX takes its count from there. */
#define TABLE_BIAS	28
#define TBLOCK_INSNS	64		/* guest instructions in a block at most */
#define BLOCK_ROOM	65536		/* host bytes a block may need, and so many its record */
#define JUMP_CACHE	8192		/* entries in a set of the jump cache, */
#define JUMP_SHIFT	3		/* by the bits of the address from this one on */
#define FOUND_BITS	16		/* lookups that are remembered, */
#define FOUND_SHIFT	2		/* by the bits of the address from this one on */
#define RSP_OFF_MAX	(100 * 8)	/* see stack_may_wait() */
#define ISLAND_MAX	8		/* bytes: a call, a short jump and an index */
#define CELLS		32768		/* pages of user code with a word of their own: dbt_far.c */
#define GROUP_RANGE	512		/* bytes that a group's operands may span */
#define CALM_SPACE	51	/* from this bit on vcpu.calm has side.space */
#define TAG_SETS	32	/* of ids that are remembered, by tag, */
#define TAG_WAYS	4	/* and so many in each: spaces that take turns must not exclude each other */
#define PRIVATE_STACK	(64 * 1024)	/* bytes */
#define STRING_RUN_MAX	BIT(21)		/* bytes that one host instruction moves in a window */
#define NO_TAG		UINT64_MAX

/*
 * What was found for the kernel's code, or for the user's, in the mode in which it last ran, and
 * may be jumped to.  Each has its own polled word (vcpu.calm), sets of the jump cache and private
 * stack, so that neither ever gets to the other's code but by leaving translated code.
 */
struct side {
	uint64_t tag;		/* tlb.fetch_tag and mode that all this is for */
	/*
	 * What a lower [0] and an upper [1] address means depends on: an id of address space
	 * and mode; for global pages of the upper half of tlb.upper_tag and mode.  own_id: of the
	 * half that the side's own code is in.
	 */
	uint64_t id[2], own_id;
	uint64_t space;		/* the user's: a number for the tag, see dbt_far.c */
	uint64_t calm;		/* what vcpu.calm is while nothing wants attention */
	unsigned int set;	/* of the jump cache */
	uint64_t stack_base;	/* bottom of the private stack: holds ret_miss */
	uint64_t stack_sp;	/* rsp of its code while that does not run */
};

/* For going from one side's code to the other's: dbt_switch.c. */
struct gate {
	uint64_t shut;		/* not 0: the interpreter does it */
	uint64_t kernel_cs, kernel_ss, user_cs, user_ss; /* struct segment without the base */
	uint64_t to_user, iret_to_user;	/* the fixed code */
	uint64_t rsp_mask;	/* of RSP: what the check of windows looks at, or nothing */
	uint64_t refused;	/* flags that SYSRET and IRETQ are not to load */
	uint64_t null_ss;	/* likewise */
	/* IRETQ within the kernel, to the user: its own shut; and, negative, what must be where. */
	struct iret_gate {
		uint64_t shut;
		uint64_t descriptors;	/* where the two descriptors are, side by side: */
		uint64_t minus_low, minus_high;
		uint64_t minus_cs_sel, minus_ss_sel;
	} iret[2];
	uint64_t frame[5];	/* the words that it pops, read once */
	uint64_t nt_mask, if_mask, tf_mask, two, unusable_mask;
	struct gate_key {	/* what it was opened or shut for */
		uint64_t star, lstar, sfmask, efer, cr0, cr4, gdt;
		uint16_t gdt_limit;
		const struct window_set *windows;
		const struct cell_map *cell;
	} key;
};

/* What translated code finds in struct vcpu beside its own fields. */
struct dbt_hot {
	uint64_t offset_mask;	/* bits 0-11 */
	uint64_t flags_mask;	/* RFLAGS_ARITH */
	uint64_t pushf_mask;	/* what else PUSHF shows */
	uint64_t not_if, not_ac, not_df, df_mask;
	uint64_t page_mask;	/* bits 12-63 */
	struct tlb_view *view_ac, *view_no_ac;	/* supervisor views after STAC, CLAC */
	struct tlb_view *view_user;
	struct gate gate;
	uint64_t jump_mask;
	uint64_t sign_mask;	/* bits 47-63 */
	uint64_t tib_mask;	/* of an address: see cpu/window.h */
	/*
	 * Of a bit's number in units of 32 [0] or 64 bits: what must be 0, the unit's number, the
	 * number in it.
	 */
	uint64_t bit_far[2], bit_unit[2], bit_in[2];
	struct side side[2];	/* kernel, user: side_of() */
	uint64_t present_id;	/* of the side that runs, or last ran */
	uint64_t found_mask;
	uint64_t private_sp;	/* rsp of that side's code while C code runs */
	uint64_t base[2];	/* r15, r13 on entry to code for tables; fs, gs for windows */
	uint64_t leave;		/* the way out of code of the present kind */
	bool fs_taken;		/* FS and GS have the windows' bases: it puts FS back */
	uint64_t host_fs;	/* of C code meanwhile */
	uint64_t host_sp;	/* rsp of C code meanwhile */
	uint64_t resume;	/* where dbt_enter goes on */
	uint64_t entry;		/* host address to enter at */
	uint64_t target;	/* guest address */
	uint64_t scratch;
	uint64_t string_rsi;
	uint64_t run_mask[4];	/* counts that are too many for one run, by the size of elements */
	uint64_t fault_pc, fault_addr;	/* of the last host fault; address 0: unknown */
	uint64_t fault_rcx;
	/* Where the user's last fault was, plus calm, negative; how its code is entered: dbt_event.c */
	uint64_t again, again_code;
	const struct tblock *again_block;
	uint32_t reason, arg;
	int32_t status;		/* enum exec_status, with REASON_SEEN_TO */
	uint32_t branch;	/* where translated code went astray from, see BRANCH_RET */
	uint64_t seen_upper;	/* tlb.upper_tag and ... */
	uint32_t seen_changed;	/* ... dbt.changed when the sides were last right */
	struct tag_id {
		uint64_t tag;
		uint32_t id, space;	/* side.space; 0: none yet */
	} ids[TAG_SETS][TAG_WAYS];	/* of late, the last first */
	uint32_t last_id, last_space;
	bool watch;		/* see dbt_watch */
	uint64_t flags;		/* as LAHF and SETO AL leave them in AX */
	uint8_t in_chunk[256 + 64];		/* 1 for offsets 0-255, 0 beyond */
	uint8_t in_page[GUEST_PAGE_SIZE + GROUP_RANGE];	/* 1 for offsets 0-4095, 0 beyond */
	struct found {		/* blocks that C code looked for: dbt_jump.c */
		uint64_t minus_gva, minus_id;	/* id 0: none */
		uint8_t *code;
		struct tblock *block;
	} found[BIT(FOUND_BITS)];
	uint64_t cell[CELLS];	/* see dbt_far.c */
	uint64_t set_clock;
	struct jump_set {
		uint64_t tag;		/* whose */
		uint64_t used_at;
		unsigned int used;	/* entries, up to one more than the list has */
		uint16_t list[64];	/* their indices */
	} set[8];
	uint64_t jump[8 * JUMP_CACHE];	/* see dbt_jump.c */
};

_Static_assert(sizeof(struct dbt_hot) <= ENGINE_AREA, "struct vcpu has no room");

static inline struct dbt_hot *dbt_hot(struct vcpu *v)
{
	return (struct dbt_hot *)v->engine_area;
}

#define LAHF_FLAGS	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF)

static inline void flags_in(const struct vcpu *v, struct dbt_hot *hot)
{
	hot->flags = (v->rflags & LAHF_FLAGS) << 8 | (v->rflags >> 11 & 1);
}

/* As emit_jump_found() computes it. */
static inline struct found *found_slot(struct dbt_hot *hot, gva_t gva)
{
	return &hot->found[(gva + (gva >> GUEST_PAGE_SHIFT)) >> FOUND_SHIFT & (BIT(FOUND_BITS) - 1)];
}

#define IN_VCPU(field)	AT_VCPU(offsetof(struct vcpu, field))
#define IN_HOT(field)	AT_VCPU(offsetof(struct vcpu, engine_area) + offsetof(struct dbt_hot, field))
#define IN_SIDE(user, field) \
	AT_VCPU(offsetof(struct vcpu, engine_area) + offsetof(struct dbt_hot, side) + \
		(user) * sizeof(struct side) + offsetof(struct side, field))
#define IN_GPR(n)	AT_VCPU(offsetof(struct vcpu, gpr) + 8 * (n))

/* A segment but for its base */
static inline struct host_mem segment_word(unsigned int seg)
{
	return AT_VCPU(offsetof(struct vcpu, seg) + seg * sizeof(struct segment));
}

static inline struct host_mem segment_base(unsigned int seg)
{
	return AT_VCPU(offsetof(struct vcpu, seg) + seg * sizeof(struct segment) +
		       offsetof(struct segment, base));
}

/* How an instruction with a memory operand reaches the windows. */
enum site_kind {
	SITE_NEW,	/* by the window that its operand seems to be in */
	SITE_ANY,	/* by the constant in the slot */
	SITE_STEP,	/* not: the interpreter executes it */
};

struct tr;

struct slot {			/* a direct jump that can be chained */
	uint32_t from, to;	/* blocks' places: see place_of_block(); to 0: it is not chained */
	int32_t distance;	/* of the target from 'from' in the guest: slot_target() */
	/* In the list of 'to': places in dbt.slots plus 1, 0: none. */
	uint32_t next_in;
	uint32_t before_in : 31;
	uint32_t far_link : 1;	/* chained between global pages, until upper_tag changes */
	uint32_t patch;		/* the rel32, from the beginning of the code cache */
	/* From the beginning of what hardly runs of 'from': */
	uint16_t unchained;	/* where it points unchained */
	uint16_t probe;		/* another page: the lookup that is right for any mapping, plus 1; or 0 */
};

/* A place in the list of blocks that depend on a page of RAM. */
struct page_link {
	struct page_link *next, **link;
};

/* Of a block whose last instruction's last bytes are in another page. */
struct crossing {
	struct page_link page;	/* of that page */
	struct tblock *block;
	gpa_t second;		/* the page */
	uint64_t id;		/* hot.id that it is right for, and ... */
	uint32_t foreign;	/* ... runs of that instruction under another */
	uint32_t id_at;		/* -id in the code, from dbt.rw */
};

/* Many: no larger than it must be. */
struct tblock {
	gva_t gva;
	gpa_t gpa;
	uint8_t *code;		/* executable address */
	uint64_t leaders;	/* bit n: first of a group */
	uint64_t no_entry;	/* bit n: not to be entered at n */
	struct page_link page;	/* of the first page */
	uint32_t next_hash;	/* place of a block, or 0 */
	uint32_t in;		/* slots chained to it: a place in dbt.slots plus 1 */
	uint32_t first_slot;
	uint32_t made_at;	/* TSC >> MADE_AT_SHIFT when it was made or moved */
	int32_t cold_at;	/* what hardly runs, from code, */
	uint16_t cold_len;	/* in host bytes */
	uint16_t code_len;
	uint16_t mode;		/* enum dbt_mode bits */
	uint16_t size;		/* guest bytes */
	/* From the record's beginning in RECORD_UNITs, 0: there are none. */
	uint16_t steps_at;	/* see block_step() */
	uint16_t moves_at;	/* as in struct moves, from dbt.rw; else it cannot be moved */
	uint16_t crossing_at;	/* see crossing_of() */
	uint16_t move_count;
	uint16_t bytes_at;	/* what it was made from, if that is kept: dbt_sleep.c */
	uint16_t cell;		/* of its page: dbt_far.c; 0: none */
	uint8_t slots;		/* so many, from first_slot */
	uint8_t count;		/* instructions */
	uint8_t room;		/* entries of the arrays: one more than were decoded */
	uint8_t entry_len;	/* before code: is r14 our address? */
	uint8_t group_misses;	/* of groups without cold_groups */
	bool dead : 1;
	bool asleep : 1;	/* dead, and in a list of dbt.asleep */
	bool cold_groups : 1;	/* members of groups have code of their own, too */
	bool stack_waits : 1;	/* RSP is behind somewhere */
	/*
	 * By instruction, 'room' entries each: from gva, one more: the end; then host_off(), and
	 * with cold_groups cold_off(), with stack_waits rsp_off().
	 */
	uint16_t guest_off[];
};

#define RECORD_UNIT	8
#define MADE_AT_SHIFT	10

/* From code; one more: behind the last. */
static inline uint16_t *host_off(struct tblock *b)
{
	return b->guest_off + b->room;
}

/* From the cold code, plus 1, of members of groups: their code alone. */
static inline uint16_t *cold_off(struct tblock *b)
{
	return b->guest_off + 2 * b->room;
}

/* RSP is so many bytes behind its host register. */
static inline int16_t *rsp_off(struct tblock *b)
{
	return (int16_t *)(b->guest_off + 2 * b->room);
}

static inline uint8_t *block_end(const struct tblock *b)
{
	return b->code + b->code_len;
}

static inline uint8_t *block_cold(const struct tblock *b)
{
	return b->code + b->cold_at;
}

/* The code of member @n of a group by itself. */
static inline void *cold_code(struct tblock *b, unsigned int n)
{
	return block_cold(b) + cold_off(b)[n] - 1;
}

/* Where @b is entered at instruction @n (b->count: behind the last); NULL: it cannot be. */
static inline void *block_entry(struct tblock *b, unsigned int n)
{
	if (n < b->count && b->no_entry >> n & 1)
		return NULL;
	if (n < b->count && b->cold_groups && cold_off(b)[n] && !(b->leaders >> n & 1))
		return cold_code(b, n);
	return b->code + host_off(b)[n];
}

static inline void *block_part(struct tblock *b, unsigned int at)
{
	return (uint8_t *)b + at * RECORD_UNIT;
}

/* NULL: all of @b is in one page. */
static inline struct crossing *crossing_of(struct tblock *b)
{
	return b->crossing_at ? block_part(b, b->crossing_at) : NULL;
}

/* Instruction @n, ready to execute, if it is always stepped; or NULL. */
static inline const struct insn *block_step(struct tblock *b, unsigned int n)
{
	const uint8_t *place = block_part(b, b->steps_at);	/* plus 1, by instruction */
	const struct insn *step = block_part(b, b->steps_at + ALIGN_UP(b->room, RECORD_UNIT) / RECORD_UNIT);

	return b->steps_at && place[n] ? &step[place[n] - 1] : NULL;
}

/* What a translation depends on besides the code. */
enum {
	MODE_USER = BIT(0),	/* CPL is not 0 */
	MODE_SSE = BIT(1), MODE_AVX = BIT(2), MODE_AVX512 = BIT(3),
	MODE_TSD = BIT(4),	/* RDTSC is privileged */
	MODE_FSGSBASE = BIT(5),
	MODE_WINDOW = BIT(6),	/* memory operands through the windows of cpu/window.h */
	MODE_32 = BIT(7),	/* 32-bit code, flat segments: dbt_32.c; never with MODE_WINDOW */
	MODE_FS = BIT(8), MODE_GS = BIT(9),	/* and these have no limit */
	MODE_BITS = 10,
};

/* Of code of such a mode; of what ran last. */
static inline struct side *side_of(struct dbt_hot *hot, uint32_t mode)
{
	return &hot->side[(mode & MODE_USER) != 0];
}

static inline struct side *present_side(struct vcpu *v)
{
	return &dbt_hot(v)->side[v->cpl != 0];
}

/* Is the code of such a mode in the lower half of the address space? */
static inline bool lower_half(uint32_t mode)
{
	return mode & (MODE_USER | MODE_32);
}

static inline enum code_size mode_code_size(uint32_t mode)
{
	return mode & MODE_32 ? CODE_32 : CODE_64;
}

#define BLOCK_HASH	(1 << 17)
#define PAGE_HASH	(1 << 14)
#define SECOND_HASH	(1 << 10)
#define ASLEEP_HASH	(1 << 14)
#define PARTS_MAX	16
#define WANTED_BITS	16

/* A part of the code cache: dbt_part.c. */
struct part {
	unsigned int first_block, block_count;	/* in dbt.blocks */
	unsigned int first_slot, slot_count;	/* in dbt.slots */
	uint64_t bytes;		/* that it takes, once it is full */
};

/* Ways out: by how memory was reached, the last one after code for windows called the kernel. */
enum { LEAVE_TABLES, LEAVE_WINDOWS, LEAVE_TABLES_FS, LEAVES };
/* What a cell stands for: a page of user code at an address. */
struct cell_page {
	uint64_t key;			/* guest-virtual page and mode */
	uint64_t frame : 40;		/* guest-physical page's number */
	uint64_t blocks : 24;		/* translations; 0: the cell is free */
};

_Static_assert(MODE_BITS <= GUEST_PAGE_SHIFT, "struct cell_page has no room for a mode");

struct dbt {
	struct dbt_config cfg;
	struct gpa_space *space;
	int fd;
	uint8_t *rw, *rx;		/* the code cache's two mappings, and their size */
	uint64_t size;
	/* In the present part, writable: the first free byte, for what hardly runs too. */
	uint8_t *next, *next_cold;
	uint8_t *first;			/* behind the fixed code */
	void *exit_chain, *exit_indirect, *exit_step, *exit_here, *exit_poll, *exit_signal;
	void *enter[2], *leave[LEAVES];	/* [1]: code for windows */
	void *to_kernel[2], *to_user[2], *iret_to_user[2];	/* likewise, of the user's */
	void *iret_to_kernel;
	void *indirect[2], *ret_miss[2], *go[2];	/* for the kernel's code, for the user's */
	void *crosses[7], *crosses_here[7];	/* by log2 of a size: see emit_cross_checks() */
	void *looks_up[2][7];		/* the same, [1] for writes: see emit_lookups() */
	uint8_t *records;		/* what is known of the blocks, as large as the code cache */
	uint64_t records_used;		/* offset of the present part's first free byte */
	struct tblock **blocks;		/* by id, in each part in the order of their code */
	struct slot *slots;
	unsigned int block_count, slot_count;	/* places of the next ones, of the present part */
	struct part part[PARTS_MAX];
	unsigned int parts, present;
	uint64_t part_bytes;		/* memory a part may take in all */
	uint64_t area;			/* bytes in each part for code, for what hardly runs, for records */
	unsigned int part_blocks, part_slots;	/* and as many of these */
	struct bucket {
		uint32_t first;		/* place of a block, or 0 */
		uint32_t kinds;		/* bit n: there may be one of this kind, see kind_of() */
	} hash[BLOCK_HASH];
	struct page_link *page[PAGE_HASH], *second[SECOND_HASH];
	uint32_t asleep[ASLEEP_HASH];	/* places of blocks, by gpa: dbt_sleep.c */
	struct cell_page cell_page[CELLS];
	uint64_t cold_wanted[BIT(WANTED_BITS) / 64];	/* bits by hashed address: see dbt_group.c */
	uint32_t generation;		/* counts flushes of parts: older blocks may be gone */
	struct trap_region trap;
	uint32_t changed;		/* counts invalidations: private stacks are void */
	struct dbt_stats stats;
	struct vcpu *vcpu;		/* whose it is, and ... */
	struct dbt_hot *hot;		/* ... its dbt_hot */
	struct lockstep *lockstep;	/* NULL without */
	struct dbt_windows *windows;	/* NULL: not used */
	struct tr *work;		/* for the block being translated */
};

/* What stands for a block where there are many: where its record is; 0: none. */
static inline uint32_t place_of_block(const struct dbt *d, const struct tblock *b)
{
	return b ? ((const uint8_t *)b - d->records) / RECORD_UNIT + 1 : 0;
}

static inline struct tblock *block_at_place(const struct dbt *d, uint32_t place)
{
	return place ? (struct tblock *)(d->records + (place - 1ULL) * RECORD_UNIT) : NULL;
}

static inline struct tblock *slot_from(const struct dbt *d, const struct slot *s)
{
	return block_at_place(d, s->from);
}

/* Where the jump goes in the guest: 32-bit addresses wrap. */
static inline gva_t slot_target(const struct dbt *d, const struct slot *s)
{
	const struct tblock *from = slot_from(d, s);
	gva_t target = from->gva + s->distance;

	return from->mode & MODE_32 ? (uint32_t)target : target;
}

/* Is this optimization on? */
static inline bool with(const struct dbt *d, enum translator_opt o)
{
	return !(d->cfg.no & BIT(o));
}

/* dbt_32.c: code32_runs: is the present mode one for it? */
bool code32_runs(const struct vcpu *v);
/* What the present state, in which code32_runs(), makes a translation depend on. */
uint32_t code32_mode(const struct vcpu *v);

/*
 * hot.branch when an indirect jump or a RET may have gone to an address that is not
 * canonical: as hot.arg, and whether it was a RET.
 */
#define BRANCH_RET	0x80u
_Static_assert(TBLOCK_INSNS <= BRANCH_RET, "no room for the flag");


/* dbt_window.c: when windows are used, see there */
int windows_create(struct dbt *d, enum window_choice choice, struct err *e);
void windows_destroy(struct dbt *d);
/* With WINDOWS_ALWAYS: true if the present space had to be given them, and so the mode changed. */
bool windows_demand(struct dbt *d, struct vcpu *v);
/* User code ran until something wanted attention. */
void windows_sample(struct dbt *d, struct vcpu *v);
/*
 * A host fault at the site of guest-physical address @site: the interpreter has done the
 * instruction since, to the end if @done.  True: the site is to be translated anew.
 */
bool windows_fault(struct dbt *d, struct vcpu *v, gpa_t site, bool done);
/* False: user code with such a stack cannot run with windows, which were taken away. */
bool windows_fit(struct vcpu *v);
enum site_kind windows_site(const struct dbt *d, gpa_t site);

/* dbt_group.c */
/* Do the groups of code at @gpa fail so often that their members need code of their own? */
bool group_wants_cold(const struct dbt *d, gpa_t gpa);
/* Instruction @n of @b, first of a group, is interpreted. */
void group_missed(struct dbt *d, struct tblock *b, unsigned int n);

/* dbt_string.c */
/* After a host fault at @pc: if that repeats, RSI, RDI and RCX are what they have come to. */
void string_settle(struct vcpu *v, const uint8_t *pc);

/* dbt_switch.c */
/* Opens or shuts the gate; the side of the present @mode was seen to. */
void gate_set(struct dbt *d, struct vcpu *v, uint32_t mode);
/* Is it still right, if the present side is? */
bool gate_fits(struct vcpu *v);

/* dbt_iret.c: for gate_set() */
void gate_set_iret(struct gate *g, const struct vcpu *v);

/* dbt_block.c */
void emit_step(struct tr *t);
struct tblock *dbt_translate(struct dbt *d, struct vcpu *v, gva_t gva, gpa_t gpa);

/* dbt_move.c */
/*
 * The translation of @gpa for @mode, moved to v->rip from another guest address; or NULL, and
 * then there is room for one more.
 */
struct tblock *dbt_move(struct dbt *d, struct vcpu *v, gpa_t gpa, uint32_t mode);
/* Is the page of @b's last bytes the same in the present space?  Then @b is right for that. */
bool dbt_adopt(struct dbt *d, struct vcpu *v, struct tblock *b);
/* Ids begin anew: no block is right for any. */
void dbt_adopt_none(struct dbt *d);

/* dbt_trace.c: the present instruction was emitted; the block was made */
void trace_insn(struct tr *t);
void trace_block(const struct tr *t);

/* dbt_perf.c: the names of the fixed code and of a block for perf(1). */
void dbt_perf_fixed(struct dbt *d);
void dbt_perf_block(struct dbt *d, const struct tblock *b);

/* dbt_cache.c */
void dbt_insert(struct dbt *d, struct tblock *b);
void dbt_kill(struct dbt *d, struct tblock *b);
/* It and its jumps are in no list any more, and nobody finds it. */
void dbt_forget(struct dbt *d, struct tblock *b);
struct tblock *dbt_find(struct dbt *d, gva_t gva, gpa_t gpa, uint32_t mode);
/* All of @gpa and @mode, wherever that is mapped: the first one, and the one behind @b. */
struct tblock *dbt_first(struct dbt *d, gpa_t gpa, uint32_t mode);
struct tblock *dbt_next(struct dbt *d, const struct tblock *b);
struct slot *dbt_slot(struct dbt *d);
void dbt_unlink(struct dbt *d, struct slot *s);
void dbt_unlink_far(struct dbt *d);
/* From page to page? */
bool slot_is_far(const struct dbt *d, const struct slot *s);
void dbt_link(struct dbt *d, struct slot *s, struct tblock *to);
uint32_t dbt_mode(const struct vcpu *v);
/* That of 64-bit code of the user's or the kernel's in the present state, windows aside. */
uint32_t dbt_mode64(const struct vcpu *v, bool user);

/* dbt_part.c: the code cache's parts */
int parts_create(struct dbt *d, struct err *e);
void parts_destroy(struct dbt *d);
/* Behind the fixed code. */
void parts_init(struct dbt *d);
/* Room for one more block: if there is none, the oldest part's blocks go. */
void parts_make_room(struct dbt *d);
/* @b, which has just been made behind the others of the present part, is one of them. */
void parts_add(struct dbt *d, struct tblock *b);
/* The block whose code holds @host_pc, or NULL; and its id, or NO_BLOCK. */
struct tblock *dbt_block_at(struct dbt *d, const void *host_pc);
#define NO_BLOCK	UINT32_MAX
unsigned int dbt_id_at(struct dbt *d, const void *host_pc);

/* dbt_sleep.c: translations that are dead but may be right again */
/* The dead @b falls asleep, if its bytes are kept; in @room, from those of its page. */
void sleep_begin(struct dbt *d, struct tblock *b);
void sleep_keep_bytes(struct tblock *b, uint8_t *room, const uint8_t *page);
/* One that was made from what is in @page now, or NULL; woken by sleep_end(). */
struct tblock *sleep_find(struct dbt *d, gva_t gva, gpa_t gpa, uint32_t mode, const uint8_t *page);
void sleep_end(struct dbt *d, struct tblock *b);
/* It never wakes; none does. */
void sleep_forget(struct dbt *d, struct tblock *b);
void sleep_clear(struct dbt *d);

/* dbt_run.c: enters at @code once; the reason for which it left is in dbt_hot(v). */
void dbt_enter_once(struct dbt *d, struct vcpu *v, void *code);
/* The instruction of @b whose code, hot or cold, @pc is in; b->count: what follows the last. */
unsigned int dbt_insn_at(struct tblock *b, const uint8_t *pc);
/* Ids and jump cache for the present address space and mode; for its side alone */
void dbt_refresh(struct dbt *d, struct vcpu *v);
void side_use(struct dbt *d, struct vcpu *v, uint32_t mode);

/* Translated code has left: the state is made exact. */
void dbt_came_out(struct dbt *d, struct vcpu *v);
/* Sees to why; *code: where to go on, or NULL: nowhere. */
enum exec_status dbt_handle(struct dbt *d, struct vcpu *v, void **code);
/* May the present state run translated? */
bool dbt_runnable(const struct dbt *d, const struct vcpu *v);
/* False: something wants attention. */
void dbt_sample(struct dbt *d, struct vcpu *v);
bool dbt_elsewhere(const struct dbt *d, struct vcpu *v);
bool dbt_calm_down(struct vcpu *v);

/* dbt_event.c */
/* Is what happens at an instruction seen to without leaving the code cache? */
bool in_place(const struct dbt *d);
/* The user's code was at instruction @n of @b, and is the kernel's now. */
void again_note(struct dbt *d, struct vcpu *v, struct tblock *b, unsigned int n);
void again_forget(struct dbt_hot *hot);
/* Where to enter at to come to v->rip. */
void *dbt_go(struct dbt *d, struct vcpu *v);
/* Called by fixed code when translated code has left; where to go on. */
void *dbt_event(struct dbt *d, struct vcpu *v);
void emit_call_event(struct dbt *d, struct emit *e);
void emit_go(struct dbt *d, struct emit *e);
void emit_jump_again(struct emit *e, struct host_mem rip);

/* dbt_lockstep.c */
struct lockstep *lockstep_create(void);
/*
 * Runs @code both ways; EXEC_EXIT: they differ, v->err says where.  *ran: translated code ran,
 * and left for a reason.
 */
enum exec_status lockstep_run(struct dbt *d, struct vcpu *v, void *code, bool *ran);

/* Is code of this mode compared? */
static inline bool in_lockstep(const struct dbt *d, uint32_t mode)
{
	return d->lockstep && (d->cfg.lockstep == LOCKSTEP_ALL || mode & MODE_USER);
}

/* dbt_jump.c */
void jumps_init(struct dbt *d, struct dbt_hot *hot);
/* No block is left. */
void jumps_clear(struct dbt *d);
/* What C code found. */
void jumps_clear_found(struct dbt_hot *hot);
/* From now on @s is for @tag: a number for address space and mode, of code in the @lower half. */
void jumps_use(struct dbt *d, struct dbt_hot *hot, struct side *s, uint64_t tag, bool lower);
/* @b is right for what its side has now. */
void jumps_remember(struct dbt_hot *hot, const struct tblock *b);
void jumps_forget(struct dbt *d, const struct tblock *b);
void emit_jump_cached(struct emit *e, bool user);
void emit_jump_found(struct emit *e, void *miss);
uint8_t *emit_if_address(struct emit *e, gva_t gva);

/* dbt_far.c: jumps from page to page in user code */
/* Has code at @gva a far entry, for jumps from other pages? */
bool far_entered(const struct dbt *d, uint32_t mode, gva_t gva);
/* Of @b, which has one. */
void *far_entry(const struct tblock *b);
/* jrcxz to be bound: the cell holds. */
uint8_t *emit_far_entry(struct tr *t);
void emit_far_miss(struct tr *t);
/* @b, which is at a new address, has its page's cell; it goes, or leaves that address. */
void cell_take(struct dbt *d, struct tblock *b);
void cell_drop(struct dbt *d, struct tblock *b);
/* @b was found in the present address space and mode: so its page is as its cell says. */
void cell_hold(struct dbt_hot *hot, const struct tblock *b);
/* No cell holds; none is anybody's. */
void cells_expire(struct dbt_hot *hot);
void cells_clear(struct dbt *d);

/* dbt_enter.c */
void dbt_trap_init(struct dbt *d);
void dbt_emit_fixed(struct dbt *d, const struct vcpu *v);
/* wrfsbase, wrgsbase */
void emit_set_base(struct emit *e, unsigned int prefix, unsigned int reg);
void dbt_enter(struct dbt *d, struct vcpu *v, void *code);
/* For entering @code: the fixed code to jump to. */
void *dbt_prepare(struct dbt *d, struct vcpu *v, void *code);
void dbt_empty_private_stack(struct dbt *d, struct side *s);
void dbt_empty_private_stacks(struct dbt *d);

#endif
