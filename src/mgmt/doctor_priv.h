/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of `vireo doctor`. */
#ifndef VIREO_MGMT_DOCTOR_PRIV_H
#define VIREO_MGMT_DOCTOR_PRIV_H

/* A line: "yes", "no", "-" or "?", what it is about, and the finding. */
void doctor_say(const char *mark, const char *what, const char *text);
/* How what the last line misses is mended. */
void doctor_fix(const char *text);

/* doctor_sandbox.c: what keeps a guest that got out of its VM from going further. */
void doctor_sandbox(void);

#endif
