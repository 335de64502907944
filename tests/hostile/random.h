/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hostile guests share: a generator of random numbers whose sequence the seed on
 * the command line repeats, and one of random code.
 */
#ifndef VIREO_HOSTILE_RANDOM_H
#define VIREO_HOSTILE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODE_MAX	512		/* bytes of random code, with room for what follows */

extern uint64_t seed;

uint64_t rnd(void);
static inline uint32_t rnd_below(uint32_t n) { return (uint32_t)rnd() % n; }
/* A number that is likely to be somebody's edge, or an address. */
uint64_t rnd_value(void);
uint64_t rnd_device_address(void);
uint16_t rnd_port(void);
/* Reset, power-off, panic and debug exit work: too well for a long life. */
bool port_ends_it(uint16_t port);

/*
 * Random instructions to @code, ended by INT 80h; at most CODE_MAX bytes.  @bits is 16, 32
 * or 64.  @system: with plenty of those that only a kernel may execute.
 */
void code_make(uint8_t *code, unsigned int bits, bool system);

#endif
