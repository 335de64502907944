/* SPDX-License-Identifier: Apache-2.0 */
/* Where something is in a JSON text: what a parser forgets, and people want to be told. */
#ifndef VIREO_MGMT_JSON_PLACE_H
#define VIREO_MGMT_JSON_PLACE_H

#include <stddef.h>

/*
 * The line (from 1) of the member @key of the object that @text is, or of the element @item of
 * the array that is its value (-1: of the key).  @text was accepted by a JSON parser.  0: it is
 * not there.
 */
unsigned int json_line_of(const char *text, size_t len, const char *key, int item);

#endif
