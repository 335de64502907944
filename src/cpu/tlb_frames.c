// SPDX-License-Identifier: Apache-2.0
/*
 * From a RAM page back to the TLB entries that write to it, for taking a page that holds
 * code out of all write tables.
 *
 * Each page has two slots for the page indices (of any space or view) it was entered at:
 * its place in the kernel's map of all memory, and one more.  A third address replaces
 * one whose entries are gone; if both are in use the page is marked, and taking it out
 * scans everything that is in use.
 *
 * These are the entries of one vCPU.  With several, whoever caches code asks each of them
 * (ATTN_ENGINE), and does not trust the page before all have answered.
 */
#include "cpu/mmu.h"
#include "cpu/tlb_priv.h"

#include <sys/mman.h>

#define SLOT_VALID	BIT(63)
#define SLOT_MANY	UINT64_MAX	/* in the second: more than two */

struct frame {
	uint64_t slot[2];	/* index | SLOT_VALID, or 0 */
};

struct tlb_frames {
	struct frame *of[RAM_EXTENTS_MAX];	/* by extent and page; sparse */
	uint64_t bytes[RAM_EXTENTS_MAX];
};

static void *map_sparse(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* The frame of the page at @gpa, or NULL when the host has no memory for it. */
static struct frame *find_frame(struct vcpu *v, const struct ram_extent *x, gpa_t gpa)
{
	struct tlb_frames *f = v->tlb.frames;
	unsigned int n = x - v->space->ram;

	if (unlikely(!f)) {
		f = v->tlb.frames = map_sparse(sizeof(*f));
		if (!f)
			return NULL;
	}
	if (unlikely(!f->of[n])) {
		f->bytes[n] = (x->size >> GUEST_PAGE_SHIFT) * sizeof(struct frame);
		f->of[n] = map_sparse(f->bytes[n]);
		if (!f->of[n])
			return NULL;
	}
	return &f->of[n][(gpa - x->base) >> GUEST_PAGE_SHIFT];
}

bool tlb_frames_note(struct vcpu *v, struct ram_extent *x, gpa_t gpa, uint64_t index)
{
	struct frame *frame = find_frame(v, x, gpa);
	const uint8_t *hva = x->hva + (ALIGN_DOWN(gpa, GUEST_PAGE_SIZE) - x->base);
	uint64_t value = index | SLOT_VALID;

	if (unlikely(!frame))
		return false;
	if (frame->slot[0] == value || frame->slot[1] == value || frame->slot[1] == SLOT_MANY)
		return true;
	for (int i = 0; i < 2; i++)
		if (!frame->slot[i] || !tlb_writes_to(v, frame->slot[i] & ~SLOT_VALID, hva)) {
			frame->slot[i] = value;
			return true;
		}
	frame->slot[1] = SLOT_MANY;
	return true;
}

void tlb_protect_code_page(struct vcpu *v, gpa_t gpa)
{
	struct ram_extent *x = gpa_to_extent(v->space, gpa);

	if (!x)
		return;
	/* Before the entries go, so that a fill that comes later sees it. */
	__atomic_fetch_or(&x->page_flags[(gpa - x->base) >> GUEST_PAGE_SHIFT], PAGE_CODE,
			  __ATOMIC_SEQ_CST);
	tlb_drop_page_writes(v, gpa);
}

void tlb_drop_page_writes(struct vcpu *v, gpa_t gpa)
{
	struct ram_extent *x = gpa_to_extent(v->space, gpa);
	struct frame *frame;

	if (!x)
		return;
	frame = find_frame(v, x, gpa);
	if (!frame)	/* then no page of the extent was ever entered for writing */
		return;
	if (frame->slot[1] == SLOT_MANY)
		tlb_drop_writes_to(v, x->hva + (ALIGN_DOWN(gpa, GUEST_PAGE_SIZE) - x->base));
	else
		for (int i = 0; i < 2; i++)
			if (frame->slot[i])
				tlb_drop_writes(v, frame->slot[i] & ~SLOT_VALID);
	frame->slot[0] = frame->slot[1] = 0;
}

void tlb_frames_free(struct vcpu *v)
{
	struct tlb_frames *f = v->tlb.frames;

	if (!f)
		return;
	for (int i = 0; i < RAM_EXTENTS_MAX; i++)
		if (f->of[i])
			munmap(f->of[i], f->bytes[i]);
	munmap(f, sizeof(*f));
	v->tlb.frames = NULL;
}
