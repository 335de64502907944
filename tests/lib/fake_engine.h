/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine whose guest is a C function: each vcpu_run() calls it once on the vCPU's
 * thread.  It does what a guest would (ports, memory) and says how the run ended.
 */
#ifndef VIREO_TESTS_FAKE_ENGINE_H
#define VIREO_TESTS_FAKE_ENGINE_H

#include "engine/engine.h"

#include <sched.h>

struct fake_engine {
	struct engine_config config;	/* handed over in vm_config.engine_config */
	enum vcpu_exit (*guest)(struct vcpu *v, void *arg);
	void *arg;
	_Atomic unsigned int kicks;
	unsigned int vcpus;		/* added and not removed */
	bool alive;
	const char *unusable;		/* probe fails with this sentence */
};

static inline struct fake_engine *to_fake(const void *p)
{
	return (struct fake_engine *)p;	/* config is the first member */
}

static inline int fake_probe(struct err *e)
{
	(void)e;
	return 0;
}

static inline int fake_create(struct engine **out, struct gpa_space *s,
			      const struct engine_config *c, struct log *log, struct err *e)
{
	struct fake_engine *f = to_fake(c);

	(void)s;
	(void)log;
	if (f->unusable)
		return err_set(e, 95 /* EOPNOTSUPP */, "%s", f->unusable);
	f->alive = true;
	*out = (struct engine *)f;
	return 0;
}

static inline void fake_destroy(struct engine *en)
{
	to_fake(en)->alive = false;
}

static inline int fake_vcpu_add(struct engine *en, struct vcpu *v, struct err *e)
{
	(void)v;
	(void)e;
	to_fake(en)->vcpus++;
	return 0;
}

static inline void fake_vcpu_remove(struct engine *en, struct vcpu *v)
{
	(void)v;
	to_fake(en)->vcpus--;
}

static inline enum vcpu_exit fake_vcpu_run(struct engine *en, struct vcpu *v)
{
	if (atomic_load(&v->attention) & ATTN_STOP)
		return VCPU_EXIT_STOP;
	return to_fake(en)->guest(v, to_fake(en)->arg);
}

static inline void fake_vcpu_kick(struct engine *en, struct vcpu *v)
{
	(void)v;
	to_fake(en)->kicks++;
}

static const struct engine_ops fake_engine_ops = {
	.name = "fake",
	.probe = fake_probe,
	.create = fake_create,
	.destroy = fake_destroy,
	.vcpu_add = fake_vcpu_add,
	.vcpu_remove = fake_vcpu_remove,
	.vcpu_run = fake_vcpu_run,
	.vcpu_kick = fake_vcpu_kick,
};

/* What a busy guest does until it is stopped. */
static inline enum vcpu_exit fake_spin(struct vcpu *v)
{
	while (!(atomic_load(&v->attention) & ATTN_STOP))
		sched_yield();
	return VCPU_EXIT_STOP;
}

#endif
