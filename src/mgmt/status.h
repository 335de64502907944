/* SPDX-License-Identifier: Apache-2.0 */
/* What vireo's exit status means; one table for the code and the help. */
#ifndef VIREO_MGMT_STATUS_H
#define VIREO_MGMT_STATUS_H

#include "machine/vm.h"

#include <stdio.h>

enum exit_status {
#define STATUS(name, value, meaning) STATUS_##name = value,
#include "mgmt/status.def"
#undef STATUS
};

/* The process's exit status for what ended the VM. */
int status_of_vm(const struct vm_result *r);
/* What it means, as a clause; NULL for a status of the debug-exit port. */
const char *status_meaning(int status);
void status_print_table(FILE *out);

#endif
