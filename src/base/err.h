/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the host or the user: a negative errno travels as return value, a
 * sentence travels in struct err.  The sentence names the object and the way
 * out.  Callers unwind with goto; only main() exits.  What a guest does wrong
 * never becomes a struct err: it has an architectural answer.
 */
#ifndef VIREO_BASE_ERR_H
#define VIREO_BASE_ERR_H

struct err {
	int code;		/* negative errno, 0 while nothing went wrong */
	char text[512];
};

/*
 * Fills @e (may be NULL) and returns -@errnum.  @errnum is a positive errno.
 * The format is a sentence without a newline.
 */
int err_set(struct err *e, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, with ": strerror(errnum)" appended. */
int err_errno(struct err *e, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "what: " before the sentence already in @e; returns e->code. */
int err_prefix(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
