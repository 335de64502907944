// SPDX-License-Identifier: Apache-2.0
/*
 * Which engine runs a VM; see run_priv.h.  KVM is taken by itself only where it was seen to
 * run a guest at the processor's speed: a /dev/kvm that emulates is slower than our own
 * engine, and is had only by name.
 */
#include "engine/engine.h"
#include "mgmt/kvm_probe.h"
#include "mgmt/run_priv.h"

#include <string.h>

static const char *const why_automatic[] = {
	[KVM_ABSENT] = "engine soft: chosen automatically, since there is no /dev/kvm",
	[KVM_DENIED] = "engine soft: chosen automatically, since this user may not open /dev/kvm",
	[KVM_BROKEN] = "engine soft: chosen automatically, since /dev/kvm does not run guests",
	[KVM_SLOW] = "engine soft: chosen automatically, since /dev/kvm emulates guests slowly",
	[KVM_WORKS] = "engine kvm: chosen automatically, since /dev/kvm runs guests at full speed",
};

const struct engine_ops *engine_for(const struct kvm_probe *p, const char **why)
{
	*why = why_automatic[p->state];
	return p->state == KVM_WORKS ? &engine_kvm : &engine_soft;
}

int engine_choose(const struct engine_ops **out, const char **why, enum engine_choice choice,
		  struct err *e)
{
	struct kvm_probe probe;

	*out = &engine_soft;
	switch (choice) {
	case ENGINE_KVM:
		*out = &engine_kvm;
		*why = "engine kvm: chosen with --engine kvm";
		break;
	case ENGINE_SOFT:
		*why = "engine soft: chosen with --engine soft";
		break;
	case ENGINE_AUTO:
		kvm_probe(&probe);
		*out = engine_for(&probe, why);
		break;
	}
	return (*out)->probe(e);
}

bool engine_is_kvm(const struct engine_ops *engine)
{
	return engine == &engine_kvm;
}

const char *run_engine_stays(const struct run_options *o, bool kvm)
{
	if (o->gdb)
		return "--gdb debugs what the engine soft runs: this VM stays there";
	if (!kvm && !o->sandbox_kvm && o->sandbox != SANDBOX_OFF)
		return "this VM was started on the engine soft, so its sandbox keeps KVM from it: start it "
		       "with --sandbox auto,kvm, and it can be moved";
	return NULL;
}

const struct engine_ops *engine_named(const char *name)
{
	static const struct engine_ops *const engines[] = { &engine_soft, &engine_kvm };

	for (unsigned int i = 0; i < ARRAY_SIZE(engines); i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}

bool engine_fall_back(const struct engine_ops **engine, const char **why,
		      enum engine_choice choice)
{
	if (*engine != &engine_kvm || choice != ENGINE_AUTO)
		return false;
	*engine = &engine_soft;
	*why = "engine soft: chosen automatically, since KVM refuses";
	return true;
}
