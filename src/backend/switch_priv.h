/* SPDX-License-Identifier: Apache-2.0 */
/* What both ends of a switch's socket know. */
#ifndef VIREO_BACKEND_SWITCH_PRIV_H
#define VIREO_BACKEND_SWITCH_PRIV_H

#include "base/err.h"

#include <sys/un.h>

/* Makes the folder if need be, and the socket's address. */
int switch_address(struct sockaddr_un *a, const char *name, struct err *e);
/* Of the process that serves the switch whose socket is @path. */
int switch_confine(const char *path, struct err *e);

#endif
