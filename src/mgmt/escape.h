/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console's escape key: what the user types for vireo and not for the guest.  The key
 * is followed by a letter; typed twice it is sent once.
 */
#ifndef VIREO_MGMT_ESCAPE_H
#define VIREO_MGMT_ESCAPE_H

#include "base/err.h"
#include "base/types.h"

#include <stdio.h>

#define ESCAPE_NONE	0	/* no escape key; NUL cannot be one */
#define ESCAPE_DEFAULT	0x1d	/* Ctrl-] */

enum escape_action {
	ESCAPE_END = '.',
	ESCAPE_POWER = 'p',
	ESCAPE_RESET = 'r',
	ESCAPE_BREAK = 'b',
	ESCAPE_HELP = '?',
};

struct escape {
	uint8_t key;
	bool pending;		/* the key came, its letter has not */
	void (*act)(void *arg, enum escape_action what);
	void *arg;
};

/* "^]", "^A", "none"; -EINVAL. */
int escape_parse_key(uint8_t *key, const char *text, struct err *e);
/* "Ctrl-]" into @name. */
void escape_key_name(uint8_t key, char name[8]);
/* For struct char_fd_config: @arg is a struct escape. */
size_t escape_filter(void *arg, uint8_t *buf, size_t len);
void escape_print_help(const struct escape *esc, FILE *out);

#endif
