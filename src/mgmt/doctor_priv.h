/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `vireo doctor`. */
#ifndef VIREO_MGMT_DOCTOR_PRIV_H
#define VIREO_MGMT_DOCTOR_PRIV_H

#include <jansson.h>
#include <stdbool.h>

struct doctor {
	bool json;
	const char *part;	/* whose lines come */
	json_t *findings;	/* with json */
};

/* A line: "yes", "no", "-" or "?", what it is about, and the finding. */
void doctor_say(struct doctor *d, const char *mark, const char *what, const char *text);
/* How what the last line misses is mended. */
void doctor_fix(struct doctor *d, const char *text);

/* doctor_sandbox.c: what keeps a guest that got out of its VM from going further. */
void doctor_sandbox(struct doctor *d);

#endif
