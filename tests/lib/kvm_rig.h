/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's KVM with a guest of a few instructions in real mode: a machine of RAM, a ROM, devices
 * that note what they see, and one processor with a controller that has one vector.  Tests are
 * skipped where there is no KVM to be had.
 */
#ifndef VIREO_TESTS_KVM_RIG_H
#define VIREO_TESTS_KVM_RIG_H

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "processor.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAM	(1ULL << 20)
#define ROM	0xf0000ULL	/* in the hole that RAM leaves */
#define CODE	0x1000
#define STACK	0x8000
#define HANDLER	0x2000

#define GUEST(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

struct bench {
	struct gpa_space space;
	struct cpu_model model;
	struct clock clock;
	struct log log;
	struct engine *engine;
	struct vcpu *v;
	char order[64];			/* what the devices saw */
	int vector;			/* the controller has it; -1: nothing */
	uint8_t tpr;
	struct apic_state apic;		/* while KVM's local APICs stand in for the controller */
	bool apic_anew;
	unsigned int reads;
	gpa_t told[16];
	unsigned int told_count;
	struct io_doorbell bell[2];
};

/* --- devices and a controller --- */

static inline void note(struct bench *b, char what, uint64_t value)
{
	const size_t len = strlen(b->order);

	snprintf(b->order + len, sizeof(b->order) - len, "%c%x ", what, (unsigned int)value);
}

static inline void late_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	(void)off;
	(void)size;
	note(dev, 'l', value);
}

static inline uint64_t port_read(void *dev, uint64_t off, unsigned int size)
{
	(void)size;
	note(dev, 'r', off);
	return 0x5a;
}

static inline void port_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	(void)off;
	note(dev, 'w', value);
	note(dev, '/', size);
}

static const struct io_ops late_io = { .write = late_write, .posted = true };
static const struct io_ops port_io = { .read = port_read, .write = port_write };

static inline unsigned int doorbells(void *dev, const struct io_doorbell **list)
{
	struct bench *b = dev;

	*list = b->bell;
	return ARRAY_SIZE(b->bell);
}

static const struct io_ops bell_io = {
	.read = port_read, .write = port_write, .doorbells = doorbells,
};

static inline int ack(void *intc)
{
	struct bench *b = intc;
	const int vector = b->vector;

	b->vector = -1;
	return vector;
}

static inline bool pending(void *intc)
{
	return ((struct bench *)intc)->vector >= 0;
}

static inline uint8_t get_tpr(void *intc)
{
	return ((struct bench *)intc)->tpr;
}

static inline void set_tpr(void *intc, uint8_t tpr)
{
	((struct bench *)intc)->tpr = tpr;
}

static inline void host(void *intc, bool by_engine)
{
	(void)intc;
	(void)by_engine;
}

static inline bool get_state(void *intc, struct apic_state *s)
{
	struct bench *b = intc;
	const bool anew = b->apic_anew;

	*s = b->apic;
	b->apic_anew = false;
	return anew;
}

static inline void set_state(void *intc, const struct apic_state *s)
{
	((struct bench *)intc)->apic = *s;
}

static inline void end_of_interrupt(void *intc, uint8_t vector)
{
	note(intc, 'e', vector);
}

static const struct vcpu_intc_ops intc_ops = {
	.ack = ack, .pending = pending, .get_tpr = get_tpr, .set_tpr = set_tpr,
	.mmio_base = no_mmio_base, .host = host, .get_state = get_state, .set_state = set_state,
	.end_of_interrupt = end_of_interrupt,
};

/* --- the bench --- */

static inline void bench_destroy(struct bench *b)
{
	processor_destroy(b->v, &engine_kvm, b->engine);
	free(b);
}

/* A host that has not what is asked for ends the test. */
static inline void bench_skip(struct bench *b, const struct err *e)
{
	print_message("%s\n", e->text);
	bench_destroy(b);
	skip();
}

static inline void add_devices(struct bench *b)
{
	const struct io_region late = { "late", 0x80, 1, &late_io, b };
	const struct io_region port = { "port", 0x100, 4, &port_io, b };
	const struct io_region mmio = { "mmio", 0xa0000, 0x1000, &port_io, b };

	assert_int_equal(gpa_space_add_pio(&b->space, &late, NULL), 0);
	assert_int_equal(gpa_space_add_pio(&b->space, &port, NULL), 0);
	assert_int_equal(gpa_space_add_mmio(&b->space, &mmio, NULL), 0);
}

static inline void add_processor(struct bench *b)
{
	b->v = processor_alloc();
	processor_wire(b->v, &b->space, &b->model, &b->clock, &b->log);
	b->v->intc_ops = &intc_ops;
	b->v->intc = b;
	assert_int_equal(vcpu_init(b->v, NULL), 0);
}

static inline struct bench *bench_create(struct engine_config config)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct err e;
	int rc;

	log_init(&b->log, LOG_ERROR, stderr);
	clock_init(&b->clock, true);
	b->vector = -1;
	assert_int_equal(cpu_model_init(&b->model, "vireo-v0", NULL), 0);
	assert_int_equal(gpa_space_init(&b->space, NULL), 0);
	assert_int_equal(gpa_space_add_ram(&b->space, 0, 0xa0000, NULL), 0);
	assert_int_equal(gpa_space_add_rom(&b->space, ROM, 0x1000, NULL), 0);
	add_devices(b);
	add_processor(b);
	if (engine_kvm.probe(&e))
		bench_skip(b, &e);
	rc = engine_kvm.create(&b->engine, &b->space, &config, &b->log, &e);
	if (rc == -ENOTSUP)
		bench_skip(b, &e);
	if (rc || engine_kvm.vcpu_add(b->engine, b->v, &e))
		fail_msg("%s", e.text);
	return b;
}

static inline struct bench *bench_plain(void)
{
	return bench_create((struct engine_config){ .kvm_apics = KVM_APICS_MACHINE });
}

/* Runs @code from CODE with all segments at 0, until HLT. */
static inline enum vcpu_exit run(struct bench *b, const uint8_t *code, size_t len)
{
	struct vcpu *v = b->v;

	vcpu_reset(v, false);
	gpa_write(&b->space, CODE, code, len);
	v->seg[SEG_CS].sel = 0;
	v->seg[SEG_CS].base = 0;
	v->rip = CODE;
	v->gpr[REG_RSP] = STACK;
	if (engine_kvm.vcpu_run(b->engine, v) == VCPU_EXIT_ERROR)
		fail_msg("%s", v->err.text);
	return v->halted ? VCPU_EXIT_HALT : VCPU_EXIT_STOP;
}

#endif
