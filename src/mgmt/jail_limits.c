// SPDX-License-Identifier: Apache-2.0
/* `vireo run --limit`: the text of a control group's limits. */
#include "mgmt/jail.h"
#include "backend/block.h"
#include "mgmt/run_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_MAX	10000UL
#define CPU_MAX		100000UL
#define RATE_MIN	4096UL
#define PIDS_MAX	4194304UL

bool jail_limits_set(const struct jail_limits *l)
{
	return l->cpu_weight || l->cpu || l->memory || l->pids || l->io_weight ||
	       l->io_read || l->io_write;
}

static int parse_number(unsigned int *out, const char *key, const char *text, unsigned long max,
			struct err *e)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || !n || n > max)
		return err_set(e, EINVAL, "--limit %s=%s: give a number from 1 to %lu", key, text, max);
	*out = n;
	return 0;
}

/* Bytes a second. */
static int parse_rate(uint64_t *out, const char *key, const char *text, struct err *e)
{
	const char *end;

	if (!block_parse_size(text, out, &end) || *end || *out < RATE_MIN)
		return err_set(e, EINVAL, "--limit %s=%s: give bytes a second, at least %lu, as 10M or 500K", key,
			       text, RATE_MIN);
	return 0;
}

static int set_limit(struct jail_limits *l, const char *key, char *value, struct err *e)
{
	char *percent = strchr(value, '%');

	if (!strcmp(key, "cpu-weight"))
		return parse_number(&l->cpu_weight, key, value, WEIGHT_MAX, e);
	if (!strcmp(key, "io-weight"))
		return parse_number(&l->io_weight, key, value, WEIGHT_MAX, e);
	if (!strcmp(key, "io-read"))
		return parse_rate(&l->io_read, key, value, e);
	if (!strcmp(key, "io-write"))
		return parse_rate(&l->io_write, key, value, e);
	if (!strcmp(key, "pids"))
		return parse_number(&l->pids, key, value, PIDS_MAX, e);
	if (!strcmp(key, "memory"))
		return parse_memory(&l->memory, value, e);
	if (!strcmp(key, "cpu")) {
		if (percent && !percent[1])
			*percent = '\0';
		return parse_number(&l->cpu, key, value, CPU_MAX, e);
	}
	return err_set(e, EINVAL, "--limit knows no '%s': it takes cpu-weight=N, cpu=PERCENT, "
		       "memory=SIZE, pids=N, io-weight=N, io-read=SIZE, io-write=SIZE", key);
}

int jail_limits_parse(struct jail_limits *l, const char *text, struct err *e)
{
	char *copy = strdup(text), *rest = copy, *item, *value;
	int rc = copy ? 0 : err_set(e, ENOMEM, "out of memory for --limit");

	while (!rc && (item = strsep(&rest, ","))) {
		value = strchr(item, '=');
		if (value)
			*value++ = '\0';
		rc = set_limit(l, item, value ? value : item + strlen(item), e);
	}
	free(copy);
	return rc;
}
