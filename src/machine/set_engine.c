// SPDX-License-Identifier: Apache-2.0
/*
 * Exchanging a VM's engine.  All state is in struct vcpu and the devices, so the machine
 * stands still, the vCPUs leave one engine and join the other, and the guest goes on.
 *
 * Others may raise interrupts meanwhile, which kicks the engine: they hold engine_lock for
 * reading.
 */
#include "machine/vm_priv.h"

#include "cpu/pv.h"

#include <errno.h>

static void leave(struct vm *vm, struct engine *en, const struct engine_ops *ops,
		  unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		ops->vcpu_remove(en, vm->vcpus[i].vcpu);
}

/* All vCPUs or none. */
static int join(struct vm *vm, struct engine *en, const struct engine_ops *ops, struct err *e)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		int rc = ops->vcpu_add(en, vm->vcpus[i].vcpu, e);

		if (rc) {
			leave(vm, en, ops, i);
			return rc;
		}
	}
	return 0;
}

/* A vCPU is in one engine at a time.  What was possible once should be so again. */
static int exchange_locked(struct vm *vm, struct engine *en, const struct engine_ops *ops,
			   struct err *e)
{
	const struct engine_ops *old_ops = vm->config.engine;
	struct engine *old = vm->engine;
	struct err again;
	int rc;

	vm_drop_routes(vm);
	leave(vm, old, old_ops, vm->vcpu_count);
	vm->engines++;
	rc = join(vm, en, ops, e);
	if (!rc) {
		vm->engine = en;
		vm->config.engine = ops;
		vm_connect_apics(vm);
		old_ops->destroy(old);
		return 0;
	}
	ops->destroy(en);
	if (join(vm, old, old_ops, &again))
		vm_fail(vm, &again);
	return rc;
}

int vm_set_engine(struct vm *vm, const struct engine_ops *ops, const struct engine_config *c,
		  struct err *e)
{
	const bool runs = vm->state == VM_RUNNING;
	struct engine_config config = c ? *c : vm->engine_config;
	struct engine *en;
	int rc;

	if (vm->config.keep_engine)
		return err_set(e, ENOTSUP, "%s", vm->config.keep_engine);
	config.direct = DIRECT_OFF;	/* a confined process starts no others */
	rc = ops->probe(e);
	if (!rc)
		rc = ops->create(&en, &vm->space, &config, vm->log, e);
	if (rc)
		return rc;
	if (runs)
		vcpus_pause(vm);
	pthread_rwlock_wrlock(&vm->engine_lock);
	rc = exchange_locked(vm, en, ops, e);
	pthread_rwlock_unlock(&vm->engine_lock);
	apic_bus_settle(&vm->pc.apic_bus);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		pv_moved(vm->vcpus[i].vcpu);
	if (runs)
		vcpus_resume(vm);
	return rc;
}
