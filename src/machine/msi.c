// SPDX-License-Identifier: Apache-2.0
/*
 * Devices' messages to local APICs.  While an engine has APICs of its own, a message that is sent
 * again and again is given an eventfd that the engine sends it for (irqfd).
 *
 * Who sends holds engine_lock for reading, so that between a look at a route and its signal no
 * engine goes; set_engine.c takes all routes from the old engine before it goes, and they are
 * made anew as messages come.
 *
 * Locks: a device's, engine_lock, routes_lock.
 */
#include "machine/vm_priv.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MSI_ADDRESS	0xfee00000ULL
#define MSI_LOGICAL	BIT(2)
#define MSI_ASSERT	BIT(14)
#define MSI_LEVEL	BIT(15)

/* --- to the engine --- */

struct message {
	uint64_t addr;
	uint32_t data;
};

/* As a device would write it: all are 0xff, else a destination's bits 8-31 are in the upper half. */
static struct message message_of(const struct apic_msg *m)
{
	const uint32_t high = m->dest == APIC_DEST_ALL ? 0 : m->dest & ~0xffU;

	return (struct message){
		.addr = MSI_ADDRESS | (m->dest & 0xff) << 12 | (m->logical ? MSI_LOGICAL : 0) |
			(uint64_t)high << 32,
		.data = m->vector | m->mode << 8 | MSI_ASSERT | (m->level ? MSI_LEVEL : 0),
	};
}

static bool send_to_engine(void *arg, const struct apic_msg *m)
{
	const struct message w = message_of(m);
	struct vm *vm = arg;

	return vm->config.engine->send_msi(vm->engine, w.addr, w.data);
}

void vm_connect_apics(struct vm *vm)
{
	const struct engine_ops *ops = vm->config.engine;
	const bool theirs = ops->has_apics && ops->has_apics(vm->engine);

	vm->pc.apic_bus.engine = vm;
	vm->pc.apic_bus.forward = theirs ? send_to_engine : NULL;
	vm->pc.apic_bus.lock = &vm->engine_lock;
}

/* --- routes --- */

/* Level-triggered messages tell of their end, which no eventfd does. */
static bool routable(const struct vm *vm, const struct msi_route *r, uint64_t addr, uint32_t data)
{
	return vm->pc.apic_bus.forward && vm->config.engine->irqfd_add &&
	       r->refused != vm->engines && addr >> 20 == MSI_ADDRESS >> 20 && !(data & MSI_LEVEL);
}

static int take_route(struct vm *vm, struct msi_route *r, uint64_t addr, uint32_t data)
{
	const struct apic_msg m = apic_msg_of_msi(addr, data);
	const struct message w = message_of(&m);
	struct err e;

	if (r->fd < 0)
		r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return r->fd < 0 ? -errno :
	       vm->config.engine->irqfd_add(vm->engine, r->fd, w.addr, w.data, &e);
}

static void make_route(struct vm *vm, struct msi_route *r, uint64_t addr, uint32_t data)
{
	pthread_mutex_lock(&vm->routes_lock);
	if (take_route(vm, r, addr, data)) {
		r->refused = vm->engines;
	} else {
		r->on = true;
		r->next = vm->routes;
		vm->routes = r;
	}
	pthread_mutex_unlock(&vm->routes_lock);
}

static void send_routed(void *sink, struct msi_route *r, uint64_t addr, uint32_t data)
{
	struct vm *vm = sink;
	bool sent;

	pthread_rwlock_rdlock(&vm->engine_lock);
	if (!r->on && routable(vm, r, addr, data))
		make_route(vm, r, addr, data);
	sent = r->on && !eventfd_write(r->fd, 1);
	pthread_rwlock_unlock(&vm->engine_lock);
	if (sent)
		atomic_fetch_add_explicit(&vm->routed, 1, memory_order_relaxed);
	else
		apic_bus_msi(&vm->pc.apic_bus, addr, data);
}

static void send(void *sink, uint64_t addr, uint32_t data)
{
	apic_bus_msi(&((struct vm *)sink)->pc.apic_bus, addr, data);
}

static void drop_route(struct vm *vm, struct msi_route *r)
{
	struct msi_route **p = &vm->routes;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	r->on = false;
	vm->config.engine->irqfd_remove(vm->engine, r->fd);
}

static void unroute(void *sink, struct msi_route *r)
{
	struct vm *vm = sink;

	pthread_rwlock_rdlock(&vm->engine_lock);
	pthread_mutex_lock(&vm->routes_lock);
	if (r->on)
		drop_route(vm, r);
	pthread_mutex_unlock(&vm->routes_lock);
	pthread_rwlock_unlock(&vm->engine_lock);
	if (r->fd >= 0)
		close(r->fd);
	*r = (struct msi_route){ .fd = -1 };
}

struct msi_line vm_msi_line(struct vm *vm)
{
	return (struct msi_line){
		.send = send, .send_routed = send_routed, .unroute = unroute, .sink = vm,
	};
}

void vm_drop_routes(struct vm *vm)
{
	while (vm->routes)
		drop_route(vm, vm->routes);
}
