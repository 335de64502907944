/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus between the local APICs of a VM and everything that sends to them: I/O
 * APICs, message-signalled interrupts, other local APICs; and the LINT0 and LINT1
 * wires, which reach every local APIC.
 *
 * Members join while the machine is built; later the bus is constant, so it has no
 * lock.  Everything here may be called on any thread, with the lock of a device, PIC or
 * I/O APIC held, but not with a local APIC's.
 */
#ifndef VIREO_DEV_APIC_BUS_H
#define VIREO_DEV_APIC_BUS_H

#include "base/types.h"
#include "base/wire.h"

#include <pthread.h>

#define APIC_BUS_LAPICS		256
#define APIC_BUS_IOAPICS	4
#define APIC_DEST_ALL		0xffffffffU	/* broadcast, physical or logical */

struct lapic;

enum apic_delivery {
	APIC_FIXED, APIC_LOWEST, APIC_SMI, APIC_NMI = 4, APIC_INIT, APIC_SIPI, APIC_EXTINT,
};

struct apic_msg {
	uint32_t dest;		/* APIC ID or logical destination; APIC_DEST_ALL */
	uint8_t vector;
	uint8_t mode;		/* enum apic_delivery */
	bool logical;
	bool level;		/* level-triggered: the EOI is broadcast */
	const struct lapic *except;	/* not to this one; NULL */
};

struct apic_bus {
	struct lapic *lapic[APIC_BUS_LAPICS];	/* by APIC ID */
	unsigned int lapic_count;		/* highest ID + 1 */
	struct {
		void (*eoi)(void *ioapic, uint8_t vector);
		void (*taken)(void *ioapic, uint8_t vector);
		void *ioapic;
	} ioapic[APIC_BUS_IOAPICS];
	unsigned int ioapic_count;
	int (*extint_ack)(void *pic);		/* the INTA cycle; see apic_bus_set_pic */
	void *pic;
	_Atomic bool lint0;			/* level of the LINT0 wire */
	_Atomic unsigned int arbiter;		/* breaks ties of lowest priority in turn */
	/*
	 * While an engine has local APICs of its own, messages go there: true if one accepted.
	 * Changed by the machine with 'lock' held for writing; NULL lock: never.
	 */
	pthread_rwlock_t *lock;
	bool (*forward)(void *engine, const struct apic_msg *m);
	void *engine;
};

/* @bus is zeroed by the owner (part of the VM). */
void apic_bus_init(struct apic_bus *bus);

/* Who answers the INTA cycles of ExtINT: i8259_ack and its device. */
void apic_bus_set_pic(struct apic_bus *bus, int (*ack)(void *pic), void *pic);

/* LINT0 (the PIC's INTR goes here) and LINT1 (NMI sources) of all local APICs. */
struct irq_line apic_bus_lint0(struct apic_bus *bus);
struct irq_line apic_bus_lint1(struct apic_bus *bus);

/* A processor has begun with an interrupt: its local APIC could take another of @vector. */
void apic_bus_taken(struct apic_bus *bus, uint8_t vector);
/* Would @m be lost in one that came before it, which no processor has begun with? */
bool apic_bus_is_waiting(struct apic_bus *bus, const struct apic_msg *m);

/*
 * After an engine gave its local APICs back, while no processor runs: an end of interrupt that it
 * had not told of yet is told now, to I/O APICs that wait for one which no local APIC has any more.
 */
void apic_bus_settle(struct apic_bus *bus);

/* Sends @m to its destinations; true if one accepted it. */
bool apic_bus_send(struct apic_bus *bus, const struct apic_msg *m);

/* A device's write of @data to @addr (0xfeexxxxx): a message-signalled interrupt. */
struct apic_msg apic_msg_of_msi(uint64_t addr, uint32_t data);
void apic_bus_msi(struct apic_bus *bus, uint64_t addr, uint32_t data);

/* For members.  Adding: 0, or -ENOSPC. */
int apic_bus_add_ioapic(struct apic_bus *bus, void (*eoi)(void *, uint8_t),
			void (*taken)(void *, uint8_t), void *ioapic);
void apic_bus_remove_ioapic(struct apic_bus *bus, void *ioapic);
void apic_bus_eoi(struct apic_bus *bus, uint8_t vector);

#endif
