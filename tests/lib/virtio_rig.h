/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bench for virtio devices: RAM, a PCI bus with one device on it, and a small driver that
 * speaks split and packed rings.  The device's thread is real; bench_sync() waits for it.
 *
 *	RAM	0 to 1 MiB, ROM at 2 MiB (64 KiB), RAM at 4 MiB (64 KiB)
 *	queue n	its ring at 0x10000 + n * 0x4000
 */
#ifndef VIREO_TESTS_VIRTIO_RIG_H
#define VIREO_TESTS_VIRTIO_RIG_H

#include "dev_rig.h"

#include "dev/pci.h"
#include "virtio/pci.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_ECAM	0xe0000000ULL
#define BENCH_BARS	0xc0000000ULL
#define BENCH_RAM	0x100000ULL
#define BENCH_ROM	0x200000ULL
#define BENCH_RAM2	0x400000ULL
#define BENCH_RAM2_SIZE	0x10000ULL
#define BENCH_VECTORS	65
#define BENCH_SLOT	1

#define COMMON(reg)	(0x0000 + (reg))
#define DEVCFG(off)	(0x2000 + (off))
#define NOTIFY(q)	(0x3000 + 4 * (q))

#define ST_ACK		0x01
#define ST_DRIVER	0x02
#define ST_DRIVER_OK	0x04
#define ST_FEATURES_OK	0x08
#define ST_NEEDS_RESET	0x40

struct bench {
	struct rig rig;
	struct device *host, *pci;
	struct virtio_device *d;
	struct probe intx;
	_Atomic unsigned int messages[256];	/* by data */
	bool hostile;		/* the driver may send its messages anywhere */
	gpa_t bar;
};

static inline void bench_message(void *sink, uint64_t addr, uint32_t data)
{
	struct bench *b = sink;

	assert_true(b->hostile || addr == 0xfee00000);
	atomic_fetch_add(&b->messages[data & 0xff], 1);
}

/* The address space; then the device is made on it; then bench_plug(). */
static inline void bench_init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	rig_init(&b->rig);
	assert_int_equal(gpa_space_add_ram(&b->rig.space, 0, BENCH_RAM, NULL), 0);
	assert_int_equal(gpa_space_add_rom(&b->rig.space, BENCH_ROM, 0x10000, NULL), 0);
	assert_int_equal(gpa_space_add_ram(&b->rig.space, BENCH_RAM2, BENCH_RAM2_SIZE, NULL), 0);
}

static inline gpa_t bench_config(unsigned int off)
{
	return BENCH_ECAM + (BENCH_SLOT << 15) + off;
}

static inline uint32_t cfg_rd(struct bench *b, unsigned int off, unsigned int size)
{
	return mmio_read(&b->rig.space, bench_config(off), size);
}

static inline void cfg_wr(struct bench *b, unsigned int off, unsigned int size, uint32_t value)
{
	mmio_write(&b->rig.space, bench_config(off), size, value);
}

static inline uint64_t rd(struct bench *b, unsigned int off, unsigned int size)
{
	return mmio_read(&b->rig.space, b->bar + off, size);
}

static inline void wr(struct bench *b, unsigned int off, unsigned int size, uint64_t value)
{
	mmio_write(&b->rig.space, b->bar + off, size, value);
}

static inline unsigned int bench_find_cap(struct bench *b, uint8_t id)
{
	unsigned int at = cfg_rd(b, 0x34, 1);

	while (at && cfg_rd(b, at, 1) != id)
		at = cfg_rd(b, at + 1, 1);
	return at;
}

/* Memory and master on, MSI-X on with vector n sending data n. */
static inline void bench_enable(struct bench *b)
{
	unsigned int cap = bench_find_cap(b, PCI_CAP_MSIX), n = (cfg_rd(b, cap + 2, 2) & 0x7ff) + 1;
	gpa_t table;

	cfg_wr(b, 4, 2, 6);
	b->bar = cfg_rd(b, 0x10, 4) & ~15U;
	table = cfg_rd(b, 0x18, 4) & ~15U;
	for (unsigned int i = 0; i < n; i++) {
		mmio_write(&b->rig.space, table + 16 * i, 8, 0xfee00000);
		mmio_write(&b->rig.space, table + 16 * i + 8, 8, i);
	}
	cfg_wr(b, cap + 2, 2, 0x8000);
}

static inline void bench_plug(struct bench *b, struct virtio_device *d)
{
	const struct pci_host_wires host = {
		.ecam = BENCH_ECAM, .memory = BENCH_BARS, .memory_end = BENCH_BARS + 0x1000000,
		.io = 0xd00,
	};
	const struct pci_wires w = {
		.space = &b->rig.space, .msi = { .send = bench_message, .sink = b },
		.intx = probe_line(&b->intx),
	};

	b->d = d;
	assert_int_equal(pci_host_create(&b->host, &b->rig.space, &host, NULL), 0);
	assert_int_equal(virtio_pci_create(&b->pci, d, b->host, PCI_DEVFN(BENCH_SLOT, 0), &w, NULL),
			 0);
	bench_enable(b);
}

static inline void bench_done(struct bench *b)
{
	b->pci->ops->destroy(b->pci);
	rig_destroy(&b->rig, b->host);
}

static inline void bench_sync(struct bench *b)
{
	/* Twice: what the first round posted has run too. */
	virtio_sync(b->d);
	virtio_sync(b->d);
}

static inline unsigned int status(struct bench *b)
{
	return rd(b, COMMON(0x14), 1);
}

static inline void set_status(struct bench *b, unsigned int bits)
{
	wr(b, COMMON(0x14), 1, bits);
}

static inline void bench_reset(struct bench *b)
{
	set_status(b, 0);
	while (status(b))
		bench_sync(b);
}

static inline uint64_t bench_offered(struct bench *b)
{
	uint64_t low;

	wr(b, COMMON(0), 4, 0);
	low = rd(b, COMMON(4), 4);
	wr(b, COMMON(0), 4, 1);
	return low | rd(b, COMMON(4), 4) << 32;
}

/* Up to FEATURES_OK with @features and VERSION_1. */
static inline void bench_features(struct bench *b, uint64_t features)
{
	features |= BIT(VIRTIO_F_VERSION_1);
	set_status(b, ST_ACK | ST_DRIVER);
	wr(b, COMMON(8), 4, 0);
	wr(b, COMMON(0xc), 4, features);
	wr(b, COMMON(8), 4, 1);
	wr(b, COMMON(0xc), 4, features >> 32);
	set_status(b, ST_ACK | ST_DRIVER | ST_FEATURES_OK);
	assert_true(status(b) & ST_FEATURES_OK);
}

static inline void bench_driver_ok(struct bench *b)
{
	set_status(b, ST_ACK | ST_DRIVER | ST_FEATURES_OK | ST_DRIVER_OK);
	bench_sync(b);
}

/* --- guest memory --- */

static inline void *mem(struct bench *b, gpa_t at)
{
	void *p = gpa_to_hva(&b->rig.space, at, 1);

	assert_non_null(p);
	return p;
}

static inline void poke16(struct bench *b, gpa_t at, uint16_t v)
{
	__atomic_store_n((uint16_t *)mem(b, at), v, __ATOMIC_SEQ_CST);
}

static inline uint16_t peek16(struct bench *b, gpa_t at)
{
	return __atomic_load_n((uint16_t *)mem(b, at), __ATOMIC_SEQ_CST);
}

static inline uint32_t peek32(struct bench *b, gpa_t at)
{
	uint32_t v;

	memcpy(&v, mem(b, at), 4);
	return v;
}

/* --- a driver's side of a queue --- */

#define D_NEXT		1
#define D_WRITE		2
#define D_INDIRECT	4

struct seg {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;		/* D_WRITE, D_INDIRECT; D_NEXT is seen to */
};

struct ring {
	struct bench *b;
	unsigned int index;
	bool packed;
	uint16_t size;
	gpa_t desc, driver, device;
	uint16_t next, avail, used;	/* split: next free descriptor; packed: positions */
	bool avail_wrap, used_wrap;
};

static inline void ring_registers(struct ring *r)
{
	wr(r->b, COMMON(0x16), 2, r->index);
	wr(r->b, COMMON(0x18), 2, r->size);
	wr(r->b, COMMON(0x1a), 2, r->index + 1);
	wr(r->b, COMMON(0x20), 8, r->desc);
	wr(r->b, COMMON(0x28), 8, r->driver);
	wr(r->b, COMMON(0x30), 8, r->device);
}

/* After bench_features(), before bench_driver_ok(). */
static inline void ring_init(struct ring *r, struct bench *b, unsigned int index, bool packed,
			     uint16_t size)
{
	gpa_t base = 0x10000 + index * 0x4000ULL;

	memset(mem(b, base), 0, 0x4000);
	*r = (struct ring){ .b = b, .index = index, .packed = packed, .size = size,
			    .desc = base, .driver = base + 0x2000, .device = base + 0x3000,
			    .avail_wrap = true, .used_wrap = true };
	ring_registers(r);
	wr(b, COMMON(0x1c), 2, 1);
}

/* Descriptor @i of the table at @table, as a split ring has it. */
static inline void put_desc(struct bench *b, gpa_t table, unsigned int i, const struct seg *s,
			    uint16_t flags, uint16_t next)
{
	uint8_t *p = mem(b, table + 16 * i);

	memcpy(p, &s->addr, 8);
	memcpy(p + 8, &s->len, 4);
	memcpy(p + 12, &flags, 2);
	memcpy(p + 14, &next, 2);
}

/* The same of a packed ring; @last writes the flags last, with release. */
static inline void put_packed(struct bench *b, gpa_t table, unsigned int i, const struct seg *s,
			      uint16_t flags, uint16_t id)
{
	uint8_t *p = mem(b, table + 16 * i);

	memcpy(p, &s->addr, 8);
	memcpy(p + 8, &s->len, 4);
	memcpy(p + 12, &id, 2);
	__atomic_store_n((uint16_t *)(p + 14), flags, __ATOMIC_RELEASE);
}

static inline uint16_t packed_flags(bool wrap)
{
	return wrap ? 1 << 7 : 1 << 15;
}

/* Makes the head @head available on a split ring, whatever it is. */
static inline void offer(struct ring *r, uint16_t head)
{
	poke16(r->b, r->driver + 4 + 2 * (r->avail % r->size), head);
	poke16(r->b, r->driver + 2, ++r->avail);
}

static inline void add_split(struct ring *r, const struct seg *s, unsigned int n)
{
	uint16_t head = r->next % r->size, at = head, next;

	for (unsigned int i = 0; i < n; i++, at = next) {
		next = (at + 1) % r->size;
		put_desc(r->b, r->desc, at, &s[i], s[i].flags | (i + 1 < n ? D_NEXT : 0), next);
	}
	r->next = at;
	offer(r, head);
}

static inline void add_packed(struct ring *r, const struct seg *s, unsigned int n, uint16_t id)
{
	uint16_t first = r->avail, first_flags = 0, flags;

	for (unsigned int i = 0; i < n; i++) {
		flags = s[i].flags | (i + 1 < n ? D_NEXT : 0) | packed_flags(r->avail_wrap);
		if (i == 0)
			first_flags = flags;
		/* The first becomes available last: for now as used as it was. */
		put_packed(r->b, r->desc, r->avail, &s[i],
			   i ? flags : packed_flags(!r->avail_wrap), id);
		if (++r->avail == r->size) {
			r->avail = 0;
			r->avail_wrap = !r->avail_wrap;
		}
	}
	__atomic_store_n((uint16_t *)mem(r->b, r->desc + 16 * first + 14), first_flags,
			 __ATOMIC_RELEASE);
}

static inline void ring_add(struct ring *r, const struct seg *s, unsigned int n, uint16_t id)
{
	if (r->packed)
		add_packed(r, s, n, id);
	else
		add_split(r, s, n);
}

static inline void ring_kick(struct ring *r)
{
	wr(r->b, NOTIFY(r->index), 2, r->index);
	bench_sync(r->b);
}

/* The next used chain of @n descriptors: false, or its id and length. */
static inline bool ring_take(struct ring *r, unsigned int n, uint32_t *id, uint32_t *len)
{
	if (r->packed) {
		const uint8_t *p = mem(r->b, r->desc + 16 * r->used);
		uint16_t flags = __atomic_load_n((uint16_t *)(p + 14), __ATOMIC_ACQUIRE);

		if (!!(flags & 1 << 7) != r->used_wrap || !!(flags & 1 << 15) != r->used_wrap)
			return false;
		*id = peek16(r->b, r->desc + 16 * r->used + 12);
		memcpy(len, p + 8, 4);
		r->used += n;
		if (r->used >= r->size) {
			r->used -= r->size;
			r->used_wrap = !r->used_wrap;
		}
		return true;
	}
	if (peek16(r->b, r->device + 2) == r->used)
		return false;
	*id = peek32(r->b, r->device + 4 + 8 * (r->used % r->size));
	*len = peek32(r->b, r->device + 8 + 8 * (r->used % r->size));
	r->used++;
	return true;
}

#endif
