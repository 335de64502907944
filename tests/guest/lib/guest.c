// SPDX-License-Identifier: Apache-2.0
/* Start, output, checks and exceptions of guest images; see guest.h. */
#include "guest.h"

#define COM1	0x3f8

volatile struct trap trap;
struct gate idt[256] __attribute__((aligned(16)));
uint8_t ist_stack[IST_STACK_SIZE] __attribute__((aligned(16)));
uint8_t ring0_stack[RING0_STACK_SIZE] __attribute__((aligned(16)));
uint8_t user_stack[USER_STACK_SIZE] USER_DATA __attribute__((aligned(4096)));
uint8_t tss[8192] __attribute__((aligned(4096)));

static void (*handlers[256])(struct regs *r);
static unsigned int failed, made;
extern ulong try_rsp;
extern uint32_t multiboot_info;
extern void guest_unwind(ulong vector) __attribute__((noreturn));

static void put(char c)
{
	unsigned int i;

	for (i = 0; i < 100000 && !(inb(COM1 + 5) & 0x20); i++)
		;
	outb(COM1, c);
}

static void put_number(unsigned long long v, unsigned int base)
{
	char text[24];
	unsigned int n = 0;

	do {
		/* 64 by 32 bits without libgcc's help in 32-bit images */
		unsigned int digit = base == 16 ? v & 15 : (uint32_t)v % 10;

		text[n++] = "0123456789abcdef"[digit];
		v = base == 16 ? v >> 4 : (uint32_t)v / 10;
	} while (v);
	while (n)
		put(text[--n]);
}

static void vprint(const char *f, va_list ap)
{
	for (; *f; f++) {
		unsigned int longs = 0;
		unsigned long long v;
		const char *s;

		if (*f != '%') {
			put(*f);
			continue;
		}
		while (*++f == 'l')
			longs++;
		if (*f == 's') {
			for (s = va_arg(ap, const char *); *s; s++)
				put(*s);
			continue;
		}
		v = longs == 2 ? va_arg(ap, unsigned long long) :
		    longs == 1 ? va_arg(ap, unsigned long) : va_arg(ap, unsigned int);
		if (*f == 'd' && (int)v < 0) {
			put('-');
			v = -(int)v;
		}
		put_number(v, *f == 'x' ? 16 : 10);
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

bool check(bool ok, const char *name, const char *fmt, ...)
{
	va_list ap;

	made++;
	if (ok) {
		print("ok %s\n", name);
		return true;
	}
	failed++;
	print("not ok %s: ", name);
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print("\n");
	return false;
}

void guest_exit(int code)
{
	outl(0xf4, code);
	for (;;)
		asm volatile("cli; hlt");
}

void check_trap(int got, int vector, long error, const char *name)
{
	if (got != vector)
		check(false, name, "vector %d, expected %d (error %lx, ip %lx, cr2 %lx)", got, vector,
		      trap.regs.error, trap.regs.ip, trap.cr2);
	else if (vector >= 0 && error != -1 && (ulong)error != trap.regs.error)
		check(false, name, "error code %lx, expected %lx", trap.regs.error, (ulong)error);
	else
		check(true, name, " ");
}

void set_handler(unsigned int vector, void (*fn)(struct regs *r))
{
	handlers[vector] = fn;
}

__attribute__((used)) void trap_dispatch(struct regs *r)
{
	size_t size = sizeof(*r);

	if (handlers[r->vector]) {
		handlers[r->vector](r);
		return;
	}
#ifndef __x86_64__
	if (!(r->flags & BIT(17)))
		size = offsetof(struct regs, vm_es);
#endif
	memcpy((void *)&trap.regs, r, size);
	trap.cr2 = read_cr2();
	trap.stack = (ulong)r;
	if (!try_rsp) {
		print("not ok unexpected: vector %lu error %lx ip %lx cr2 %lx flags %lx\n",
		      r->vector, r->error, r->ip, (ulong)trap.cr2, r->flags);
		guest_exit(1);
	}
	guest_unwind(r->vector);
}

void set_gate(unsigned int vector, ulong at, unsigned int sel, unsigned int attr,
	      unsigned int ist)
{
	idt[vector].q[0] = (at & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
			   (uint64_t)attr << 40 | (uint64_t)(at >> 16 & 0xffff) << 48;
#ifdef __x86_64__
	idt[vector].q[1] = at >> 32;
#endif
}

void idt_load(void)
{
	struct { uint16_t limit; ulong base; } __attribute__((packed)) p = {
		sizeof(idt) - 1, (ulong)idt
	};

	asm volatile("lidt %0" : : "m" (p) : "memory");
}

/* @attr: descriptor bits 40-55. */
void gdt_set(unsigned int sel, uint32_t base, uint32_t limit, unsigned int attr)
{
	gdt[sel / 8] = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
		       (uint64_t)attr << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
		       (uint64_t)(base >> 24) << 56;
}

static void tables_init(void)
{
	ulong top = (ulong)ring0_stack + RING0_STACK_SIZE;
	unsigned int i;

	for (i = 0; i < 256; i++)
		set_gate(i, (ulong)trap_entries + 16 * i, SEL_KCODE, i == SYS ? 0xee : 0x8e, 0);
	set_gate(BP, (ulong)trap_entries + 16 * BP, SEL_KCODE, 0xee, 0);
	set_gate(OF, (ulong)trap_entries + 16 * OF, SEL_KCODE, 0xee, 0);
	idt_load();
	memcpy(tss + 4, &top, sizeof(top));
#ifdef __x86_64__
	tss[0x66] = 104;
	gdt[SEL_TSS / 8 + 1] = 0;
	top = (ulong)ist_stack + IST_STACK_SIZE;
	memcpy(tss + 0x24, &top, 8);
#else
	tss[8] = SEL_KDATA;
	tss[0x66] = 104;
#endif
	gdt_set(SEL_TSS, (uint32_t)(ulong)tss, 103, 0x89);
	asm volatile("ltr %w0; lldt %w1" : : "r" (SEL_TSS), "r" (0));
}

struct user_start { void (*fn)(void); ulong flags; };

static void enter_user(void *arg)
{
	struct user_start *u = arg;

	guest_iret((ulong)u->fn, SEL_UCODE, u->flags,
		   (ulong)user_stack + USER_STACK_SIZE - 64, SEL_UDATA);
}

int guest_user_flags(void (*fn)(void), ulong flags)
{
	struct user_start u = { fn, flags };

	return guest_try(enter_user, &u);
}

int guest_user(void (*fn)(void))
{
	return guest_user_flags(fn, 2);
}

__attribute__((used)) void guest_start(void)
{
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x03);
	outb(COM1 + 2, 0x07);
	outb(0x21, 0xff);		/* both PICs masked */
	outb(0xa1, 0xff);
	tables_init();
	guest_main();
	print("%s: %u checks, %u failed\n", failed ? "FAILED" : "passed", made, failed);
	guest_exit(failed != 0);
}

static bool starts_with(const char *s, const char *with)
{
	while (*with && *s == *with)
		s++, with++;
	return !*with;
}

bool guest_told(const char *text)
{
	const uint32_t *info = (const void *)(ulong)multiboot_info;
	const char *s = info[0] & 4 ? (const char *)(ulong)info[4] : "";

	while (*s && !starts_with(s, text))
		s++;
	return *s;
}
