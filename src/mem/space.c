// SPDX-License-Identifier: Apache-2.0
/* The guest-physical address space and the I/O ports; see space.h. */
#include "mem/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PORT_SPACE	0x10000ULL
#define RAM_GUARD	(64 * 1024ULL)	/* unmapped on both sides of an extent */

int gpa_space_init(struct gpa_space *s, struct err *e)
{
	int rc;

	memset(s, 0, sizeof(*s));
	rc = pthread_rwlock_init(&s->lock, NULL);
	if (rc)
		return err_errno(e, rc, "could not create the lock of the address space");
	return 0;
}

static void extent_unmap(struct ram_extent *x)
{
	if (x->hva)
		munmap(x->hva - RAM_GUARD, x->size + 2 * RAM_GUARD);
	if (x->fd >= 0)
		close(x->fd);
	free(x->page_flags);
}

void gpa_space_destroy(struct gpa_space *s)
{
	for (unsigned int i = 0; i < s->ram_count; i++)
		extent_unmap(&s->ram[i]);
	if (s->zeros)
		munmap(s->zeros, s->zeros_bytes);
	free(s->mmio);
	free(s->pio);
	pthread_rwlock_destroy(&s->lock);
	memset(s, 0, sizeof(*s));
}

static bool overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return a < b + blen && b < a + alen;
}

/* A memfd of @size bytes that can neither shrink nor grow any more. */
static int sealed_memfd(uint64_t size, struct err *e)
{
	int fd, rc;

	fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_errno(e, errno, "could not create the file behind guest memory");
	if (ftruncate(fd, size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		rc = err_errno(e, errno, "could not make %llu MiB of guest memory",
			       (unsigned long long)size >> 20);
		close(fd);
		return rc;
	}
	return fd;
}

/* Maps @x->fd with an inaccessible guard on both sides. */
static int extent_map(struct ram_extent *x, struct err *e)
{
	uint8_t *area;
	void *p;

	area = mmap(NULL, x->size + 2 * RAM_GUARD, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		goto fail;
	p = mmap(area + RAM_GUARD, x->size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, x->fd, 0);
	if (p == MAP_FAILED) {
		munmap(area, x->size + 2 * RAM_GUARD);
		goto fail;
	}
	x->hva = p;
	return 0;
fail:
	return err_errno(e, errno, "could not map %llu MiB of guest memory",
			 (unsigned long long)x->size >> 20);
}

static int add_extent(struct gpa_space *s, gpa_t base, uint64_t size, bool readonly,
		      struct err *e)
{
	struct ram_extent x = { .base = base, .size = size, .fd = -1, .readonly = readonly };
	int rc;

	if (!size || (base | size) & GUEST_PAGE_MASK || base + size < base ||
	    base + size > BIT(GPA_BITS))
		return err_set(e, EINVAL, "guest memory at 0x%llx, %llu bytes, is not page-aligned or too large",
			       (unsigned long long)base, (unsigned long long)size);
	if (s->ram_count == RAM_EXTENTS_MAX)
		return err_set(e, ENOSPC, "guest memory has at most %d extents", RAM_EXTENTS_MAX);
	for (unsigned int i = 0; i < s->ram_count; i++)
		if (overlaps(base, size, s->ram[i].base, s->ram[i].size))
			return err_set(e, EEXIST, "guest memory at 0x%llx overlaps another extent",
				       (unsigned long long)base);

	x.page_flags = calloc(size >> GUEST_PAGE_SHIFT, 1);
	if (!x.page_flags)
		return err_set(e, ENOMEM, "out of memory for the page flags of guest memory");
	x.fd = sealed_memfd(size, e);
	rc = x.fd < 0 ? x.fd : extent_map(&x, e);
	if (rc) {
		extent_unmap(&x);
		return rc;
	}
	s->ram[s->ram_count++] = x;
	return 0;
}

int gpa_space_add_ram(struct gpa_space *s, gpa_t base, uint64_t size, struct err *e)
{
	return add_extent(s, base, size, false, e);
}

int gpa_space_add_rom(struct gpa_space *s, gpa_t base, uint64_t size, struct err *e)
{
	return add_extent(s, base, size, true, e);
}

static int add_region(struct io_region **list, unsigned int *count, uint64_t limit,
		      const struct io_region *r, struct err *e)
{
	struct io_region *grown;
	unsigned int at;

	if (!r->size || r->base + r->size < r->base || r->base + r->size > limit)
		return err_set(e, EINVAL, "%s: range 0x%llx, %llu bytes, is outside its address space",
			       r->name, (unsigned long long)r->base, (unsigned long long)r->size);
	for (at = 0; at < *count && (*list)[at].base < r->base; at++)
		;
	for (unsigned int i = 0; i < *count; i++)
		if (overlaps(r->base, r->size, (*list)[i].base, (*list)[i].size))
			return err_set(e, EEXIST, "%s at 0x%llx overlaps %s", r->name,
				       (unsigned long long)r->base, (*list)[i].name);
	grown = realloc(*list, (*count + 1) * sizeof(**list));
	if (!grown)
		return err_set(e, ENOMEM, "out of memory for the registers of %s", r->name);
	memmove(&grown[at + 1], &grown[at], (*count - at) * sizeof(*grown));
	grown[at] = *r;
	*list = grown;
	++*count;
	return 0;
}

static void tell_watches(struct gpa_space *s, const struct io_region *r, bool port, bool there)
{
	for (struct region_watch *w = s->watches; w; w = w->next)
		w->changed(w->arg, r, port, there);
}

int gpa_space_add_mmio(struct gpa_space *s, const struct io_region *r, struct err *e)
{
	int rc;

	pthread_rwlock_wrlock(&s->lock);
	rc = add_region(&s->mmio, &s->mmio_count, BIT(GPA_BITS), r, e);
	if (!rc)
		tell_watches(s, r, false, true);
	pthread_rwlock_unlock(&s->lock);
	return rc;
}

int gpa_space_add_pio(struct gpa_space *s, const struct io_region *r, struct err *e)
{
	int rc;

	pthread_rwlock_wrlock(&s->lock);
	rc = add_region(&s->pio, &s->pio_count, PORT_SPACE, r, e);
	if (!rc)
		tell_watches(s, r, true, true);
	pthread_rwlock_unlock(&s->lock);
	return rc;
}

static void remove_region(struct gpa_space *s, bool port, uint64_t base)
{
	struct io_region *list = port ? s->pio : s->mmio;
	unsigned int *count = port ? &s->pio_count : &s->mmio_count;

	for (unsigned int i = 0; i < *count; i++) {
		if (list[i].base != base)
			continue;
		tell_watches(s, &list[i], port, false);
		memmove(&list[i], &list[i + 1], (*count - i - 1) * sizeof(*list));
		--*count;
		return;
	}
}

void gpa_space_remove_mmio(struct gpa_space *s, uint64_t base)
{
	pthread_rwlock_wrlock(&s->lock);
	remove_region(s, false, base);
	pthread_rwlock_unlock(&s->lock);
}

void gpa_space_remove_pio(struct gpa_space *s, uint64_t base)
{
	pthread_rwlock_wrlock(&s->lock);
	remove_region(s, true, base);
	pthread_rwlock_unlock(&s->lock);
}

void gpa_space_watch(struct gpa_space *s, struct region_watch *w)
{
	pthread_rwlock_wrlock(&s->lock);
	w->next = s->watches;
	s->watches = w;
	for (unsigned int i = 0; i < s->mmio_count; i++)
		w->changed(w->arg, &s->mmio[i], false, true);
	for (unsigned int i = 0; i < s->pio_count; i++)
		w->changed(w->arg, &s->pio[i], true, true);
	pthread_rwlock_unlock(&s->lock);
}

void gpa_space_forget(struct gpa_space *s, struct region_watch *w)
{
	struct region_watch **p = &s->watches;

	pthread_rwlock_wrlock(&s->lock);
	while (*p && *p != w)
		p = &(*p)->next;
	if (*p)
		*p = w->next;
	pthread_rwlock_unlock(&s->lock);
}

struct ram_extent *gpa_to_extent(struct gpa_space *s, gpa_t gpa)
{
	for (unsigned int i = 0; i < s->ram_count; i++)
		if (gpa - s->ram[i].base < s->ram[i].size)
			return &s->ram[i];
	return NULL;
}

void *gpa_to_hva(struct gpa_space *s, gpa_t gpa, uint64_t len)
{
	struct ram_extent *x = gpa_to_extent(s, gpa);

	if (!x || len > x->size - (gpa - x->base))
		return NULL;
	return x->hva + (gpa - x->base);
}

enum mem_result gpa_read(struct gpa_space *s, gpa_t gpa, void *buf, uint64_t len)
{
	void *p = gpa_to_hva(s, gpa, len);

	if (!p)
		return MEM_FAULT;
	memcpy(buf, p, len);
	return MEM_OK;
}

void gpa_written(struct gpa_space *s, gpa_t gpa, uint64_t len)
{
	const struct ram_extent *x = gpa_to_extent(s, gpa);
	gpa_t end, next;

	if (!x || !len || !s->code_written)
		return;
	end = gpa + MIN(len, x->size - (gpa - x->base));
	/* Whoever marks a page as code reads it after that: one of us two sees the other. */
	atomic_thread_fence(memory_order_seq_cst);
	for (; gpa < end; gpa = next) {
		const uint8_t *flags = &x->page_flags[(gpa - x->base) >> GUEST_PAGE_SHIFT];

		next = MIN(end, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE) + GUEST_PAGE_SIZE);
		if (__atomic_load_n(flags, __ATOMIC_RELAXED) & PAGE_CODE)
			s->code_written(s->code_written_arg, NULL, gpa, next - gpa);
	}
}

enum mem_result gpa_write(struct gpa_space *s, gpa_t gpa, const void *buf, uint64_t len)
{
	void *p = gpa_to_hva(s, gpa, len);
	struct ram_extent *x = gpa_to_extent(s, gpa);

	if (!p || x->readonly)
		return MEM_FAULT;
	if (!len)
		return MEM_OK;
	memcpy(p, buf, len);
	gpa_written(s, gpa, len);
	return MEM_OK;
}

static const struct io_region *find_region(const struct io_region *list, unsigned int count,
					   uint64_t addr)
{
	unsigned int lo = 0, hi = count, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (addr < list[mid].base)
			hi = mid;
		else if (addr - list[mid].base >= list[mid].size)
			lo = mid + 1;
		else
			return &list[mid];
	}
	return NULL;
}

static uint64_t all_ones(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : BIT(size * 8) - 1;
}

/* Copies the region out, so that no lock is held in the device. */
static bool lookup(struct gpa_space *s, bool port, uint64_t addr, struct io_region *out)
{
	const struct io_region *r;

	pthread_rwlock_rdlock(&s->lock);
	r = port ? find_region(s->pio, s->pio_count, addr)
		 : find_region(s->mmio, s->mmio_count, addr);
	if (r)
		*out = *r;
	pthread_rwlock_unlock(&s->lock);
	return r != NULL;
}

static uint64_t io_read(struct gpa_space *s, bool port, uint64_t addr, unsigned int size)
{
	struct io_region r;
	uint64_t value = 0;

	if (!lookup(s, port, addr, &r))
		return all_ones(size);
	if (addr - r.base + size <= r.size)
		return r.ops->read ? r.ops->read(r.dev, addr - r.base, size) & all_ones(size)
				   : all_ones(size);
	for (unsigned int i = 0; i < size; i++)
		value |= io_read(s, port, addr + i, 1) << (8 * i);
	return value;
}

static void io_write(struct gpa_space *s, bool port, uint64_t addr, unsigned int size,
		     uint64_t value)
{
	struct io_region r;

	if (!lookup(s, port, addr, &r))
		return;
	if (addr - r.base + size <= r.size) {
		if (r.ops->write)
			r.ops->write(r.dev, addr - r.base, size, value & all_ones(size));
		return;
	}
	for (unsigned int i = 0; i < size; i++)
		io_write(s, port, addr + i, 1, value >> (8 * i) & 0xff);
}

uint64_t mmio_read(struct gpa_space *s, gpa_t gpa, unsigned int size)
{
	return io_read(s, false, gpa, size);
}

void mmio_write(struct gpa_space *s, gpa_t gpa, unsigned int size, uint64_t value)
{
	io_write(s, false, gpa, size, value);
}

uint64_t pio_read(struct gpa_space *s, uint16_t port, unsigned int size)
{
	return io_read(s, true, port, size);
}

void pio_write(struct gpa_space *s, uint16_t port, unsigned int size, uint64_t value)
{
	io_write(s, true, port, size, value);
}
