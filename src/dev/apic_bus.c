// SPDX-License-Identifier: Apache-2.0
/*
 * Messages between APICs, and the LINT wires.
 *
 * Source: Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)",
 * sections "Determining IPI Destination", "Lowest Priority Delivery Mode" and "Message
 * Signalled Interrupts".
 *
 * Not modelled: interrupt remapping, extended destination IDs.
 */
#include "dev/lapic_priv.h"

#include <errno.h>
#include <stdatomic.h>

#define MSI_LOGICAL		BIT(2)
#define MSI_DEST(addr)		((addr) >> 12 & 0xff)

void apic_bus_init(struct apic_bus *bus)
{
	*bus = (struct apic_bus){ 0 };
}

void apic_bus_set_pic(struct apic_bus *bus, int (*ack)(void *pic), void *pic)
{
	bus->extint_ack = ack;
	bus->pic = pic;
}

int apic_bus_add_ioapic(struct apic_bus *bus, void (*eoi)(void *, uint8_t),
			void (*taken)(void *, uint8_t), void *ioapic)
{
	if (bus->ioapic_count == APIC_BUS_IOAPICS)
		return -ENOSPC;
	bus->ioapic[bus->ioapic_count].eoi = eoi;
	bus->ioapic[bus->ioapic_count].taken = taken;
	bus->ioapic[bus->ioapic_count++].ioapic = ioapic;
	return 0;
}

void apic_bus_remove_ioapic(struct apic_bus *bus, void *ioapic)
{
	for (unsigned int i = 0; i < bus->ioapic_count; i++) {
		if (bus->ioapic[i].ioapic != ioapic)
			continue;
		bus->ioapic[i] = bus->ioapic[--bus->ioapic_count];
		return;
	}
}

void apic_bus_eoi(struct apic_bus *bus, uint8_t vector)
{
	for (unsigned int i = 0; i < bus->ioapic_count; i++)
		bus->ioapic[i].eoi(bus->ioapic[i].ioapic, vector);
}

void apic_bus_settle(struct apic_bus *bus)
{
	for (unsigned int vector = 16; vector < 256; vector++) {
		bool served = false;

		for (unsigned int i = 0; i < bus->lapic_count && !served; i++)
			served = bus->lapic[i] && lapic_serves(bus->lapic[i], vector);
		if (!served)
			apic_bus_eoi(bus, vector);
	}
}

void apic_bus_taken(struct apic_bus *bus, uint8_t vector)
{
	for (unsigned int i = 0; i < bus->ioapic_count; i++)
		bus->ioapic[i].taken(bus->ioapic[i].ioapic, vector);
}

bool apic_bus_is_waiting(struct apic_bus *bus, const struct apic_msg *m)
{
	bool waiting = false;

	if (bus->lock)
		pthread_rwlock_rdlock(bus->lock);
	for (unsigned int i = 0; !bus->forward && !waiting && i < bus->lapic_count; i++)
		waiting = bus->lapic[i] && lapic_matches(bus->lapic[i], m) &&
			  lapic_holds(bus->lapic[i], m->vector);
	if (bus->lock)
		pthread_rwlock_unlock(bus->lock);
	return waiting;
}

static void set_lint0(void *sink, unsigned int pin, bool level)
{
	struct apic_bus *bus = sink;

	(void)pin;
	if (atomic_exchange(&bus->lint0, level) == level)
		return;
	for (unsigned int i = 0; i < bus->lapic_count; i++)
		if (bus->lapic[i])
			lapic_lint0(bus->lapic[i], level);
}

static void set_lint1(void *sink, unsigned int pin, bool level)
{
	struct apic_bus *bus = sink;

	(void)pin;
	if (!level)
		return;
	for (unsigned int i = 0; i < bus->lapic_count; i++)
		if (bus->lapic[i])
			lapic_lint1(bus->lapic[i]);
}

struct irq_line apic_bus_lint0(struct apic_bus *bus)
{
	return (struct irq_line){ .set = set_lint0, .sink = bus };
}

struct irq_line apic_bus_lint1(struct apic_bus *bus)
{
	return (struct irq_line){ .set = set_lint1, .sink = bus };
}

/* The least busy of the destinations; among equals they take turns. */
static bool send_lowest(struct apic_bus *bus, const struct apic_msg *m)
{
	unsigned int first = atomic_fetch_add(&bus->arbiter, 1), best_rank = 256;
	struct lapic *best = NULL;

	for (unsigned int i = 0; i < bus->lapic_count; i++) {
		struct lapic *l = bus->lapic[(first + i) % bus->lapic_count];
		unsigned int rank;

		if (!l || l == m->except || !lapic_matches(l, m))
			continue;
		rank = lapic_arbitration(l);
		if (rank < best_rank) {
			best_rank = rank;
			best = l;
		}
	}
	return best && lapic_accept(best, m);
}

static bool send_here(struct apic_bus *bus, const struct apic_msg *m)
{
	bool accepted = false;

	if (m->mode == APIC_LOWEST)
		return send_lowest(bus, m);
	if (!m->logical && m->dest < bus->lapic_count) {
		struct lapic *l = bus->lapic[m->dest];

		return l && l != m->except && lapic_matches(l, m) && lapic_accept(l, m);
	}
	for (unsigned int i = 0; i < bus->lapic_count; i++) {
		struct lapic *l = bus->lapic[i];

		if (l && l != m->except && lapic_matches(l, m))
			accepted |= lapic_accept(l, m);
	}
	return accepted;
}

bool apic_bus_send(struct apic_bus *bus, const struct apic_msg *m)
{
	bool accepted;

	if (!bus->lock)
		return send_here(bus, m);
	pthread_rwlock_rdlock(bus->lock);
	accepted = bus->forward ? bus->forward(bus->engine, m) : send_here(bus, m);
	pthread_rwlock_unlock(bus->lock);
	return accepted;
}

struct apic_msg apic_msg_of_msi(uint64_t addr, uint32_t data)
{
	return (struct apic_msg){
		.dest = MSI_DEST(addr) == 0xff ? APIC_DEST_ALL : MSI_DEST(addr),
		.vector = data & 0xff,
		.mode = data >> 8 & 7,
		.logical = addr & MSI_LOGICAL,
		.level = data & BIT(15),
	};
}

void apic_bus_msi(struct apic_bus *bus, uint64_t addr, uint32_t data)
{
	const struct apic_msg m = apic_msg_of_msi(addr, data);

	apic_bus_send(bus, &m);
}
