// SPDX-License-Identifier: Apache-2.0
/*
 * What KVM cannot execute, the interpreter does: instructions that KVM's own emulator does
 * not know, at a device's registers for example, or all of them where KVM emulates every
 * instruction.  One instruction, on the same struct vcpu.
 */
#include "engine/kvm/kvm_priv.h"

#include <stdatomic.h>

static bool make_interpreter(struct kvm_cpu *c)
{
	static const struct engine_config plain = { .translate = TRANSLATOR_OFF };
	struct vcpu *v = c->v;

	if (engine_soft.create(&c->interpreter, c->kvm->space, &plain, c->kvm->log, &v->err))
		return false;
	if (!engine_soft.vcpu_add(c->interpreter, v, &v->err))
		return true;
	engine_soft.destroy(c->interpreter);
	c->interpreter = NULL;
	return false;
}

bool kvm_step(struct kvm_cpu *c)
{
	if (!c->interpreter && !make_interpreter(c))
		return false;
	c->counts.steps++;
	atomic_store(&c->kvm->stepped, true);
	engine_soft.vcpu_step(c->interpreter, c->v);
	return !c->v->err.code;
}

void kvm_step_destroy(struct kvm_cpu *c)
{
	if (!c->interpreter)
		return;
	engine_soft.vcpu_remove(c->interpreter, c->v);
	engine_soft.destroy(c->interpreter);
}
