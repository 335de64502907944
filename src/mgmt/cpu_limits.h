/* SPDX-License-Identifier: Apache-2.0 */
/* The words for struct cpu_limits: "512", "150%", "0-1,4"; "none" takes one away. */
#ifndef VIREO_MGMT_CPU_LIMITS_H
#define VIREO_MGMT_CPU_LIMITS_H

#include "machine/cpu_share.h"

/* -EINVAL with a sentence, and nothing is set. */
int cpu_weight_parse(struct cpu_limits *l, const char *text, struct err *e);
int cpu_cap_parse(struct cpu_limits *l, const char *text, struct err *e);
int cpu_pin_parse(struct cpu_limits *l, const char *text, struct err *e);

#endif
