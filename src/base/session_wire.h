/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vireo and its program in the guest (guest/init.c) say to each other through a port of the
 * virtio console: one command at a time, with its streams and its end.  Each message is a type,
 * the length of what follows, and that.  Neither side believes the other.
 */
#ifndef VIREO_BASE_SESSION_WIRE_H
#define VIREO_BASE_SESSION_WIRE_H

#include <stdint.h>

#define SESSION_PORT		"vireo.session"	/* and a digit */
#define SESSION_PORTS		4		/* 0: of vireo run; the rest: of vireo exec */
#define SESSION_DATA_MAX	65536
#define SESSION_WORDS_MAX	1024		/* of SESSION_START */
#define SESSION_VERSION		1

struct session_head {
	uint8_t type;			/* enum session_type */
	uint8_t zero[3];
	uint32_t len;			/* bytes that follow, at most SESSION_DATA_MAX */
} __attribute__((packed));

struct session_window {
	uint16_t rows, columns;
};

enum session_type {
	/* From the guest. */
	SESSION_READY = 'R',		/* a uint32_t: the version; a command may be started */
	SESSION_OUT = 'O',		/* of its standard output */
	SESSION_ERR = 'E',		/* of its standard error */
	SESSION_EXIT = 'X',		/* a uint32_t: its exit status, 128 + N after signal N */
	SESSION_FAIL = 'F',		/* the same, and a sentence: it was not started */
	/* From the host. */
	SESSION_START = 's',		/* struct session_start, then words, each with its zero */
	SESSION_IN = 'i',		/* for its standard input */
	SESSION_IN_END = 'e',
	SESSION_WINDOW = 'w',		/* struct session_window */
	SESSION_SIGNAL = 'k',		/* a uint32_t: to be sent to it */
	SESSION_GREET = 'g',		/* asks for SESSION_READY once more */
};

struct session_start {
	struct session_window window;	/* not 0: it gets a terminal of that size, and no SESSION_ERR */
	uint16_t words, environment;	/* how many are the command's; then NAME=VALUE */
	/* Then the folder to run it in, "": that of the root. */
};

#endif
