/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka and what it wants to be included before it: for every test program of tests/unit. */
#ifndef VIREO_TESTS_UNIT_H
#define VIREO_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A test of a program whose setup() and teardown() make and take its bench. */
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
