// SPDX-License-Identifier: Apache-2.0
/*
 * What a client may say to QMP and to the monitor: requests that are no requests get an error and
 * run nothing; and page tables that a guest made to be dumped forever are not.
 */
#include "cpu/vcpu.h"
#include "mgmt/dump_map.h"
#include "mgmt/json_command.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE	4096ULL
#define MIB	(1ULL << 20)

/* --- requests --- */

static json_t *touch(void *arg, const json_t *arguments)
{
	(void)arguments;
	++*(unsigned int *)arg;
	return json_object();
}

static const struct json_command rows[] = {
	{ "touch", "must! may also", touch },
	{ "loose", NULL, touch },
};

static const struct json_commands all = { .rows = rows, .count = ARRAY_SIZE(rows) };

/* The class of the error that @text gets, "" for none, and that it ran then. */
static void expect(const char *text, const char *class)
{
	unsigned int ran = 0;
	json_t *reply, *request = json_command_read(text, strlen(text), &reply);
	const char *got;

	if (request)
		reply = json_command_answer(&all, &ran, request);
	assert_non_null(reply);
	got = json_string_value(json_object_get(json_object_get(reply, "error"), "class"));
	assert_string_equal(got ? got : "", class);
	assert_int_equal(ran, !class[0]);
	json_decref(reply);
	json_decref(request);
}

static void requests(void **state)
{
	(void)state;
	expect("{\"execute\":\"loose\"}", "");
	expect("{\"execute\":\"loose\",\"arguments\":{\"x\":1}}", "");
	expect("{\"execute\":\"touch\",\"arguments\":{\"must\":null}}", "");
	expect("{\"execute\":\"touch\",\"arguments\":{\"must\":1,\"also\":[]}}", "");
	expect("{\"execute\":\"touch\"}", "GenericError");
	expect("{\"execute\":\"touch\",\"arguments\":{\"may\":1}}", "GenericError");
	expect("{\"execute\":\"touch\",\"arguments\":{\"must\":1,\"mus\":1}}", "GenericError");
	expect("{\"execute\":\"touch\",\"arguments\":{\"must\":1,\"must!\":1}}", "GenericError");
	expect("{\"execute\":\"touch\",\"arguments\":{\"must\":1,\"\":1}}", "GenericError");
	expect("{\"execute\":\"touch\",\"arguments\":[]}", "GenericError");
	expect("{\"execute\":\"touchy\"}", "CommandNotFound");
	expect("{\"execute\":\"\"}", "CommandNotFound");
	expect("{\"execute\":{}}", "GenericError");
	expect("{}", "GenericError");
	expect("[]", "GenericError");
	expect("3", "GenericError");
	expect("", "GenericError");
	expect("{\"execute\":\"loose\"} x", "GenericError");
}

/* Good requests with some bytes changed. */
static void noise(void **state)
{
	static const char good[] = "{\"execute\":\"touch\",\"arguments\":{\"must\":1,\"may\":\"\\u0041\"}}";
	char text[sizeof(good)];
	unsigned int ran = 0;

	(void)state;
	srandom(2);
	for (int k = 0; k < 50000; k++) {
		json_t *request, *reply;

		memcpy(text, good, sizeof(good));
		for (int i = random() % 4; i >= 0; i--)
			text[random() % (sizeof(good) - 1)] = random();
		request = json_command_read(text, sizeof(good) - 1, &reply);
		if (request)
			reply = json_command_answer(&all, &ran, request);
		assert_true(json_is_object(reply));
		json_decref(reply);
		json_decref(request);
	}
}

/* --- page tables --- */

struct rig {
	struct gpa_space space;
	struct vcpu v;
};

static int setup(void **state)
{
	struct rig *r = aligned_alloc(64, ALIGN_UP(sizeof(*r), 64));

	memset(r, 0, sizeof(*r));
	assert_int_equal(gpa_space_init(&r->space, NULL), 0);
	assert_int_equal(gpa_space_add_ram(&r->space, 0, 4 * MIB, NULL), 0);
	r->v.efer = EFER_LMA;
	r->v.cr3 = PAGE;
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	gpa_space_destroy(&r->space);
	free(r);
	return 0;
}

static void put(struct rig *r, uint64_t table, unsigned int i, uint64_t entry)
{
	assert_int_equal(gpa_write(&r->space, table + i * 8, &entry, 8), MEM_OK);
}

static void maps(void **state)
{
	struct rig *r = *state;
	struct dump_map m;

	put(r, PAGE, 511, 2 * PAGE | 1);
	put(r, 2 * PAGE, 510, 3 * PAGE | 1);
	put(r, 3 * PAGE, 0, 2 * MIB | 0x81);		/* 2 MiB */
	put(r, 3 * PAGE, 1, 4 * PAGE | 1);
	put(r, 4 * PAGE, 0, 7 * PAGE | 1);
	put(r, 4 * PAGE, 1, (8 * PAGE) | 1 | 1ULL << 63);
	put(r, 4 * PAGE, 2, (1ULL << 40) | 1);		/* no RAM */
	assert_int_equal(dump_map_make(&m, &r->space, &r->v, NULL), 0);
	dump_map_move(&m, PAGE);
	assert_int_equal(m.count, 2);
	assert_int_equal(m.piece[0].gva, 0xffffffff80000000ULL);
	assert_int_equal(m.piece[0].gpa, 2 * MIB);
	assert_int_equal(m.piece[0].size, 2 * MIB);
	assert_int_equal(m.piece[0].offset, 2 * MIB + PAGE);
	assert_int_equal(m.piece[1].gva, 0xffffffff80200000ULL);
	assert_int_equal(m.piece[1].size, 2 * PAGE);
	dump_map_free(&m);
}

static void physical(void **state)
{
	struct rig *r = *state;
	struct dump_map m;

	assert_int_equal(dump_map_make(&m, &r->space, NULL, NULL), 0);
	assert_int_equal(m.count, 1);
	assert_int_equal(m.piece[0].size, 4 * MIB);
	dump_map_free(&m);
	r->v.efer = 0;
	assert_int_equal(dump_map_make(&m, &r->space, &r->v, NULL), -ENOTSUP);
}

static void hostile_tables(void **state)
{
	struct rig *r = *state;
	struct dump_map m;
	uint64_t x = 1;

	for (unsigned int i = 0; i < 512; i++)		/* a table of itself */
		put(r, PAGE, i, PAGE | 1);
	assert_int_equal(dump_map_make(&m, &r->space, &r->v, NULL), -E2BIG);
	for (unsigned int k = 0; k < 20; k++) {		/* noise, in tables everywhere */
		for (unsigned int i = 0; i < 512 * 512; i++) {
			x = x * 6364136223846793005ULL + 1;
			put(r, 0, i, x >> 8 & (random() & 1 ? 0x3fffffULL : ~0ULL));
		}
		if (!dump_map_make(&m, &r->space, &r->v, NULL))
			dump_map_free(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(noise),
		cmocka_unit_test_setup_teardown(maps, setup, teardown),
		cmocka_unit_test_setup_teardown(physical, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_tables, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
