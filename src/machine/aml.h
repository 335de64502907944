/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A little-endian byte writer, and on it a builder of ACPI Machine Language: named
 * objects, packages, devices and resource templates, as far as our DSDT needs them.
 *
 * A writer never fails in the middle: past its end it drops bytes and remembers that.
 * Names are four characters, or a path such as "\\_SB_.PCI0".
 *
 * Source: ACPI specification, "ACPI Machine Language (AML) Specification", "Resource Data
 * Types for ACPI".
 */
#ifndef VIREO_MACHINE_AML_H
#define VIREO_MACHINE_AML_H

#include "base/types.h"

#define AML_DEPTH 8

struct aml {
	uint8_t *buf;
	uint32_t size, len;
	bool overflow;
	uint32_t open[AML_DEPTH];	/* where the lengths of open objects stand */
	unsigned int depth;
};

/* --- bytes --- */

void put8(struct aml *a, uint8_t value);
void put16(struct aml *a, uint16_t value);
void put32(struct aml *a, uint32_t value);
void put64(struct aml *a, uint64_t value);
/* @len bytes of @s, filled up with zeros. */
void put_text(struct aml *a, const char *s, unsigned int len);
void put_zeros(struct aml *a, unsigned int count);

/* --- objects; each begin has its end --- */

void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
/* A package of @count elements: what is put until the end, by aml_integer and the like. */
void aml_package(struct aml *a, unsigned int count);
void aml_end(struct aml *a);

/* Name (@name, ...): the object follows. */
void aml_name(struct aml *a, const char *name);
void aml_integer(struct aml *a, uint64_t value);
void aml_eisa_id(struct aml *a, const char *id);	/* "PNP0A08" */
void aml_string(struct aml *a, const char *s);
void aml_buffer(struct aml *a, const void *bytes, uint8_t size);

/* --- methods: terms follow until the end --- */

/* A region of @size I/O ports named @name, and @count fields of 32 bits each in it. */
void aml_ports(struct aml *a, const char *name, uint16_t base, uint8_t size,
	       const char *const *fields, unsigned int count);
void aml_method(struct aml *a, const char *name, unsigned int arguments);
void aml_argument(struct aml *a, unsigned int n);
/* A name used: a field, an object; in a method's terms, a call that its arguments follow. */
void aml_reference(struct aml *a, const char *path);
/* Store (@value, @to). */
void aml_store(struct aml *a, uint64_t value, const char *to);
/* If (And (argument @n, @mask)): terms follow until the end. */
void aml_if_argument_has(struct aml *a, unsigned int n, uint64_t mask);
/* If (And (@field, @mask)). */
void aml_if_field_has(struct aml *a, const char *field, uint64_t mask);
void aml_return(struct aml *a, uint64_t value);
/* Notify (@object, argument @n). */
void aml_notify(struct aml *a, const char *object, unsigned int n);

/* --- resource templates: a buffer of descriptors --- */

void aml_resources(struct aml *a);
void aml_resources_end(struct aml *a);
void aml_io(struct aml *a, uint16_t base, uint8_t size);
void aml_irq(struct aml *a, unsigned int irq);		/* edge, active high */
void aml_gsi(struct aml *a, uint32_t gsi);		/* level, active high, shared */
void aml_memory(struct aml *a, uint32_t base, uint32_t size); /* fixed, read-write */
/* Windows that a bridge passes on; all ends inclusive. */
void aml_bus_window(struct aml *a, uint16_t first, uint16_t last);
void aml_io_window(struct aml *a, uint16_t first, uint16_t last);
void aml_memory32_window(struct aml *a, uint32_t first, uint32_t last);
void aml_memory64_window(struct aml *a, uint64_t first, uint64_t last);

#endif
