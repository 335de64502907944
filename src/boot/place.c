// SPDX-License-Identifier: Apache-2.0
/*
 * Where things go: the claims of a boot plan on the guest's memory.  Nothing here touches
 * guest memory.
 */
#include "boot/boot_priv.h"
#include "x86/regs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t plan_ram(const struct boot_plan *p)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < p->map.count; i++)
		if (p->map.entry[i].type == E820_RAM)
			sum += p->map.entry[i].size;
	return sum;
}

/* The piece that overlaps [@base, @base + @size), or NULL. */
static const struct boot_piece *piece_at(const struct boot_plan *p, gpa_t base, uint64_t size)
{
	for (unsigned int i = 0; i < p->piece_count; i++) {
		const struct boot_piece *q = &p->piece[i];

		if (base < q->base + q->size && q->base < base + size)
			return q;
	}
	return NULL;
}

bool plan_is_free(const struct boot_plan *p, gpa_t base, uint64_t size)
{
	if (size == 0 || base + size < base)
		return false;
	for (unsigned int i = 0; i < p->map.count; i++) {
		const struct e820_entry *r = &p->map.entry[i];

		if (r->type == E820_RAM && base >= r->base &&
		    base + size <= r->base + r->size)
			return !piece_at(p, base, size);
	}
	return false;
}

bool plan_find_low(const struct boot_plan *p, uint64_t size, uint64_t align, gpa_t from,
		   gpa_t limit, gpa_t *base)
{
	for (unsigned int i = 0; i < p->map.count; i++) {
		const struct e820_entry *r = &p->map.entry[i];
		const gpa_t end = MIN(r->base + r->size, limit);
		const struct boot_piece *q;
		gpa_t at = ALIGN_UP(MAX(r->base, from), align);

		if (r->type != E820_RAM)
			continue;
		while (at < end && size <= end - at) {
			q = piece_at(p, at, size);
			if (!q) {
				*base = at;
				return true;
			}
			at = ALIGN_UP(q->base + q->size, align);
		}
	}
	return false;
}

bool plan_find_high(const struct boot_plan *p, uint64_t size, uint64_t align, gpa_t limit,
		    gpa_t *base)
{
	for (unsigned int i = p->map.count; i-- > 0; ) {
		const struct e820_entry *r = &p->map.entry[i];
		gpa_t end = MIN(r->base + r->size, limit);
		const struct boot_piece *q;

		if (r->type != E820_RAM)
			continue;
		while (end > r->base && size <= end - r->base) {
			const gpa_t at = ALIGN_DOWN(end - size, align);

			if (at < r->base)
				break;
			q = piece_at(p, at, size);
			if (!q) {
				*base = at;
				return true;
			}
			end = q->base;
		}
	}
	return false;
}

static int plan_add(struct boot_plan *p, struct boot_piece piece, struct err *e)
{
	if (p->piece_count == PLAN_PIECES_MAX)
		return err_set(e, EINVAL, "the kernel has more than %u pieces", PLAN_PIECES_MAX);
	p->piece[p->piece_count++] = piece;
	return 0;
}

int plan_add_image(struct boot_plan *p, const char *what, gpa_t base, uint64_t size,
		   const uint8_t *data, uint64_t data_size, struct err *e)
{
	const uint64_t mib = plan_ram(p) >> 20;

	if (!plan_is_free(p, base, size))
		return err_set(e, EINVAL, "%s wants %llu bytes of memory at 0x%llx, which a guest "
			       "of %llu MiB does not have free there", what,
			       (unsigned long long)size, (unsigned long long)base,
			       (unsigned long long)mib);
	return plan_add(p, (struct boot_piece){ .base = base, .size = size, .data = data,
						.data_size = data_size, .zero = true }, e);
}

int plan_add_own(struct boot_plan *p, const char *what, uint64_t size, uint64_t align,
		 gpa_t *base, void **buf, struct err *e)
{
	struct boot_piece q = { .size = size, .data_size = size, .zero = true };
	int rc;

	/* Page 0 stays free: address 0 means "none" in the structures that we fill. */
	if (!plan_find_low(p, size, align, GUEST_PAGE_SIZE, BOOT_LIMIT, &q.base))
		return err_set(e, ENOMEM, "the guest's memory has no room for %s (%llu bytes)",
			       what, (unsigned long long)size);
	q.owned = calloc(1, size);
	if (!q.owned)
		return err_errno(e, ENOMEM, "could not prepare %s", what);
	q.data = q.owned;
	rc = plan_add(p, q, e);
	if (rc) {
		free(q.owned);
		return rc;
	}
	*base = q.base;
	*buf = q.owned;
	return 0;
}

int plan_add_string(struct boot_plan *p, const char *what, const char *text, gpa_t *base,
		    struct err *e)
{
	const size_t size = strlen(text) + 1;
	void *buf;
	int rc;

	rc = plan_add_own(p, what, size, 16, base, &buf, e);
	if (!rc)
		memcpy(buf, text, size);
	return rc;
}

int plan_add_initrd(struct boot_plan *p, const struct boot_file *initrd, gpa_t limit,
		    gpa_t *base, struct err *e)
{
	*base = 0;
	if (initrd->size == 0)
		return 0;
	if (initrd->size >= BOOT_LIMIT ||
	    !plan_find_high(p, initrd->size, GUEST_PAGE_SIZE, MIN(limit, BOOT_LIMIT), base))
		return err_set(e, ENOMEM, "initrd '%s' (%llu KiB) does not fit the guest's %llu MiB "
			       "of memory beside the kernel; give more with --memory",
			       initrd->name, (unsigned long long)(initrd->size + 1023) >> 10,
			       (unsigned long long)plan_ram(p) >> 20);
	return plan_add(p, (struct boot_piece){ .base = *base, .size = initrd->size,
						.data = initrd->data,
						.data_size = initrd->size,
						.from = { initrd->name, initrd->fd, 0 } }, e);
}

#define PTES		512
#define GDT_ENTRIES	4

/* Flat descriptors: code at 0x10 and data at 0x18, as Linux's protocol names them. */
static int add_gdt(struct boot_plan *p, uint64_t code, struct err *e)
{
	const uint64_t gdt[GDT_ENTRIES] = { 0, 0, code, 0x00cf93000000ffffULL };
	void *buf;
	int rc = plan_add_own(p, "a descriptor table", sizeof(gdt), 16, &p->gdt, &buf, e);

	if (!rc)
		memcpy(buf, gdt, sizeof(gdt));
	return rc;
}

int plan_add_flat_mode(struct boot_plan *p, struct err *e)
{
	return add_gdt(p, 0x00cf9b000000ffffULL, e);
}

int plan_add_long_mode(struct boot_plan *p, struct err *e)
{
	const uint64_t flags = PTE_P | PTE_W;
	uint64_t *t;
	void *buf;
	int rc;

	rc = add_gdt(p, 0x00af9b000000ffffULL, e);
	if (rc)
		return rc;
	/* PML4, page-directory-pointer table, four page directories of 2-MiB pages. */
	rc = plan_add_own(p, "page tables", 6 * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE,
			  &p->page_tables, &buf, e);
	if (rc)
		return rc;
	t = buf;
	t[0] = (p->page_tables + GUEST_PAGE_SIZE) | flags;
	for (unsigned int i = 0; i < 4; i++)
		t[PTES + i] = (p->page_tables + (2 + i) * GUEST_PAGE_SIZE) | flags;
	for (uint64_t i = 0; i < 4 * PTES; i++)
		t[2 * PTES + i] = i << 21 | PTE_PS | flags;
	return 0;
}
