// SPDX-License-Identifier: Apache-2.0
/*
 * Devices that come and go while the VM runs.
 *
 * The vCPUs stand still while a slot is filled or emptied, so that no access is under way in a
 * device that goes; its own thread ends before it is freed.  A slot is emptied only when we
 * asked for it and the guest has let go: a guest that writes to the eject register by itself
 * changes nothing.
 */
#include "machine/vm_priv.h"

#include "dev/pci_hotplug.h"
#include "virtio/virtio.h"

#include <errno.h>

int vm_plug_virtio(struct vm *vm, struct virtio_device *d, struct err *e)
{
	const bool runs = vm->state == VM_RUNNING;
	int slot;

	if (runs && vm->pc.virtio_mmio) {
		d->ops->destroy(d);
		return err_set(e, ENOTSUP, "a VM whose devices are not on PCI cannot get more while "
			       "it runs");
	}
	if (runs)
		vcpus_pause(vm);
	slot = pc_add_virtio(&vm->pc, d, e);
	if (runs)
		vcpus_resume(vm);
	if (runs && slot > 0)
		pci_hotplug_added(vm->pc.hotplug, slot);
	return slot;
}

int vm_add_virtio(struct vm *vm, struct virtio_device *d, struct err *e)
{
	return MIN(vm_plug_virtio(vm, d, e), 0);
}

int vm_unplug_slot(struct vm *vm, unsigned int slot, struct err *e)
{
	if (slot >= PCI_SLOTS || !vm->pc.slot[slot])
		return err_set(e, ENOENT, "there is no device in PCI slot %u", slot);
	if (vm->pc.virtio_mmio)
		return err_set(e, ENOTSUP, "only devices on PCI can go while the VM runs");
	atomic_fetch_or(&vm->leaving, 1U << slot);
	pci_hotplug_remove(vm->pc.hotplug, slot);
	return 0;
}

/* On the loop's thread. */
static void empty_slots(void *arg)
{
	struct vm *vm = arg;
	const bool runs = vm->state == VM_RUNNING;
	const uint32_t slots = atomic_exchange(&vm->ejected, 0);

	if (runs)
		vcpus_pause(vm);
	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		if (!(slots >> slot & 1))
			continue;
		if (slot == vm->balloon_slot)
			vm->balloon = NULL;
		pc_remove_slot(&vm->pc, slot);
	}
	if (runs)
		vcpus_resume(vm);
}

/* On a vCPU's thread. */
static void ejected(void *arg, uint32_t slots)
{
	struct vm *vm = arg;
	const uint32_t both = slots & atomic_fetch_and(&vm->leaving, ~slots);

	if (!both)
		return;
	atomic_fetch_or(&vm->ejected, both);
	loop_post(vm->loop, &vm->eject_work);
}

void vm_init_hotplug(struct vm *vm)
{
	vm->eject_work = (struct loop_work){ .run = empty_slots, .arg = vm };
	vm->pc.eject = ejected;
	vm->pc.eject_arg = vm;
}
