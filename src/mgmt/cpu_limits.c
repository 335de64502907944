// SPDX-License-Identifier: Apache-2.0
/* Parsing of --cpu-weight, --cpu-cap and --cpu-pin; see cpu_limits.h. */
#include "mgmt/cpu_limits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A number without sign at @text, up to @max; *end behind it.  False: there is none. */
static bool number(const char *text, unsigned long max, unsigned long *out, char **end)
{
	errno = 0;
	*out = strtoul(text, end, 10);
	return text[0] >= '0' && text[0] <= '9' && !errno && *out <= max;
}

int cpu_weight_parse(struct cpu_limits *l, const char *text, struct err *e)
{
	unsigned long n = 0;
	char *end = "";

	if (strcmp(text, "none") && (!number(text, CPU_WEIGHT_MAX, &n, &end) || *end || !n))
		return err_set(e, EINVAL, "'%s' is no weight of a VM: give a number from 1 to %u, or none",
			       text, CPU_WEIGHT_MAX);
	l->weight = n;
	return 0;
}

int cpu_cap_parse(struct cpu_limits *l, const char *text, struct err *e)
{
	unsigned long n = 0;
	char *end = "%";

	if (strcmp(text, "none") && (!number(text, CPU_CAP_MAX, &n, &end) || strcmp(end, "%") || !n))
		return err_set(e, EINVAL, "'%s' is no cap: give per cent of a processor, 1%% to %u%%, or none",
			       text, CPU_CAP_MAX);
	l->cap = n;
	return 0;
}

int cpu_pin_parse(struct cpu_limits *l, const char *text, struct err *e)
{
	const char *at = text;
	cpu_set_t set;

	CPU_ZERO(&set);
	while (strcmp(text, "none")) {
		unsigned long first, last;
		char *end;

		if (!number(at, CPU_SETSIZE - 1, &first, &end))
			goto bad;
		last = first;
		if (*end == '-' && !number(end + 1, CPU_SETSIZE - 1, &last, &end))
			goto bad;
		if (last < first || (*end && *end != ','))
			goto bad;
		for (; first <= last; first++)
			CPU_SET(first, &set);
		if (!*end)
			break;
		at = end + 1;
	}
	l->pin = set;
	l->pinned = CPU_COUNT(&set) != 0;
	return 0;
bad:
	return err_set(e, EINVAL, "'%s' is no list of the host's processors: write 0-1,4, or none", text);
}
