// SPDX-License-Identifier: Apache-2.0
/*
 * KVM's local APICs in place of ours, on the host's KVM: level-triggered messages to all of them
 * arrive, and each end is told, in xAPIC mode and in x2APIC mode.
 */
#include "kvm_rig.h"

#define SEND_PORT	0x200
#define TO_ALL		0xfeeff000U	/* destination ffh, physical */
#define LEVEL		BIT(15)
#define SPURIOUS	0xf		/* registers, in units of 16 bytes */
#define FIRST		0x41
#define SECOND		0x42

/* A message for each 1 that is written, a stop for anything else. */
static void send_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	/* A vector that is new makes KVM look at its routes again. */
	static const uint8_t vector[] = { FIRST, SECOND, FIRST };
	struct bench *b = dev;

	(void)off;
	(void)size;
	if (value != 1)
		vcpu_attention(b->v, ATTN_STOP);
	else if (b->reads < ARRAY_SIZE(vector) &&
		 !engine_kvm.send_msi(b->engine, TO_ALL, LEVEL | vector[b->reads++]))
		fail_msg("message %u was taken by nobody", b->reads);
}

static const struct io_ops send_io = { .write = send_write };

static void set_handler(struct bench *b, const uint8_t *code, size_t len)
{
	const uint32_t entry = HANDLER;

	gpa_write(&b->space, FIRST * 4, &entry, 4);
	gpa_write(&b->space, SECOND * 4, &entry, 4);
	gpa_write(&b->space, HANDLER, code, len);
}

/*
 * Counts interrupts in SI and sends three messages, each when the one before was taken.  Where KVM
 * emulates, the end of an interrupt comes some instructions late.
 */
static const uint8_t code[] = {
	0xba, 0, 2,		/*	mov  dx, 200h	*/
	0x31, 0xf6,		/*	xor  si, si	*/
	0x31, 0xdb,		/*	xor  bx, bx	*/
	0xfb,			/*	sti		*/
	0xb0, 1,		/* next: mov  al, 1	*/
	0xee,			/*	out  dx, al	*/
	0x39, 0xde,		/* wait: cmp  si, bx	*/
	0x74, 0xfc,		/*	je   wait	*/
	0x43,			/*	inc  bx		*/
	0x83, 0xfb, 3,		/*	cmp  bx, 3	*/
	0x72, 0xf3,		/*	jb   next	*/
	0xb9, 0xa0, 0x0f,	/*	mov  cx, 4000	*/
	0xe2, 0xfe,		/*	loop $		*/
	0xfa,			/*	cli		*/
	0x30, 0xc0,		/*	xor  al, al	*/
	0xee,			/*	out  dx, al	*/
	0xeb, 0xfe,		/*	jmp  $		*/
};

static struct bench *bench_with_apics(uint64_t base)
{
	struct bench *b = bench_create((struct engine_config){ .kvm_apics = KVM_APICS_KERNEL });
	const struct io_region r = { "send", SEND_PORT, 1, &send_io, b };

	assert_int_equal(gpa_space_add_pio(&b->space, &r, NULL), 0);
	b->apic.base = base;
	b->apic.reg[SPURIOUS] = 0x1ff;
	b->apic_anew = true;
	return b;
}

static void run_messages(struct bench *b)
{
	struct vcpu *v = b->v;

	vcpu_reset(v, false);
	gpa_write(&b->space, CODE, code, sizeof(code));
	v->seg[SEG_CS].sel = 0;
	v->seg[SEG_CS].base = 0;
	v->seg[SEG_DS].base = APIC_DEFAULT_BASE;
	v->rip = CODE;
	v->gpr[REG_RSP] = STACK;
	if (engine_kvm.vcpu_run(b->engine, v) != VCPU_EXIT_STOP)
		fail_msg("%s", v->err.text);
	assert_string_equal(b->order, "e41 e42 e41 ");
	bench_destroy(b);
}

static void test_xapic(void **state)
{
	struct bench *b = bench_with_apics(APIC_DEFAULT_BASE | 0x900);

	(void)state;
	/* mov [0b0h],eax; inc si; iret */
	set_handler(b, GUEST(0x66, 0xa3, 0xb0, 0, 0x46, 0xcf));
	run_messages(b);
}

static void test_x2apic(void **state)
{
	struct bench *b = bench_with_apics(APIC_DEFAULT_BASE | 0xd00);

	(void)state;
	/* pushad; mov ecx,80bh; xor eax,eax; xor edx,edx; wrmsr; popad; inc si; iret */
	set_handler(b, GUEST(0x66, 0x60, 0x66, 0xb9, 0x0b, 8, 0, 0, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2,
			     0x0f, 0x30, 0x66, 0x61, 0x46, 0xcf));
	run_messages(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_xapic), cmocka_unit_test(test_x2apic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
