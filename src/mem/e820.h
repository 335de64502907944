/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory map as a PC tells it: what boot loaders hand to the kernel and
 * fw_cfg shows as etc/e820.  The machine makes it (vm_memory_map), loaders read it.
 *
 * Source: ACPI specification, "System Address Map Interfaces".
 */
#ifndef VIREO_MEM_E820_H
#define VIREO_MEM_E820_H

#include "base/types.h"

#define E820_RAM	1
#define E820_RESERVED	2
#define E820_ACPI	3
#define E820_NVS	4

#define E820_MAX	16	/* entries a machine of ours ever has */

/* As the BIOS call returns it: 20 bytes, little-endian, sorted by address. */
struct e820_entry {
	uint64_t base;
	uint64_t size;
	uint32_t type;
} __attribute__((packed));

struct e820_map {
	unsigned int count;
	struct e820_entry entry[E820_MAX];
};

#endif
