// SPDX-License-Identifier: Apache-2.0
/*
 * Carrying a boot plan out: guest memory is written and the boot processor set to the
 * state that the loader promised.  Nothing here looks into an image any more.
 */
#include "boot/boot_priv.h"
#include "cpu/mmu.h"
#include "mem/space.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define NOTHING_AT	0x7c00	/* where a boot sector would be */
#define CHUNK		65536ULL	/* bytes of a file at a time */

static bool clear_range(struct gpa_space *s, gpa_t base, uint64_t size)
{
	static const uint8_t zero[64 * 1024];
	uint64_t n;

	for (; size; base += n, size -= n) {
		n = MIN(size, sizeof(zero));
		if (gpa_write(s, base, zero, n) != MEM_OK)
			return false;
	}
	return true;
}

/* Up to @size bytes of the file; more than none, or a sentence. */
static ssize_t read_source(const struct boot_source *f, uint64_t done, uint8_t *buf, uint64_t size,
			   struct err *e)
{
	ssize_t n;

	do
		n = pread(f->fd, buf, size, f->offset + done);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(e, errno, "cannot read '%s' to boot from it", f->name);
	if (!n)
		return err_set(e, EIO, "'%s' has become shorter since the VM was started", f->name);
	return n;
}

static int copy_source(struct gpa_space *s, const struct boot_piece *q, struct err *e)
{
	uint8_t buf[CHUNK];
	uint64_t done = 0;

	while (done < q->data_size) {
		ssize_t n = read_source(&q->from, done, buf, MIN(q->data_size - done, CHUNK), e);

		if (n < 0)
			return n;
		if (gpa_write(s, q->base + done, buf, n) != MEM_OK)
			return err_set(e, EIO, "guest memory at 0x%llx could not be written",
				       (unsigned long long)q->base);
		done += n;
	}
	return 0;
}

static int write_piece(struct gpa_space *s, const struct boot_piece *q, struct err *e)
{
	int rc = q->data ? 0 : copy_source(s, q, e);

	if (rc)
		return rc;
	if (q->data && gpa_write(s, q->base, q->data, q->data_size) != MEM_OK)
		goto fail;
	if (q->zero && !clear_range(s, q->base + q->data_size, q->size - q->data_size))
		goto fail;
	return 0;
fail:
	return err_set(e, EIO, "guest memory at 0x%llx could not be written",
		       (unsigned long long)q->base);
}

static int write_seed(const struct boot_plan *p, struct gpa_space *s, struct err *e)
{
	uint8_t seed[RNG_SEED_SIZE];
	int rc = 0;

	if (!p->rng_seed)
		return 0;
	if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		return err_errno(e, errno, "could not draw a random seed for the guest");
	if (gpa_write(s, p->rng_seed, seed, sizeof(seed)) != MEM_OK)
		rc = err_set(e, EIO, "guest memory for the random seed could not be written");
	explicit_bzero(seed, sizeof(seed));
	return rc;
}

#define ATTR_DATA	(SEG_P | SEG_S | SEG_W | SEG_A | SEG_DB | SEG_G)
#define ATTR_CODE	(SEG_P | SEG_S | SEG_CODE | SEG_W | SEG_A | SEG_G)
#define ATTR_TSS_BUSY	(SEG_P | 0xb)

static void set_flat_segments(struct vcpu *v, uint16_t code, uint16_t data, uint16_t code_size)
{
	for (unsigned int i = SEG_ES; i <= SEG_GS; i++)
		v->seg[i] = (struct segment){ .sel = data, .attr = ATTR_DATA,
					      .limit = UINT32_MAX };
	v->seg[SEG_CS] = (struct segment){ .sel = code, .attr = ATTR_CODE | code_size,
					   .limit = UINT32_MAX };
	v->tr = (struct segment){ .attr = ATTR_TSS_BUSY, .limit = 0x67 };
	v->idtr = (struct table_reg){ 0, 0 };
}

static void enter_flat32(const struct boot_plan *p, struct vcpu *v)
{
	if (p->mode == ENTRY_LINUX32) {
		set_flat_segments(v, 0x10, 0x18, SEG_DB);
		v->gdtr = (struct table_reg){ .base = p->gdt, .limit = 4 * 8 - 1 };
	} else {
		set_flat_segments(v, 0x08, 0x10, SEG_DB);
		v->gdtr = (struct table_reg){ 0, 0 };
	}
	v->cr0 = CR0_PE | CR0_ET;
	v->cr4 = 0;
	v->efer = 0;
	v->rip = p->rip;
}

static void enter_long64(const struct boot_plan *p, struct vcpu *v)
{
	set_flat_segments(v, 0x10, 0x18, SEG_L);
	v->gdtr = (struct table_reg){ .base = p->gdt, .limit = 4 * 8 - 1 };
	v->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_MP;
	v->cr3 = p->page_tables;
	v->cr4 = CR4_PAE;
	v->efer = EFER_LME | EFER_LMA;
	v->rip = p->rip;
}

int boot_enter(const struct boot_plan *p, struct gpa_space *s, struct vcpu *v, struct err *e)
{
	int rc = 0;

	for (unsigned int i = 0; i < p->piece_count && !rc; i++)
		rc = write_piece(s, &p->piece[i], e);
	if (!rc)
		rc = write_seed(p, s, e);
	if (rc)
		return rc;
	memset(v->gpr, 0, sizeof(v->gpr));
	v->gpr[REG_RAX] = p->rax;
	v->gpr[REG_RBX] = p->rbx;
	v->gpr[REG_RSI] = p->rsi;
	v->rflags = RFLAGS_FIXED;
	if (p->mode == ENTRY_LONG64)
		enter_long64(p, v);
	else
		enter_flat32(p, v);
	tlb_flush_all(v);
	tlb_switch_space(v, false);
	vcpu_update_mode(v);
	return 0;
}

int boot_nothing(struct gpa_space *s, struct vcpu *v, struct err *e)
{
	static const uint8_t code[] = { 0xf4, 0xeb, 0xfd };	/* hlt; jmp to it */

	if (gpa_write(s, NOTHING_AT, code, sizeof(code)) != MEM_OK)
		return err_set(e, EIO, "guest memory at 0x%x could not be written", NOTHING_AT);
	v->seg[SEG_CS].sel = 0;
	v->seg[SEG_CS].base = 0;
	v->rip = NOTHING_AT;
	return 0;
}
