/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of one VM.  Lines go to stderr (or a file), one sentence each.
 * log_guest() is for what a guest did wrong: counted, printed at a limited rate
 * and only at LOG_DEBUG or when asked, so that a hostile guest fills no disk.
 * Thread-safe.
 */
#ifndef VIREO_BASE_LOG_H
#define VIREO_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
	enum log_level level;		/* what is printed: this and graver */
	FILE *out;			/* borrowed; NULL prints nothing */
	bool json;			/* lines are objects with level and text */
	_Atomic uint64_t guest_errors;	/* all log_guest() calls */
	_Atomic int64_t second;		/* rate limit: current second ... */
	_Atomic unsigned in_second;	/* ... and lines in it */
};

void log_init(struct log *log, enum log_level level, FILE *out);
void log_print(struct log *log, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void log_guest(struct log *log, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(l, ...)	log_print((l), LOG_ERROR, __VA_ARGS__)
#define log_warn(l, ...)	log_print((l), LOG_WARN, __VA_ARGS__)
#define log_info(l, ...)	log_print((l), LOG_INFO, __VA_ARGS__)
#define log_debug(l, ...)	log_print((l), LOG_DEBUG, __VA_ARGS__)

#endif
