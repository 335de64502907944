/* SPDX-License-Identifier: Apache-2.0 */
/* Within the jail; for its files only. */
#ifndef VIREO_MGMT_JAIL_PRIV_H
#define VIREO_MGMT_JAIL_PRIV_H

#include "mgmt/jail.h"

/* Namespaces for this process and, the one of processes, for its next child.  One thread only. */
int jail_enter(struct err *e);

#endif
