// SPDX-License-Identifier: Apache-2.0
/* Exit statuses; see status.h. */
#include "mgmt/status.h"

static const struct {
	int value;
	const char *meaning;
} statuses[] = {
#define STATUS(name, value, meaning) { value, meaning },
#include "mgmt/status.def"
#undef STATUS
};

int status_of_vm(const struct vm_result *r)
{
	switch (r->exit) {
	case VM_EXIT_POWEROFF:
		return STATUS_OK;
	case VM_EXIT_RESET:
		return STATUS_RESET;
	case VM_EXIT_TRIPLE_FAULT:
		return STATUS_TRIPLE;
	case VM_EXIT_PANIC:
		return STATUS_PANIC;
	case VM_EXIT_STOPPED:
		return STATUS_STOPPED;
	case VM_EXIT_DEBUG:
		return r->status & 0xff;
	case VM_EXIT_ERROR:
		break;
	}
	return STATUS_HOST;
}

const char *status_meaning(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (statuses[i].value == status)
			return statuses[i].meaning;
	return NULL;
}

void status_print_table(FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		fprintf(out, "  %-4d %s\n", statuses[i].value, statuses[i].meaning);
	fprintf(out, "  odd  (value << 1) | 1 for the value written to the debug-exit port\n");
}
