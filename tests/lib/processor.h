/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU of a test: made, given its wires, and taken down with what hangs from it; and the
 * interrupt controller of those that have none.
 */
#ifndef VIREO_TESTS_PROCESSOR_H
#define VIREO_TESTS_PROCESSOR_H

#include "cpu/vcpu.h"
#include "cpu/window.h"
#include "engine/engine.h"
#include "mem/space.h"

#include <stdlib.h>
#include <string.h>

static inline int no_ack(void *intc)
{
	(void)intc;
	return -1;
}

static inline bool no_pending(void *intc)
{
	(void)intc;
	return false;
}

static inline uint8_t no_tpr(void *intc)
{
	(void)intc;
	return 0;
}

static inline void drop_tpr(void *intc, uint8_t tpr)
{
	(void)intc;
	(void)tpr;
}

/* #GP, also for what random code has in ECX. */
static inline bool no_read_msr(void *intc, uint32_t index, uint64_t *value)
{
	(void)intc;
	(void)index;
	(void)value;
	return false;
}

static inline bool no_write_msr(void *intc, uint32_t index, uint64_t value)
{
	(void)intc;
	(void)index;
	(void)value;
	return false;
}

static inline gpa_t no_mmio_base(void *intc)
{
	(void)intc;
	return GPA_NONE;
}

static const struct vcpu_intc_ops no_intc __attribute__((unused)) = {
	.ack = no_ack, .pending = no_pending, .get_tpr = no_tpr, .set_tpr = drop_tpr,
	.read_msr = no_read_msr, .write_msr = no_write_msr, .mmio_base = no_mmio_base,
};

/* Without the room below 2 GiB that vcpu_alloc() finds for translated code. */
static inline struct vcpu *processor_alloc(void)
{
	struct vcpu *v = aligned_alloc(64, ALIGN_UP(sizeof(*v), 64));

	if (!v)
		abort();
	memset(v, 0, sizeof(*v));
	return v;
}

static inline void processor_wire(struct vcpu *v, struct gpa_space *space, struct cpu_model *model,
				  struct clock *clock, struct log *log)
{
	v->space = space;
	v->model = model;
	v->clock = clock;
	v->log = log;
}

/* The vCPU with its memory and clock; also the engine that runs it, NULL: there is none. */
static inline void processor_destroy(struct vcpu *v, const struct engine_ops *ops,
				     struct engine *engine)
{
	struct gpa_space *space = v->space;
	struct clock *clock = v->clock;

	if (engine) {
		ops->vcpu_remove(engine, v);
		ops->destroy(engine);
	}
	vcpu_destroy(v);
	if (v->has_checks)
		vcpu_free(v);
	else
		free(v);
	gpa_space_destroy(space);
	clock_destroy(clock);
}

#endif
