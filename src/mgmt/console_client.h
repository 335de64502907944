/* SPDX-License-Identifier: Apache-2.0 */
/* This terminal, or stdin and stdout, as the serial console of a machine that runs. */
#ifndef VIREO_MGMT_CONSOLE_CLIENT_H
#define VIREO_MGMT_CONSOLE_CLIENT_H

#include "mgmt/escape.h"
#include "mgmt/machine.h"

/* Until the machine ends or the user leaves; the exit status, and @e if something failed. */
int console_attach(const struct machine *m, uint8_t escape_key, struct err *e);

#endif
