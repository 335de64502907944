// SPDX-License-Identifier: Apache-2.0
/* Words for --cpu-weight, --cpu-cap, --cpu-pin and --vcpu; see cpu_limits.h. */
#include "mgmt/cpu_limits.h"

#include <errno.h>
#include <stdio.h>
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

int cpu_list_parse(cpu_set_t *set, const char *text, unsigned int max, struct err *e)
{
	const char *at = text;

	CPU_ZERO(set);
	for (;;) {
		unsigned long first, last;
		char *end;

		if (!number(at, max - 1, &first, &end))
			break;
		last = first;
		if (*end == '-' && !number(end + 1, max - 1, &last, &end))
			break;
		if (last < first || (*end && *end != ','))
			break;
		for (; first <= last; first++)
			CPU_SET(first, set);
		if (!*end)
			return 0;
		at = end + 1;
	}
	return err_set(e, EINVAL, "'%s' is no list of processors below %u: write 0-1,4", text, max);
}

int cpu_pin_parse(struct cpu_limits *l, const char *text, struct err *e)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	if (strcmp(text, "none") && cpu_list_parse(&set, text, CPU_SETSIZE, NULL))
		return err_set(e, EINVAL, "'%s' is no list of the host's processors: write 0-1,4, or none",
			       text);
	l->pin = set;
	l->pinned = CPU_COUNT(&set) != 0;
	return 0;
}

/* --- of single processors --- */

static int set_one(struct cpu_limits *l, const char *key, const char *value, struct err *e)
{
	if (!strcmp(key, "weight"))
		return cpu_weight_parse(l, value, e);
	if (!strcmp(key, "cap"))
		return cpu_cap_parse(l, value, e);
	return err_set(e, EINVAL, "--vcpu knows no '%s': it takes weight=N, cap=N%% and, last, pin=LIST",
		       key);
}

/* "weight=N,...,pin=LIST", which is cut into pieces. */
static int parse_limits(struct cpu_limits *l, char *text, struct err *e)
{
	char *key, *value;
	int rc = 0;

	while (!rc && text && strncmp(text, "pin=", 4)) {
		key = strsep(&text, ",");
		value = strchr(key, '=');
		if (value)
			*value++ = '\0';
		rc = set_one(l, key, value ? value : "", e);
	}
	return rc || !text ? rc : cpu_pin_parse(l, text + 4, e);
}

int vcpu_limits_parse(struct cpu_limits *l, unsigned int max, const char *text, struct err *e)
{
	/* The list ends where a word begins. */
	const size_t len = strspn(text, "0123456789-,");
	struct cpu_limits one = { 0 };
	char *copy = strdup(text);
	cpu_set_t set;
	int rc;

	if (!copy)
		return err_set(e, ENOMEM, "out of memory for --vcpu");
	if (!text[len] || !len || text[len - 1] != ',') {
		rc = err_set(e, EINVAL, "--vcpu '%s' says nothing of a processor: write 1,cap=50%%", text);
		goto out;
	}
	copy[len - 1] = '\0';
	rc = cpu_list_parse(&set, copy, max, e);
	if (!rc)
		rc = parse_limits(&one, copy + len, e);
	for (unsigned int i = 0; !rc && i < max; i++)
		if (CPU_ISSET(i, &set))
			l[i] = one;
out:
	free(copy);
	return rc;
}

/* --- telling --- */

static json_t *list_json(const cpu_set_t *set)
{
	char text[6 * CPU_SETSIZE];
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < CPU_SETSIZE; i++) {
		unsigned int last = i;

		if (!CPU_ISSET(i, set))
			continue;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
			last++;
		len += snprintf(text + len, sizeof(text) - len, "%s%u", len ? "," : "", i);
		if (last > i)
			len += snprintf(text + len, sizeof(text) - len, "-%u", last);
		i = last;
	}
	return json_string(text);
}

json_t *cpu_limits_json(const struct cpu_limits *l)
{
	json_t *o;

	if (!l->weight && !l->cap && !l->pinned)
		return NULL;
	o = json_object();
	if (l->weight)
		json_object_set_new(o, "weight", json_sprintf("%u", l->weight));
	if (l->cap)
		json_object_set_new(o, "cap", json_sprintf("%u%%", l->cap));
	if (l->pinned)
		json_object_set_new(o, "pin", list_json(&l->pin));
	return o;
}
