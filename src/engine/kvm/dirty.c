// SPDX-License-Identifier: Apache-2.0
/*
 * Which pages of RAM the guest's processors wrote: by KVM's bitmaps, or by a ring of each
 * vCPU where the engine was made with one.  Both end in the slots' bitmaps.
 *
 * An instruction that the interpreter executed in KVM's place may have written anywhere, so
 * after one every page counts as written.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_GET_DIRTY_LOG",
 * "KVM_CAP_DIRTY_LOG_RING".
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define RING_ENTRIES	4096U

/* --- rings --- */

int kvm_ring_enable(struct kvm *k, struct err *e)
{
	const size_t most = kvm_cap(k, KVM_CAP_DIRTY_LOG_RING);
	const size_t size = MIN(most, RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	const struct kvm_enable_cap c = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { size } };

	if (!size)
		return err_set(e, ENOTSUP, "this host's KVM has no rings of written pages");
	if (kvm_vm_ioctl(k, KVM_ENABLE_CAP, &c))
		return err_errno(e, errno, "KVM refuses rings of written pages");
	k->ring_entries = size / sizeof(struct kvm_dirty_gfn);
	return 0;
}

int kvm_ring_map(struct kvm_cpu *c, struct err *e)
{
	const size_t size = c->kvm->ring_entries * sizeof(struct kvm_dirty_gfn);
	void *p;

	if (!size)
		return 0;
	p = c->kvm->sys->map(c->fd, size, KVM_DIRTY_LOG_PAGE_OFFSET * GUEST_PAGE_SIZE);
	if (p == MAP_FAILED)
		return err_errno(e, errno, "could not map the ring of processor %u", c->v->index);
	c->ring = p;
	return 0;
}

void kvm_ring_unmap(struct kvm_cpu *c)
{
	if (c->ring)
		c->kvm->sys->unmap(c->ring, c->kvm->ring_entries * sizeof(struct kvm_dirty_gfn));
}

static void note_page(struct kvm *k, uint32_t slot, uint64_t page)
{
	const struct kvm_slot *s = &k->slot[slot % RAM_EXTENTS_MAX];

	if (slot < RAM_EXTENTS_MAX && s->dirty && page < s->size >> GUEST_PAGE_SHIFT)
		s->dirty[page / 64] |= BIT(page % 64);
}

static bool take_ring(struct kvm_cpu *c)
{
	const unsigned int entries = c->kvm->ring_entries;
	bool any = false;

	for (;;) {
		struct kvm_dirty_gfn *g = &c->ring[c->ring_next % entries];

		/* Acquire: pairs with the kernel's write of slot and offset before the flag. */
		if (!(__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			return any;
		note_page(c->kvm, g->slot, g->offset);
		/* Release: the entry is read before the kernel may fill it again. */
		__atomic_store_n(&g->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		c->ring_next++;
		any = true;
	}
}

void kvm_ring_take_locked(struct kvm *k)
{
	bool any = false;

	for (unsigned int i = 0; i < KVM_CPUS_MAX; i++)
		if (k->cpu[i] && k->cpu[i]->ring)
			any |= take_ring(k->cpu[i]);
	if (any)
		kvm_vm_ioctl(k, KVM_RESET_DIRTY_RINGS, NULL);
}

/* --- what engine_ops has --- */

static int fetch_bitmap(struct kvm *k, unsigned int index, uint64_t *bits, uint64_t words,
			struct err *e)
{
	const struct kvm_dirty_log log = { .slot = index, .dirty_bitmap = bits };

	if (kvm_vm_ioctl(k, KVM_GET_DIRTY_LOG, &log))
		return err_errno(e, errno, "KVM does not tell which pages were written");
	for (uint64_t i = 0; i < words; i++)
		k->slot[index].dirty[i] |= bits[i];
	return 0;
}

static int fetch_slot(struct kvm *k, unsigned int index, struct err *e)
{
	const uint64_t words = kvm_slot_words(&k->slot[index]);
	uint64_t *bits = calloc(words, 8);
	int rc;

	if (!bits)
		return err_set(e, ENOMEM, "out of memory for a map of written pages");
	rc = fetch_bitmap(k, index, bits, words, e);
	free(bits);
	return rc;
}

/* Runs of pages of one slot; clears them. */
static void tell_slot(struct kvm_slot *s, void (*tell)(void *arg, gpa_t gpa, uint64_t len),
		      void *arg)
{
	const uint64_t pages = s->size >> GUEST_PAGE_SHIFT;
	uint64_t start = 0;
	bool in = false;

	for (uint64_t i = 0; i <= pages; i++) {
		bool set = i < pages && s->dirty[i / 64] >> i % 64 & 1;

		if (set && !in)
			start = i;
		if (!set && in)
			tell(arg, s->base + (start << GUEST_PAGE_SHIFT),
			     (i - start) << GUEST_PAGE_SHIFT);
		in = set;
	}
	__builtin_memset(s->dirty, 0, kvm_slot_words(s) * 8);
}

static void note_all(struct kvm *k)
{
	for (unsigned int i = 0; i < RAM_EXTENTS_MAX; i++)
		if (k->slot[i].dirty && !k->slot[i].readonly)
			__builtin_memset(k->slot[i].dirty, 0xff, kvm_slot_words(&k->slot[i]) * 8);
}

static int collect_locked(struct kvm *k, struct err *e)
{
	int rc = 0;

	if (k->ring_entries)
		kvm_ring_take_locked(k);
	for (unsigned int i = 0; i < RAM_EXTENTS_MAX && !k->ring_entries && !rc; i++)
		if (k->slot[i].dirty && !k->slot[i].readonly)
			rc = fetch_slot(k, i, e);
	if (!rc && atomic_exchange(&k->stepped, false))
		note_all(k);
	return rc;
}

int kvm_dirty_collect(struct engine *en, void (*tell)(void *arg, gpa_t gpa, uint64_t len),
		      void *arg, struct err *e)
{
	struct kvm *k = (struct kvm *)en;
	int rc;

	pthread_mutex_lock(&k->lock);
	rc = collect_locked(k, e);
	for (unsigned int i = 0; i < RAM_EXTENTS_MAX && !rc; i++)
		if (k->slot[i].dirty)
			tell_slot(&k->slot[i], tell, arg);
	pthread_mutex_unlock(&k->lock);
	return rc;
}

static int watch(struct kvm *k, unsigned int index, struct err *e)
{
	struct kvm_slot *s = &k->slot[index];

	if (!s->size || s->dirty)
		return 0;
	s->dirty = calloc(kvm_slot_words(s), 8);
	if (!s->dirty)
		return err_set(e, ENOMEM, "out of memory for a map of written pages");
	return kvm_slot_set(k, index, true, e);
}

static void unwatch_locked(struct kvm *k)
{
	struct err e;

	k->watched = false;
	for (unsigned int i = 0; i < RAM_EXTENTS_MAX; i++) {
		if (!k->slot[i].dirty)
			continue;
		kvm_slot_set(k, i, false, &e);	/* if it fails the guest is only slower */
		free(k->slot[i].dirty);
		k->slot[i].dirty = NULL;
	}
}

int kvm_dirty_start(struct engine *en, struct err *e)
{
	struct kvm *k = (struct kvm *)en;
	int rc = 0;

	pthread_mutex_lock(&k->lock);
	for (unsigned int i = 0; i < RAM_EXTENTS_MAX && !rc; i++)
		rc = watch(k, i, e);
	k->watched = true;
	atomic_store(&k->stepped, false);
	if (rc)
		unwatch_locked(k);
	pthread_mutex_unlock(&k->lock);
	return rc;
}

void kvm_dirty_stop(struct engine *en)
{
	struct kvm *k = (struct kvm *)en;

	pthread_mutex_lock(&k->lock);
	if (k->ring_entries)
		kvm_ring_take_locked(k);
	unwatch_locked(k);
	pthread_mutex_unlock(&k->lock);
}
