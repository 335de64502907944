// SPDX-License-Identifier: Apache-2.0
/*
 * File descriptors in place of exits: a guest's write that only wakes somebody signals one
 * (ioeventfd), and one that is signalled interrupts the guest (irqfd).
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_IOEVENTFD", "KVM_IRQFD".
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>

/* --- doorbells --- */

static int doorbell(struct kvm *k, const struct io_doorbell *d, uint64_t addr, bool port, bool there)
{
	const struct kvm_ioeventfd io = {
		.datamatch = d->value, .addr = addr, .len = d->size, .fd = d->fd,
		.flags = (port ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (d->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (there ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kvm_vm_ioctl(k, KVM_IOEVENTFD, &io);
}

/* What KVM does not take is done by the device, as with the other engine. */
static void region_changed(void *arg, const struct io_region *r, bool port, bool there)
{
	const struct io_doorbell *list;
	struct kvm *k = arg;
	unsigned int count;

	if (!r->ops->doorbells)
		return;
	count = r->ops->doorbells(r->dev, &list);
	for (unsigned int i = 0; i < count; i++) {
		if (list[i].fd < 0 || (!list[i].size && !k->bells_any))
			continue;
		if (doorbell(k, &list[i], r->base + list[i].off, port, there) && there &&
		    !k->bells_told) {
			log_info(k->log, "KVM takes no more doorbells: writes to %s leave the guest",
				 r->name);
			k->bells_told = true;
		}
	}
}

void kvm_doorbells_begin(struct kvm *k)
{
	if (!kvm_cap(k, KVM_CAP_IOEVENTFD))
		return;
	k->bells_any = kvm_cap(k, KVM_CAP_IOEVENTFD_ANY_LENGTH);
	k->regions = (struct region_watch){ .changed = region_changed, .arg = k };
	gpa_space_watch(k->space, &k->regions);
}

void kvm_doorbells_end(struct kvm *k)
{
	if (k->regions.changed)
		gpa_space_forget(k->space, &k->regions);
}

/* --- interrupts --- */

static int irqfd(struct kvm *k, int fd, unsigned int slot, bool add)
{
	const struct kvm_irqfd q = {
		.fd = fd, .gsi = KVM_ROUTES_EOI + slot,
		.flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return kvm_vm_ioctl(k, KVM_IRQFD, &q);
}

static struct kvm_fd_route *find_route(struct kvm *k, int fd)
{
	for (unsigned int i = 0; i < KVM_ROUTES_FD; i++)
		if (k->fd_route[i].fd == fd)
			return &k->fd_route[i];
	return NULL;
}

static int add_locked(struct kvm *k, int fd, uint64_t addr, uint32_t data, struct err *e)
{
	struct kvm_fd_route *r = find_route(k, fd);
	const bool known = r != NULL;

	if (!r)
		r = find_route(k, -1);
	if (!r)
		return err_set(e, ENOSPC, "KVM is given at most %d interrupts by descriptor",
			       KVM_ROUTES_FD);
	*r = (struct kvm_fd_route){ .fd = fd, .addr = addr, .data = data };
	if (!kvm_routes_set_locked(k) && (known || !irqfd(k, fd, r - k->fd_route, true)))
		return 0;
	err_errno(e, errno, "KVM refuses an interrupt by descriptor");
	r->fd = -1;
	return e ? e->code : -EIO;
}

int kvm_irqfd_add(struct engine *en, int fd, uint64_t addr, uint32_t data, struct err *e)
{
	struct kvm *k = (struct kvm *)en;
	int rc;

	if (!k->apics)
		return err_set(e, ENOTSUP, "KVM has no local APICs here, so that no descriptor can "
			       "interrupt the guest");
	pthread_mutex_lock(&k->route_lock);
	rc = add_locked(k, fd, addr, data, e);
	pthread_mutex_unlock(&k->route_lock);
	return rc;
}

void kvm_irqfd_remove(struct engine *en, int fd)
{
	struct kvm *k = (struct kvm *)en;
	struct kvm_fd_route *r;

	pthread_mutex_lock(&k->route_lock);
	r = fd >= 0 ? find_route(k, fd) : NULL;
	if (r) {
		irqfd(k, fd, r - k->fd_route, false);
		r->fd = -1;
		kvm_routes_set_locked(k);
	}
	pthread_mutex_unlock(&k->route_lock);
}
