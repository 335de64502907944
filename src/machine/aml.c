// SPDX-License-Identifier: Apache-2.0
/*
 * The AML builder; see aml.h.
 *
 * Package lengths always take three bytes (length up to 2^20 - 1), so that an object's
 * length can be filled in when it ends without moving its contents.
 */
#include "machine/aml.h"

#include <assert.h>
#include <string.h>

#define OP_ZERO		0x00
#define OP_NAME		0x08
#define OP_BYTE		0x0a
#define OP_WORD		0x0b
#define OP_DWORD	0x0c
#define OP_STRING	0x0d
#define OP_QWORD	0x0e
#define OP_SCOPE	0x10
#define OP_BUFFER	0x11
#define OP_PACKAGE	0x12
#define OP_METHOD	0x14
#define OP_ARG0		0x68
#define OP_STORE	0x70
#define OP_AND		0x7b
#define OP_NOTIFY	0x86
#define OP_IF		0xa0
#define OP_RETURN	0xa4
#define OP_EXT		0x5b
#define OP_EXT_REGION	0x80
#define OP_EXT_FIELD	0x81
#define OP_EXT_DEVICE	0x82
#define FIELD_DWORDS	0x43	/* accessed as dwords; a write zeroes the bits around */
#define PREFIX_ROOT	'\\'
#define PREFIX_DUAL	0x2e
#define PREFIX_MULTI	0x2f
#define LENGTH_BYTES	3

#define RES_IO		0x47	/* small items: type and length in one byte */
#define RES_IRQ		0x22
#define RES_END		0x79
#define RES_MEMORY32	0x86	/* large items */
#define RES_DWORD	0x87
#define RES_GSI		0x89
#define RES_WORD	0x88
#define RES_QWORD	0x8a
#define SPACE_MEMORY	0
#define SPACE_IO	1	/* an operation region's SystemIO too */
#define SPACE_BUS	2
#define WINDOW_FIXED	0x0c	/* minimum and maximum are fixed; positive decode, producer */

/* --- bytes --- */

void put8(struct aml *a, uint8_t value)
{
	if (a->len == a->size) {
		a->overflow = true;
		return;
	}
	a->buf[a->len++] = value;
}

void put16(struct aml *a, uint16_t value)
{
	put8(a, value);
	put8(a, value >> 8);
}

void put32(struct aml *a, uint32_t value)
{
	put16(a, value);
	put16(a, value >> 16);
}

void put64(struct aml *a, uint64_t value)
{
	put32(a, value);
	put32(a, value >> 32);
}

void put_text(struct aml *a, const char *s, unsigned int len)
{
	size_t n = strlen(s);

	for (unsigned int i = 0; i < len; i++)
		put8(a, i < n ? s[i] : 0);
}

void put_zeros(struct aml *a, unsigned int count)
{
	while (count--)
		put8(a, 0);
}

/* --- objects --- */

static void begin(struct aml *a)
{
	assert(a->depth < AML_DEPTH);
	a->open[a->depth++] = a->len;
	put_zeros(a, LENGTH_BYTES);
}

void aml_end(struct aml *a)
{
	uint32_t at, length;

	assert(a->depth);
	at = a->open[--a->depth];
	length = a->len - at;
	if (a->overflow)
		return;
	assert(length < BIT(20));
	a->buf[at] = (LENGTH_BYTES - 1) << 6 | (length & 0x0f);
	a->buf[at + 1] = length >> 4;
	a->buf[at + 2] = length >> 12;
}

/* "\\_SB_.PCI0" and the like: root prefix, number of segments, segments. */
static void put_path(struct aml *a, const char *path)
{
	size_t segments;

	if (*path == PREFIX_ROOT) {
		put8(a, PREFIX_ROOT);
		path++;
	}
	segments = (strlen(path) + 1) / 5;
	if (segments == 0) {
		put8(a, 0);	/* the root alone */
	} else if (segments == 2) {
		put8(a, PREFIX_DUAL);
	} else if (segments > 2) {
		put8(a, PREFIX_MULTI);
		put8(a, segments);
	}
	for (; segments--; path += 5) {
		assert(strnlen(path, 4) == 4);
		put_text(a, path, 4);
	}
}

void aml_scope(struct aml *a, const char *path)
{
	put8(a, OP_SCOPE);
	begin(a);
	put_path(a, path);
}

void aml_device(struct aml *a, const char *name)
{
	put8(a, OP_EXT);
	put8(a, OP_EXT_DEVICE);
	begin(a);
	put_path(a, name);
}

void aml_package(struct aml *a, unsigned int count)
{
	assert(count < 256);
	put8(a, OP_PACKAGE);
	begin(a);
	put8(a, count);
}

void aml_name(struct aml *a, const char *name)
{
	put8(a, OP_NAME);
	put_path(a, name);
}

void aml_integer(struct aml *a, uint64_t value)
{
	if (value <= 1) {
		put8(a, value);	/* ZeroOp, OneOp */
	} else if (value <= UINT8_MAX) {
		put8(a, OP_BYTE);
		put8(a, value);
	} else if (value <= UINT16_MAX) {
		put8(a, OP_WORD);
		put16(a, value);
	} else if (value <= UINT32_MAX) {
		put8(a, OP_DWORD);
		put32(a, value);
	} else {
		put8(a, OP_QWORD);
		put64(a, value);
	}
}

static unsigned int hex_digit(char c)
{
	return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* Three letters of five bits, four hexadecimal digits; the bytes in big-endian order. */
void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;

	assert(strlen(id) == 7);
	for (int i = 0; i < 3; i++)
		v = v << 5 | (id[i] - '@');
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	aml_integer(a, __builtin_bswap32(v));
}

void aml_string(struct aml *a, const char *s)
{
	put8(a, OP_STRING);
	put_text(a, s, strlen(s) + 1);
}

void aml_buffer(struct aml *a, const void *bytes, uint8_t size)
{
	put8(a, OP_BUFFER);
	begin(a);
	aml_integer(a, size);
	for (unsigned int i = 0; i < size; i++)
		put8(a, ((const uint8_t *)bytes)[i]);
	aml_end(a);
}

/* --- methods --- */

void aml_ports(struct aml *a, const char *name, uint16_t base, uint8_t size,
	       const char *const *fields, unsigned int count)
{
	put8(a, OP_EXT);
	put8(a, OP_EXT_REGION);
	put_path(a, name);
	put8(a, SPACE_IO);
	aml_integer(a, base);
	aml_integer(a, size);
	put8(a, OP_EXT);
	put8(a, OP_EXT_FIELD);
	begin(a);
	put_path(a, name);
	put8(a, FIELD_DWORDS);
	for (unsigned int i = 0; i < count; i++) {
		put_text(a, fields[i], 4);
		put8(a, 32);	/* bits */
	}
	aml_end(a);
}

void aml_method(struct aml *a, const char *name, unsigned int arguments)
{
	put8(a, OP_METHOD);
	begin(a);
	put_path(a, name);
	put8(a, arguments);
}

void aml_argument(struct aml *a, unsigned int n)
{
	put8(a, OP_ARG0 + n);
}

void aml_reference(struct aml *a, const char *path)
{
	put_path(a, path);
}

void aml_store(struct aml *a, uint64_t value, const char *to)
{
	put8(a, OP_STORE);
	aml_integer(a, value);
	put_path(a, to);
}

void aml_if_argument_has(struct aml *a, unsigned int n, uint64_t mask)
{
	put8(a, OP_IF);
	begin(a);
	put8(a, OP_AND);
	aml_argument(a, n);
	aml_integer(a, mask);
	put8(a, 0);	/* the result is stored nowhere */
}

void aml_if_field_has(struct aml *a, const char *field, uint64_t mask)
{
	put8(a, OP_IF);
	begin(a);
	put8(a, OP_AND);
	put_path(a, field);
	aml_integer(a, mask);
	put8(a, 0);
}

void aml_return(struct aml *a, uint64_t value)
{
	put8(a, OP_RETURN);
	aml_integer(a, value);
}

void aml_notify(struct aml *a, const char *object, unsigned int n)
{
	put8(a, OP_NOTIFY);
	put_path(a, object);
	aml_argument(a, n);
}

/* --- resource templates --- */

void aml_resources(struct aml *a)
{
	put8(a, OP_BUFFER);
	begin(a);
	put8(a, OP_WORD);
	put16(a, 0);	/* the buffer's size, known at the end */
}

void aml_resources_end(struct aml *a)
{
	uint32_t at = a->open[a->depth - 1] + LENGTH_BYTES;
	uint32_t size;

	put8(a, RES_END);
	put8(a, 0);	/* checksum: none */
	size = a->len - (at + LENGTH_BYTES);
	if (!a->overflow) {
		a->buf[at + 1] = size;
		a->buf[at + 2] = size >> 8;
	}
	aml_end(a);
}

void aml_io(struct aml *a, uint16_t base, uint8_t size)
{
	put8(a, RES_IO);
	put8(a, 1);	/* decodes 16 bits */
	put16(a, base);
	put16(a, base);
	put8(a, 1);	/* alignment */
	put8(a, size);
}

void aml_irq(struct aml *a, unsigned int irq)
{
	put8(a, RES_IRQ);
	put16(a, 1U << irq);
}

void aml_gsi(struct aml *a, uint32_t gsi)
{
	put8(a, RES_GSI);
	put16(a, 6);
	put8(a, 0x09);	/* consumer, shared */
	put8(a, 1);	/* one interrupt */
	put32(a, gsi);
}

void aml_memory(struct aml *a, uint32_t base, uint32_t size)
{
	put8(a, RES_MEMORY32);
	put16(a, 9);
	put8(a, 1);	/* read-write */
	put32(a, base);
	put32(a, size);
}

/* Head of a word, dword or qword address space descriptor. */
static void window(struct aml *a, uint8_t item, unsigned int width, uint8_t space,
		   uint8_t type_flags)
{
	put8(a, item);
	put16(a, 3 + 5 * width);
	put8(a, space);
	put8(a, WINDOW_FIXED);
	put8(a, type_flags);
}

void aml_bus_window(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, RES_WORD, 2, SPACE_BUS, 0);
	put16(a, 0);	/* granularity */
	put16(a, first);
	put16(a, last);
	put16(a, 0);	/* translation */
	put16(a, last - first + 1);
}

void aml_io_window(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, RES_WORD, 2, SPACE_IO, 3);	/* the whole range, ISA and not */
	put16(a, 0);
	put16(a, first);
	put16(a, last);
	put16(a, 0);
	put16(a, last - first + 1);
}

void aml_memory32_window(struct aml *a, uint32_t first, uint32_t last)
{
	window(a, RES_DWORD, 4, SPACE_MEMORY, 1);	/* read-write, not cacheable */
	put32(a, 0);
	put32(a, first);
	put32(a, last);
	put32(a, 0);
	put32(a, last - first + 1);
}

void aml_memory64_window(struct aml *a, uint64_t first, uint64_t last)
{
	window(a, RES_QWORD, 8, SPACE_MEMORY, 1);
	put64(a, 0);
	put64(a, first);
	put64(a, last);
	put64(a, 0);
	put64(a, last - first + 1);
}
