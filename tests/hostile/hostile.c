// SPDX-License-Identifier: Apache-2.0
/*
 * A guest that means harm, in 64-bit and in 32-bit mode.  Its command line is
 * "KIND SEED COUNT"; it does COUNT random deeds of that kind and powers off, unless one of
 * them has ended it.  What becomes of it does not matter, only that the VMM lives on or ends
 * in a documented way: see hostile.sh.
 */
#include "guest.h"
#include "random.h"
#ifdef __x86_64__
#include "paging.h"
#endif

#define PORT_POWER	0x604
#define POWER_OFF	0x3400		/* SLP_EN, S5 */

extern uint32_t multiboot_info;
extern ulong try_rsp;
extern void guest_unwind(ulong vector) __attribute__((noreturn));
static uint8_t user_code[4096] USER_DATA __attribute__((aligned(4096)));
static uint8_t kernel_code[4096] __attribute__((aligned(4096)));

/* --- one access, of any width and to anything --- */

struct access { ulong at; uint64_t value; unsigned int how; };

static void port_access(void *arg)
{
	struct access *a = arg;
	uint16_t port = a->at;
	static uint8_t buffer[256];
	void *p = buffer;
	ulong n = 1 + a->value % 16;

	switch (a->how % 9) {
	case 0: asm volatile("inb %%dx" : : "d" (port) : "eax"); break;
	case 1: asm volatile("inw %%dx" : : "d" (port) : "eax"); break;
	case 2: asm volatile("inl %%dx" : : "d" (port) : "eax"); break;
	case 3: case 4: asm volatile("outb %0, %1" : : "a" ((uint8_t)a->value), "d" (port)); break;
	case 5: asm volatile("outw %0, %1" : : "a" ((uint16_t)a->value), "d" (port)); break;
	case 6: asm volatile("outl %0, %1" : : "a" ((uint32_t)a->value), "d" (port)); break;
	case 7: asm volatile("rep insl" : "+D" (p), "+c" (n) : "d" (port) : "memory"); break;
	case 8: asm volatile("rep outsw" : "+S" (p), "+c" (n) : "d" (port) : "memory"); break;
	}
}

static void memory_access(void *arg)
{
	struct access *a = arg;
	void *p = (void *)a->at, *q = kernel_code;
	ulong n = 1 + a->value % 40;

	switch (a->how % 16) {
	case 0: *(volatile uint8_t *)p; break;
	case 1: *(volatile uint16_t *)p; break;
	case 2: *(volatile uint32_t *)p; break;
	case 3: *(volatile uint64_t *)p; break;
	case 4: *(volatile uint8_t *)p = a->value; break;
	case 5: *(volatile uint16_t *)p = a->value; break;
	case 6: case 7: *(volatile uint32_t *)p = a->value; break;
	case 8: *(volatile uint64_t *)p = a->value; break;
	case 9: asm volatile("lock addl %1, (%0)" : : "r" (p), "r" ((uint32_t)a->value) : "memory"); break;
	case 10: asm volatile("lock cmpxchg8b (%0)" : : "r" (p) : "eax", "edx", "memory"); break;
	case 11: asm volatile("movups (%0), %%xmm0; movups %%xmm0, (%0)" : : "r" (p) : "memory"); break;
	case 12: asm volatile("rep movsb" : "+D" (p), "+S" (q), "+c" (n) : : "memory"); break;
	case 13: asm volatile("rep movsl" : "+D" (q), "+S" (p), "+c" (n) : : "memory"); break;
	case 14: asm volatile("fxsave (%0); fldl (%0)" : : "r" ((ulong)p & -16) : "memory"); break;
	case 15: asm volatile("btsl %k1, (%0); xchgl %k1, (%0)" : : "r" (p), "r" ((ulong)a->value) : "memory"); break;
	}
}

static void go_there(void *arg)
{
	((void (*)(void))((struct access *)arg)->at)();
}

/* The stack, or what the processor reads by itself, in a device. */
static void point_there(void *arg)
{
	struct access *a = arg;
	struct { uint16_t limit; ulong base; } __attribute__((packed)) p = { 0xffff, a->at };

	switch (a->how % 5) {
	case 0: asm volatile("lidt %0; int3" : : "m" (p) : "memory"); break;
	case 1: asm volatile("lgdt %0; mov %1, %%es" : : "m" (p), "r" (SEL_KDATA) : "memory"); break;
	case 2: asm volatile("mov %0, %%" "cr3" : : "r" (a->at & -4096UL) : "memory"); break;
#ifdef __x86_64__
	case 3: asm volatile("mov %0, %%rsp; push %%rax; ud2" : : "r" (a->at) : "memory"); break;
#else
	case 3: asm volatile("mov %0, %%esp; push %%eax; ud2" : : "r" (a->at) : "memory"); break;
#endif
	default: asm volatile("xrstor (%0); xsave (%0)" : : "r" (a->at & -64UL), "a" (7), "d" (0) : "memory"); break;
	}
}

static void msr_access(void *arg)
{
	struct access *a = arg;

	if (a->how % 4 == 0)
		rdmsr(a->at);
	else
		wrmsr(a->at, a->value);
}

/* --- deeds --- */

static void deed_ports(void)
{
	struct access a = { rnd_port(), rnd_value(), rnd() };

	if (!port_ends_it(a.at) || !rnd_below(2000))
		guest_try(port_access, &a);
}

static void deed_mmio(void)
{
	struct access a = { rnd_device_address(), rnd_value(), rnd() };

	guest_try(memory_access, &a);
}

static void deed_jump(void)
{
	struct access a = { rnd_device_address(), rnd_value(), rnd() };

	if (rnd_below(200))
		guest_try(rnd_below(2) ? go_there : memory_access, &a);
	else
		guest_try(point_there, &a);
}

static void deed_msr(void)
{
	static const uint32_t areas[] = {
		0, 0x10, 0x1b, 0x80, 0x170, 0x1d0, 0x200, 0x250, 0x2ff, 0x480, 0x6e0, 0x800,
		0xc80, 0xd90, 0x40000000, 0x4b564d00, 0xc0000080, 0xc0000100, 0xc0010000,
		0xc0010110, 0xc0011020,
	};
	struct access a = { areas[rnd_below(ARRAY_SIZE(areas))] + rnd_below(64), rnd_value(), rnd() };

	if (!rnd_below(8))
		a.at = rnd();
	if (!rnd_below(4))		/* near what it is now */
		a.value = (guest_try(msr_access, &a) < 0 ? rdmsr(a.at) : 0) ^ BIT(rnd_below(64));
	guest_try(msr_access, &a);
}

static void let_them_in(void *arg)
{
	(void)arg;
	asm volatile("sti; nop; nop; cli");
}

/* Chips that may interrupt: any mixture of both kinds. */
static void deed_chips(void)
{
	guest_try(let_them_in, NULL);
	asm volatile("cli");
	if (rnd_below(2))
		deed_ports();
	else
		deed_mmio();
}

static void deed_user(void)
{
	code_make(user_code, sizeof(long) * 8, false);
	guest_user_flags((void (*)(void))user_code, 0x202 | (rnd_below(8) ? 0 : rnd() & 0x40dd5));
}

static void deed_ring0(void)
{
	code_make(kernel_code, sizeof(long) * 8, true);
	guest_try((void (*)(void *))kernel_code, kernel_code);
}

#ifdef __x86_64__
static void enter_compat(void *arg)
{
	guest_iret((ulong)user_code, SEL_UCODE32, *(ulong *)arg,
		   (ulong)user_stack + USER_STACK_SIZE - 64, SEL_UDATA);
}

static void deed_compat(void)
{
	ulong flags = 0x202 | (rnd_below(8) ? 0 : rnd() & 0x40dd5);

	code_make(user_code, 32, false);
	guest_try(enter_compat, &flags);
}
#else
/* 16-bit code: with the 16-bit code segment; what it leaves from there is its own affair. */
static void enter_16(void *arg)
{
	guest_iret((ulong)arg, SEL_CODE16, 0x202, (ulong)ring0_stack + 4096, SEL_KDATA);
}

static void deed_16(void)
{
	uint8_t *low = (uint8_t *)0x8000;

	code_make(low, 16, true);
	guest_try(enter_16, low);
}
#endif

static const struct {
	const char *name;
	void (*deed)(void);
	bool watched;		/* something must be able to interrupt it */
} kinds[] = {
	{ "ports", deed_ports, false },
	{ "mmio", deed_mmio, false },
	{ "jump", deed_jump, false },
	{ "msr", deed_msr, false },
	{ "chips", deed_chips, false },
	{ "user", deed_user, true },
	{ "ring0", deed_ring0, true },
#ifdef __x86_64__
	{ "compat", deed_compat, true },
#else
	{ "code16", deed_16, true },
#endif
};

/* --- the frame --- */

static void ioapic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)0xfec00000 = reg;
	*(volatile uint32_t *)0xfec00010 = value;
}

/* It ends what goes on too long; between deeds there is nothing to end. */
static void watchdog(struct regs *r)
{
	if (try_rsp)
		guest_unwind(r->vector);
}

/* The PIT 200 times a second, through the I/O APIC as an NMI: CLI is no help. */
static void watchdog_start(void)
{
	outb(0x43, 0x34);
	outb(0x40, 5966 & 0xff);
	outb(0x40, 5966 >> 8);
	ioapic_write(0x10 + 2 * 2 + 1, 0);
	ioapic_write(0x10 + 2 * 2, 4 << 8);
}

/*
 * What the last deed may have spoilt, as far as it is needed: the IDT, the watchdog, and the
 * end of an NMI's handler, which is an IRET.
 */
static void recover(bool watched)
{
	idt_load();
	set_handler(NMI, watchdog);
	if (watched)
		watchdog_start();
#ifdef __x86_64__
	asm volatile("mov %%ss, %%eax; mov %%rsp, %%rdx; push %%rax; push %%rdx; pushf; mov %%cs, %%eax;"
		     "push %%rax; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
		     : : : "rax", "rdx", "memory", "cc");
#else
	asm volatile("pushf; push %%cs; push $1f; iret; 1:" : : : "memory", "cc");
#endif
}

static void power_off(void)
{
	asm volatile("outw %w0, %w1" : : "a" (POWER_OFF), "d" (PORT_POWER));
	for (;;)
		asm volatile("cli; hlt");
}

static const char *word(const char **p, uint64_t *number)
{
	const char *start;

	while (**p == ' ')
		(*p)++;
	start = *p;
	for (*number = 0; **p && **p != ' '; (*p)++)
		*number = *number * 10 + (**p - '0');
	return start;
}

static bool same(const char *a, const char *name)
{
	while (*name && *a == *name) {
		a++;
		name++;
	}
	return !*name && (*a == ' ' || !*a);
}

#ifdef __x86_64__
/* The devices' addresses below 4 GiB, one to one. */
static void map_devices(void)
{
	for (uint64_t at = 0xc0000000; at < 0x100000000; at += 0x200000)
		*page_entry(read_cr3(), at, 2) = at | P_P | P_W | P_PS;
}
#endif

void guest_main(void)
{
	const uint32_t *info = (void *)(ulong)multiboot_info;
	const char *line = (const char *)(ulong)info[4], *kind;
	uint64_t count, unused;
	unsigned int k = 0;

	kind = word(&line, &unused);
	word(&line, &seed);
	word(&line, &count);
	seed = (seed + 1) * 0x9e3779b97f4a7c15;
	while (k < ARRAY_SIZE(kinds) && !same(kind, kinds[k].name))
		k++;
	if (k == ARRAY_SIZE(kinds))
		guest_exit(0);
#ifdef __x86_64__
	paging_init();
	map_devices();
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1ULL);	/* no SYSCALL: there is no place to go */
#endif
	while (count--) {
		recover(kinds[k].watched);
		kinds[k].deed();
	}
	print("done\n");
	power_off();
}
