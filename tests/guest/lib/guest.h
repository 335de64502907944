/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guest images share.  An image defines guest_main(), which makes checks; each
 * prints "ok name" or "not ok name: detail" on COM1, and the image leaves through the
 * debug-exit port with 0 (process status 1) if all were ok and 1 (status 3) if not.
 *
 * guest_try() runs a function until it returns or raises: the vector is its value, the
 * details are in 'trap'.  guest_user() does so in ring 3, where INT 80h is the regular
 * end.  Functions for ring 3 are marked USER, their data USER_DATA.
 */
#ifndef VIREO_GUEST_H
#define VIREO_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "select.h"

#define BIT(n)		(1ULL << (n))
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define USER		__attribute__((section(".utext"), noinline, used))
#define USER_DATA	__attribute__((section(".udata"), used))
#define NOINLINE	__attribute__((noinline))
/* Functions of nothing but the given instructions; the second for ring 3. */
#define KERNEL_ASM(fn, text) \
	void fn(void *arg); \
	asm(".pushsection .text\n" #fn ":\n" text "\n ret\n .popsection\n");
#define USER_ASM(fn, text) \
	void fn(void); \
	asm(".pushsection .utext, \"ax\"\n" #fn ":\n" text "\n int $0x80\n .popsection\n");

typedef unsigned long ulong;

enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM,
       SYS = 0x80, NONE = -1 };

struct regs {
#ifdef __x86_64__
	ulong r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
#else
	ulong gs, fs, es, ds, di, si, bp, sp_pusha, bx, dx, cx, ax;
#endif
	ulong vector, error, ip, cs, flags, sp, ss;
#ifndef __x86_64__
	ulong vm_es, vm_ds, vm_fs, vm_gs;
#endif
};

struct trap {
	struct regs regs;	/* sp and ss as pushed: valid from ring 3 and in 64-bit mode */
	ulong cr2;
	ulong stack;		/* where the frame is */
};

extern volatile struct trap trap;
extern uint64_t gdt[64];
extern uint8_t user_start[], user_end[], image_end[], stack_top[], trap_entries[];

void guest_main(void);
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints ok or not ok; the detail only if it is not. */
bool check(bool ok, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define check_eq(a, b, name) do { \
	unsigned long long a_ = (a), b_ = (b); \
	check(a_ == b_, name, "%llx, expected %llx", a_, b_); \
} while (0)
/* Is @text on the command line? */
bool guest_told(const char *text);
void guest_exit(int code) __attribute__((noreturn));

int guest_try(void (*fn)(void *), void *arg);
int guest_user(void (*fn)(void));
int guest_user_flags(void (*fn)(void), ulong flags);
void guest_iret(ulong ip, ulong cs, ulong flags, ulong sp, ulong ss);
/* Checks that @vector was raised with @error (-1: any). */
void check_trap(int got, int vector, long error, const char *name);
/* A handler that returns to the interrupted code; NULL: back to the default. */
void set_handler(unsigned int vector, void (*fn)(struct regs *r));

/* idt.c */
struct gate { uint64_t q[sizeof(long) / 4]; };
extern struct gate idt[256];
#define IST_STACK_SIZE	4096
extern uint8_t ist_stack[], user_stack[], ring0_stack[];
#define RING0_STACK_SIZE 8192
#define USER_STACK_SIZE	4096
void set_gate(unsigned int vector, ulong at, unsigned int sel, unsigned int type_dpl_p,
	      unsigned int ist);
void idt_load(void);
extern uint8_t tss[8192];
void gdt_set(unsigned int sel, uint32_t base, uint32_t limit, unsigned int attr);

static inline void outb(uint16_t port, uint8_t v) { asm volatile("outb %0, %1" : : "a" (v), "Nd" (port)); }
static inline void outl(uint16_t port, uint32_t v) { asm volatile("outl %0, %1" : : "a" (v), "Nd" (port)); }
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	asm volatile("inb %1, %0" : "=a" (v) : "Nd" (port));
	return v;
}

#define DEFINE_REG(name) \
static inline ulong read_##name(void) \
{ \
	ulong v; \
	asm volatile("mov %%" #name ", %0" : "=r" (v) : : "memory"); \
	return v; \
} \
static inline void write_##name(ulong v) \
{ \
	asm volatile("mov %0, %%" #name : : "r" (v) : "memory"); \
}
DEFINE_REG(cr0) DEFINE_REG(cr2) DEFINE_REG(cr3) DEFINE_REG(cr4)
DEFINE_REG(dr0) DEFINE_REG(dr1) DEFINE_REG(dr2) DEFINE_REG(dr3) DEFINE_REG(dr6) DEFINE_REG(dr7)

static inline uint64_t rdmsr(uint32_t i)
{
	uint32_t lo, hi;

	asm volatile("rdmsr" : "=a" (lo), "=d" (hi) : "c" (i));
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t i, uint64_t v)
{
	asm volatile("wrmsr" : : "c" (i), "a" ((uint32_t)v), "d" ((uint32_t)(v >> 32)) : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a" (lo), "=d" (hi));
	return (uint64_t)hi << 32 | lo;
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	asm volatile("cpuid" : "=a" (r[0]), "=b" (r[1]), "=c" (r[2]), "=d" (r[3])
		     : "a" (leaf), "c" (sub));
}

static inline ulong read_flags(void)
{
	ulong v;

	asm volatile("pushf; pop %0" : "=r" (v) : : "memory");
	return v;
}

static inline void invlpg(const void *p)
{
	asm volatile("invlpg (%0)" : : "r" (p) : "memory");
}

static inline void *memset(void *p, int c, size_t n)
{
	void *d = p;

	asm volatile("rep stosb" : "+D" (d), "+c" (n) : "a" (c) : "memory");
	return p;
}

static inline void *memcpy(void *to, const void *from, size_t n)
{
	void *d = to;

	asm volatile("rep movsb" : "+D" (d), "+S" (from), "+c" (n) : : "memory");
	return to;
}

#endif
