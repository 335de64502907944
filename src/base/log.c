// SPDX-License-Identifier: Apache-2.0
/* The log of one VM; see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <time.h>

#define GUEST_LINES_PER_SECOND 20

void log_init(struct log *log, enum log_level level, FILE *out)
{
	*log = (struct log){ .level = level, .out = out };
}

/* What is no ASCII may be cut in the middle, or no UTF-8: it becomes a question mark. */
static void log_json(struct log *log, enum log_level level, const char *line)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char text[2 * 1024], *at = text;

	for (; *line && at < text + sizeof(text) - 2; line++) {
		if (*line == '"' || *line == '\\')
			*at++ = '\\';
		*at++ = *line < ' ' || *line > '~' ? '?' : *line;
	}
	*at = '\0';
	fprintf(log->out, "{\"level\":\"%s\",\"text\":\"%s\"}\n", names[level], text);
}

static void log_vprint(struct log *log, enum log_level level, const char *fmt, va_list ap)
{
	static const char *const names[] = { "error: ", "warning: ", "", "debug: " };
	char line[1024];

	vsnprintf(line, sizeof(line), fmt, ap);
	if (log->json) {
		log_json(log, level, line);
		return;
	}
	/* One call, so that lines of several threads stay whole. */
	fprintf(log->out, "vireo: %s%s\n", names[level], line);
}

void log_print(struct log *log, enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log || !log->out || level > log->level)
		return;
	va_start(ap, fmt);
	log_vprint(log, level, fmt, ap);
	va_end(ap);
}

void log_guest(struct log *log, const char *fmt, ...)
{
	struct timespec now;
	va_list ap;

	if (!log)
		return;
	log->guest_errors++;
	if (!log->out || log->level < LOG_DEBUG)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (log->second != now.tv_sec) {
		log->second = now.tv_sec;
		log->in_second = 0;
	}
	if (log->in_second++ >= GUEST_LINES_PER_SECOND)
		return;
	va_start(ap, fmt);
	log_vprint(log, LOG_DEBUG, fmt, ap);
	va_end(ap);
}
