// SPDX-License-Identifier: Apache-2.0
/* Host facts; see host.h. */
#include "mgmt/host.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CGROUP_ROOT	"/sys/fs/cgroup"

bool host_read_number(const char *path, uint64_t *value)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return false;
	ok = fscanf(f, "%" SCNu64, value) == 1;
	fclose(f);
	return ok;
}

bool host_read_key(const char *path, const char *key, char *value, size_t size)
{
	const size_t key_len = strlen(key);
	FILE *f = fopen(path, "re");
	bool found = false;
	char *line = NULL;
	size_t room = 0;

	if (!f)
		return false;
	while (!found && getline(&line, &room, f) > 0) {
		char *p = line + key_len;

		if (strncmp(line, key, key_len))
			continue;
		p += strspn(p, " \t");
		if (*p != ':')
			continue;
		p += 1 + strspn(p + 1, " \t");
		p[strcspn(p, "\n")] = '\0';
		snprintf(value, size, "%s", p);
		found = true;
	}
	free(line);
	fclose(f);
	return found;
}

bool host_cpu_flag(const char *flag)
{
	const size_t len = strlen(flag);
	char flags[8192];

	if (!host_read_key("/proc/cpuinfo", "flags", flags, sizeof(flags)))
		return false;
	for (const char *p = flags; (p = strstr(p, flag)); p += len)
		if ((p == flags || p[-1] == ' ') && (p[len] == ' ' || !p[len]))
			return true;
	return false;
}

static void lower_limit(struct host_memory *m, uint64_t limit)
{
	if (limit >= m->limit)
		return;
	m->limit = limit;
	m->limited_by = "this control group";
}

/* Version 2: memory.max of our group and each one above it. */
static void read_cgroup2(struct host_memory *m, char *group)
{
	char path[4096 + 64];
	uint64_t limit;

	for (;;) {
		char *slash;

		snprintf(path, sizeof(path), CGROUP_ROOT "%s/memory.max", group);
		if (host_read_number(path, &limit))
			lower_limit(m, limit);
		slash = strrchr(group, '/');
		if (!slash)
			return;
		*slash = '\0';
	}
}

static void read_cgroups(struct host_memory *m)
{
	char line[4096];
	uint64_t limit;
	FILE *f;

	/* Version 1, and the root that a container sees. */
	if (host_read_number(CGROUP_ROOT "/memory/memory.limit_in_bytes", &limit))
		lower_limit(m, limit);
	f = fopen("/proc/self/cgroup", "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "0::", 3))
			read_cgroup2(m, line + 3);
	}
	fclose(f);
}

void host_memory_read(struct host_memory *m)
{
	char text[64];

	*m = (struct host_memory){ .total = UINT64_MAX };
	if (host_read_key("/proc/meminfo", "MemTotal", text, sizeof(text)))
		m->total = strtoull(text, NULL, 10) << 10;
	m->limit = m->total;
	read_cgroups(m);
}
