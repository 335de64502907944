// SPDX-License-Identifier: Apache-2.0
/* `vireo run --serial`: what COM1 and COM2 are connected to. */
#include "base/char_console.h"
#include "mgmt/machine.h"
#include "mgmt/run_char.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A machine that is kept has no terminal: its first port is for vireo console and vireo logs. */
static int attach_console(struct vm *vm, struct err *e)
{
	struct char_backend *b;
	int rc;

	rc = char_console_create(&b, vm_loop(vm), MACHINE_SERIAL_LOG, MACHINE_CONSOLE, e);
	if (!rc)
		vm_attach_serial(vm, 0, b);
	return rc;
}

int run_add_serials(struct vm *vm, struct run_chars *chars, const struct run_options *o, bool *stdio,
		    struct err *e)
{
	bool com2_stdio = false;
	int rc = 0;

	*stdio = true;
	for (unsigned int i = 0; i < o->serial_count && !rc; i++) {
		const bool here = !strcmp(o->serial[i], "stdio");
		struct char_backend *b;
		char com[16];

		if (i == 0)
			*stdio = here;
		else
			com2_stdio = here;
		if (here || !strcmp(o->serial[i], "none"))
			continue;
		snprintf(com, sizeof(com), "COM%u", i + 1);
		rc = run_char_open(chars, &b, "--serial", com, o->serial[i], false, e);
		if (!rc)
			vm_attach_serial(vm, i, b);
	}
	if (!rc && *stdio && o->kept) {
		*stdio = false;
		rc = attach_console(vm, e);
	}
	if (!rc && com2_stdio)
		rc = err_set(e, EINVAL, "--serial stdio is for COM1: give COM2 a pty, a file, a socket");
	return rc;
}
