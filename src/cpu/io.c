// SPDX-License-Identifier: Apache-2.0
/*
 * Port accesses: the check by IOPL and the TSS's I/O permission bitmap, and the access.
 *
 * Source: Intel SDM volume 1, "Input/Output" ("Protected-Mode I/O").
 */
#include "cpu/fpu.h"
#include "cpu/system_priv.h"

#define TSS_IO_MAP_BASE	102	/* offset in the 32- and 64-bit TSS of a 16-bit offset */

/* Two bytes of the TSS at @off; #GP(0) where they reach beyond its limit. */
static enum exec_status tss_word(struct vcpu *v, uint32_t off, uint16_t *word)
{
	gva_t at = v->tr.base + off;

	if (off + 1 > v->tr.limit)
		return raise_gp(v, 0);
	if (!in_long_mode(v))
		at = (uint32_t)at;
	return mem_status(mem_read(v, at, word, 2, ACC_READ | ACC_SUPER));
}

enum exec_status io_permitted(struct vcpu *v, uint16_t port, unsigned int size)
{
	enum exec_status rc;
	uint16_t map, bits;

	if (in_real_mode(v) || (!in_vm86(v) && v->cpl <= rflags_iopl(v)))
		return EXEC_OK;
	if (!(desc_type(&v->tr) & 8))	/* a 16-bit TSS has no bitmap */
		return raise_gp(v, 0);
	rc = tss_word(v, TSS_IO_MAP_BASE, &map);
	/* Two bytes are read even where one holds all bits: hence the byte of ones at its end. */
	if (rc == EXEC_OK)
		rc = tss_word(v, map + port / 8U, &bits);
	if (rc != EXEC_OK)
		return rc;
	return bits >> port % 8 & ((1U << size) - 1) ? raise_gp(v, 0) : EXEC_OK;
}

uint32_t io_in(struct vcpu *v, uint16_t port, unsigned int size)
{
	uint32_t value;

	fpu_put(v);
	stat_add(&v->stats.pio, 1);
	debug_io_breakpoint(v, port, size);
	vcpu_does(v, VCPU_DEVICE);
	value = pio_read(v->space, port, size);
	vcpu_does(v, VCPU_GUEST);
	return value;
}

void io_out(struct vcpu *v, uint16_t port, unsigned int size, uint32_t value)
{
	fpu_put(v);
	stat_add(&v->stats.pio, 1);
	debug_io_breakpoint(v, port, size);
	vcpu_does(v, VCPU_DEVICE);
	pio_write(v->space, port, size, value);
	vcpu_does(v, VCPU_GUEST);
}
