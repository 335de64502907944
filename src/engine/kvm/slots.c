// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory as KVM has it: a slot for each RAM extent, made to agree with the extent
 * list before a vCPU runs; and registers whose writes may come late.
 *
 * What is not RAM makes KVM exit, writes to ROM too.  The local APIC's page is found by its
 * address (exits.c); a guest that moves it over RAM finds RAM there, unlike with the
 * software engine.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_SET_USER_MEMORY_REGION",
 * "KVM_REGISTER_COALESCED_MMIO".
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define RING_ENTRIES \
	((GUEST_PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / \
	 sizeof(struct kvm_coalesced_mmio))

/* Slot numbers are 16 bits of address space and 16 bits of slot: we use the first space. */
int kvm_slot_set(struct kvm *k, unsigned int index, bool watched, struct err *e)
{
	const struct kvm_slot *s = &k->slot[index];
	const struct kvm_userspace_memory_region r = {
		.slot = index, .guest_phys_addr = s->base, .memory_size = s->size,
		.userspace_addr = (uintptr_t)s->hva,
		.flags = (s->readonly ? KVM_MEM_READONLY : 0) |
			 (watched && !s->readonly ? KVM_MEM_LOG_DIRTY_PAGES : 0),
	};

	if (kvm_vm_ioctl(k, KVM_SET_USER_MEMORY_REGION, &r))
		return err_errno(e, errno, "KVM refuses %llu MiB of guest memory at 0x%llx",
				 (unsigned long long)s->size >> 20, (unsigned long long)s->base);
	return 0;
}

static int slot_remove(struct kvm *k, unsigned int index, struct err *e)
{
	struct kvm_slot *s = &k->slot[index];

	s->size = 0;
	free(s->dirty);
	s->dirty = NULL;
	return kvm_slot_set(k, index, false, e);
}

static bool slot_is(const struct kvm_slot *s, const struct ram_extent *x)
{
	return s->base == x->base && s->size == x->size && s->hva == x->hva &&
	       s->readonly == x->readonly;
}

static int slot_add(struct kvm *k, unsigned int index, const struct ram_extent *x, struct err *e)
{
	struct kvm_slot *s = &k->slot[index];

	*s = (struct kvm_slot){ .base = x->base, .size = x->size, .hva = x->hva,
				.readonly = x->readonly };
	if (k->watched) {
		s->dirty = calloc(kvm_slot_words(s), 8);
		if (!s->dirty)
			return err_set(e, ENOMEM, "out of memory for a map of written pages");
	}
	return kvm_slot_set(k, index, k->watched, e);
}

static int sync_locked(struct kvm *k, struct err *e)
{
	const struct gpa_space *space = k->space;
	int rc = 0;

	if (space->ram_count > k->slots_max)
		return err_set(e, ENOSPC, "guest memory has %u parts, and KVM here takes %u: use --engine "
			       "soft", space->ram_count, k->slots_max);
	for (unsigned int i = 0; i < k->slot_count && !rc; i++)
		if (k->slot[i].size && (i >= space->ram_count || !slot_is(&k->slot[i], &space->ram[i])))
			rc = slot_remove(k, i, e);
	for (unsigned int i = 0; i < space->ram_count && !rc; i++)
		if (!slot_is(&k->slot[i], &space->ram[i]))
			rc = slot_add(k, i, &space->ram[i], e);
	if (!rc)
		atomic_store(&k->slot_count, space->ram_count);
	return rc;
}

int kvm_slots_sync(struct kvm *k, struct err *e)
{
	const struct gpa_space *space = k->space;
	bool same = atomic_load(&k->slot_count) == space->ram_count;
	int rc;

	for (unsigned int i = 0; same && i < space->ram_count; i++)
		same = slot_is(&k->slot[i], &space->ram[i]);
	if (same)
		return 0;
	pthread_mutex_lock(&k->lock);
	rc = sync_locked(k, e);
	pthread_mutex_unlock(&k->lock);
	return rc;
}

void kvm_slots_destroy(struct kvm *k)
{
	for (unsigned int i = 0; i < RAM_EXTENTS_MAX; i++)
		free(k->slot[i].dirty);
}

/* --- writes that may come late --- */

/* The devices are there when the engine is made; without the ring all writes exit. */
int kvm_coalesced_init(struct kvm *k, struct err *e)
{
	struct gpa_space *s = k->space;
	int rc = 0;

	if (!kvm_cap(k, KVM_CAP_COALESCED_PIO))
		return 0;
	k->coalesced_page = kvm_cap(k, KVM_CAP_COALESCED_MMIO);
	if (!k->coalesced_page || (k->coalesced_page + 1) * GUEST_PAGE_SIZE > k->run_size) {
		k->coalesced_page = 0;
		return 0;
	}
	pthread_rwlock_rdlock(&s->lock);
	for (unsigned int i = 0; i < s->pio_count + s->mmio_count && !rc; i++) {
		bool port = i < s->pio_count;
		const struct io_region *r = port ? &s->pio[i] : &s->mmio[i - s->pio_count];
		const struct kvm_coalesced_mmio_zone zone = {
			.addr = r->base, .size = r->size, .pio = port,
		};

		if (r->ops->posted && kvm_vm_ioctl(k, KVM_REGISTER_COALESCED_MMIO, &zone))
			rc = err_errno(e, errno, "KVM refuses to collect writes to %s", r->name);
	}
	pthread_rwlock_unlock(&s->lock);
	return rc;
}

static void write_late(struct kvm_cpu *c, const struct kvm_coalesced_mmio *m)
{
	uint64_t value = 0;

	__builtin_memcpy(&value, m->data, MIN(m->len, 8U));
	if (m->pio)
		pio_write(c->kvm->space, m->phys_addr, m->len, value);
	else
		mmio_write(c->kvm->space, m->phys_addr, m->len, value);
	c->counts.coalesced++;
}

void kvm_coalesced_take(struct kvm_cpu *c)
{
	struct kvm *k = c->kvm;
	struct kvm_coalesced_mmio_ring *ring;
	uint32_t first;

	if (!k->coalesced_page)
		return;
	ring = (void *)((uint8_t *)c->run + k->coalesced_page * GUEST_PAGE_SIZE);
	if (ring->first == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&k->lock);
	/* Acquire: pairs with the kernel's write of an entry before it moves 'last'. */
	while ((first = ring->first) != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE)) {
		write_late(c, &ring->coalesced_mmio[first % RING_ENTRIES]);
		/* Release: the entry is read before the kernel may fill it again. */
		__atomic_store_n(&ring->first, (first + 1) % RING_ENTRIES,
				 __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&k->lock);
}
