/* SPDX-License-Identifier: Apache-2.0 */
/* The words for struct cpu_limits: "512", "150%", "0-1,4"; "none" takes one away. */
#ifndef VIREO_MGMT_CPU_LIMITS_H
#define VIREO_MGMT_CPU_LIMITS_H

#include "machine/cpu_share.h"

#include <jansson.h>

/* -EINVAL with a sentence, and nothing is set. */
int cpu_weight_parse(struct cpu_limits *l, const char *text, struct err *e);
int cpu_cap_parse(struct cpu_limits *l, const char *text, struct err *e);
int cpu_pin_parse(struct cpu_limits *l, const char *text, struct err *e);

/* Numbers of processors, "0-1,4", below @max. */
int cpu_list_parse(cpu_set_t *set, const char *text, unsigned int max, struct err *e);

/*
 * "LIST,weight=N,cap=N%,pin=LIST", of which pin= comes last: what processors of a VM may have
 * goes to their places in @l, of @max.
 */
int vcpu_limits_parse(struct cpu_limits *l, unsigned int max, const char *text, struct err *e);

/* {"weight": "512", "cap": "150%", "pin": "0-1"} with those that are set; NULL: none is. */
json_t *cpu_limits_json(const struct cpu_limits *l);

#endif
