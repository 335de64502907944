// SPDX-License-Identifier: Apache-2.0
/*
 * The hardware's engine: vCPUs run by Linux's KVM.  This file has its life; kvm_priv.h says
 * what is where.
 *
 * All devices are the machine's own, the same as with the software engine, but for local APICs
 * where KVM's do what ours do (apic.c); while a vCPU runs, its state is KVM's, and struct vcpu
 * has it again when vcpu_run returns.
 */
#include "cpu/pv.h"
#include "engine/kvm/kick.h"
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static int open_device(const struct kvm_sys *sys, const char *path, struct err *e)
{
	int fd = sys->open(path);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		return err_errno(e, errno, "%s cannot be opened: load the module kvm_intel or kvm_amd, "
				 "pass the device to this container, or use --engine soft", path);
	case EACCES:
	case EPERM:
		return err_errno(e, errno, "%s may not be opened by this user: adduser YOU kvm and log "
				 "in again, or use --engine soft", path);
	default:
		return err_errno(e, errno, "%s cannot be opened: use --engine soft", path);
	}
}

static int check_version(const struct kvm_sys *sys, int fd, const char *path, struct err *e)
{
	int version = sys->ioctl(fd, KVM_GET_API_VERSION, 0);

	if (version < 0)
		return err_errno(e, errno, "%s is not KVM's device: use --engine soft", path);
	if (version != KVM_API_VERSION)
		return err_set(e, EPROTO, "%s speaks version %d of KVM's interface, and Vireo version "
			       "%d: use --engine soft", path, version, KVM_API_VERSION);
	return 0;
}

static int kvm_probe_device(struct err *e)
{
	int fd = open_device(&kvm_sys_linux, KVM_DEVICE, e);
	int rc;

	if (fd < 0)
		return fd;
	rc = check_version(&kvm_sys_linux, fd, KVM_DEVICE, e);
	kvm_sys_linux.close(fd);
	return rc;
}

static void kvm_destroy(struct engine *en)
{
	struct kvm *k = (struct kvm *)en;

	if (!k)
		return;
	kvm_doorbells_end(k);
	kvm_slots_destroy(k);
	if (k->vm >= 0)
		k->sys->close(k->vm);
	if (k->dev >= 0)
		k->sys->close(k->dev);
	pthread_mutex_destroy(&k->route_lock);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* EINTR: a signal came while the kernel waited for its other processors. */
static int create_vm(struct kvm *k, struct err *e)
{
	do
		k->vm = k->sys->ioctl(k->dev, KVM_CREATE_VM, 0);
	while (k->vm < 0 && errno == EINTR);
	if (k->vm < 0)
		return err_errno(e, errno, "KVM could not make a virtual machine");
	return 0;
}

static int measure(struct kvm *k, struct err *e)
{
	int size = k->sys->ioctl(k->dev, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (size < (int)sizeof(struct kvm_run))
		return err_set(e, EPROTO, "KVM's shared area has %d bytes, too few for its header", size);
	k->run_size = size;
	k->xsave_size = MAX((size_t)kvm_cap(k, KVM_CAP_XSAVE2), sizeof(struct kvm_xsave));
	k->slots_max = kvm_cap(k, KVM_CAP_NR_MEMSLOTS);
	if (!k->slots_max)
		k->slots_max = 32;	/* what api.rst says of kernels that do not tell */
	k->tsc_control = kvm_cap(k, KVM_CAP_VCPU_ATTRIBUTES);
	k->vmcall = kvm_has_vmcall();
	return 0;
}

static int open_vm(struct kvm *k, const char *path, struct err *e)
{
	int rc;

	k->dev = open_device(k->sys, path, e);
	if (k->dev < 0) {
		rc = k->dev;
		k->dev = -1;
		return rc;
	}
	rc = check_version(k->sys, k->dev, path, e);
	return rc ? rc : create_vm(k, e);
}

/* In this order: what may be had, what it is like, what is chosen; the guest's memory and devices. */
static int set_up(struct kvm *k, const struct engine_config *c, struct err *e)
{
	int rc = kvm_check_caps(k, e);

	if (!rc)
		rc = measure(k, e);
	if (!rc)
		rc = kvm_enable_caps(k, c, e);
	if (!rc)
		rc = kvm_apics_create(k, c, e);
	if (!rc)
		rc = kvm_msr_filter(k, e);
	if (!rc)
		rc = kvm_msr_list(k, e);
	if (!rc)
		rc = kvm_coalesced_init(k, e);
	if (!rc)
		rc = kvm_slots_sync(k, e);
	if (!rc)
		rc = kick_init(e);
	if (!rc)
		kvm_doorbells_begin(k);
	return rc;
}

static int kvm_create(struct engine **out, struct gpa_space *space,
		      const struct engine_config *c, struct log *log, struct err *e)
{
	struct kvm *k = calloc(1, sizeof(*k));
	int rc;

	if (!k)
		return err_set(e, ENOMEM, "out of memory for the KVM engine");
	k->space = space;
	k->log = log;
	k->sys = c->kvm_sys ? c->kvm_sys : &kvm_sys_linux;
	k->dev = k->vm = -1;
	pthread_mutex_init(&k->lock, NULL);
	pthread_mutex_init(&k->route_lock, NULL);
	for (unsigned int i = 0; i < KVM_ROUTES_FD; i++)
		k->fd_route[i].fd = -1;
	rc = open_vm(k, c->kvm_device ? c->kvm_device : KVM_DEVICE, e);
	if (!rc)
		rc = set_up(k, c, e);
	if (rc) {
		kvm_destroy((struct engine *)k);
		return rc;
	}
	*out = (struct engine *)k;
	return 0;
}

/* --- vCPUs --- */

static void cpu_free(struct kvm_cpu *c)
{
	kvm_step_destroy(c);
	kvm_ring_unmap(c);
	if (c->run)
		c->kvm->sys->unmap(c->run, c->kvm->run_size);
	if (c->fd >= 0)
		c->kvm->sys->close(c->fd);
	free(c->xsave);
	free(c);
}

static void kvm_vcpu_remove(struct engine *en, struct vcpu *v)
{
	struct kvm *k = (struct kvm *)en;
	struct kvm_cpu *c = k->cpu[v->index];

	if (!c)
		return;
	kvm_apic_give_back(c);
	k->cpu[v->index] = NULL;
	cpu_free(c);
}

static int map_run(struct kvm_cpu *c, struct err *e)
{
	void *p = c->kvm->sys->map(c->fd, c->kvm->run_size, 0);

	if (p == MAP_FAILED)
		return err_errno(e, errno, "could not map what processor %u shares with KVM",
				 c->v->index);
	c->run = p;
	return 0;
}

static int kvm_vcpu_add(struct engine *en, struct vcpu *v, struct err *e)
{
	struct kvm *k = (struct kvm *)en;
	struct kvm_cpu *c;
	int rc = 0;

	if (v->index >= KVM_CPUS_MAX)
		return err_set(e, EINVAL, "the KVM engine runs at most %d processors", KVM_CPUS_MAX);
	if (!k->vmcall && pv_may_wait(v))
		return err_set(e, ENOTSUP, "this guest calls its hypervisor by VMCALL, as it was told at "
			       "its start, and this host's processor has no such instruction: it stays "
			       "on the engine soft");
	if (k->apics && !v->intc_ops->host)
		return err_set(e, EINVAL, "processor %u has no local APIC that KVM's could stand in "
			       "for", v->index);
	if (!v->fpu_mask)
		return err_set(e, ENOTSUP, "this host's processor has no XSAVE, which the KVM engine "
			       "needs: use --engine soft");
	c = calloc(1, sizeof(*c));
	if (c)
		c->xsave = calloc(1, k->xsave_size);
	if (!c || !c->xsave) {
		free(c);
		return err_set(e, ENOMEM, "out of memory for processor %u", v->index);
	}
	c->kvm = k;
	c->v = v;
	c->given = -1;
	c->fd = k->sys->ioctl(k->vm, KVM_CREATE_VCPU, v->index);
	if (c->fd < 0)
		rc = err_errno(e, errno, "KVM could not make processor %u", v->index);
	if (!rc)
		rc = map_run(c, e);
	if (!rc)
		rc = kvm_cpuid_set(c, e);
	if (!rc)
		rc = kvm_ring_map(c, e);
	if (!rc)
		rc = kvm_apic_take(c, e);
	if (rc) {
		kvm_apic_give_back(c);
		cpu_free(c);
		return rc;
	}
	k->cpu[v->index] = c;
	return 0;
}

const struct engine_ops engine_kvm = {
	.name = "kvm",
	.probe = kvm_probe_device,
	.create = kvm_create,
	.destroy = kvm_destroy,
	.vcpu_add = kvm_vcpu_add,
	.vcpu_remove = kvm_vcpu_remove,
	.vcpu_run = kvm_vcpu_run,
	.vcpu_kick = kvm_vcpu_kick,
	.has_apics = kvm_has_apics,
	.send_msi = kvm_send_msi,
	.irqfd_add = kvm_irqfd_add,
	.irqfd_remove = kvm_irqfd_remove,
	.counters = kvm_counters,
	.dirty_start = kvm_dirty_start,
	.dirty_collect = kvm_dirty_collect,
	.dirty_stop = kvm_dirty_stop,
};
