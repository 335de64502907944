// SPDX-License-Identifier: Apache-2.0
/* vm.json: what is read and written, and hostile texts: each error has its line and key. */

#include "mgmt/json_place.h"
#include "mgmt/vm_config.h"
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void parse_bad(const char *text, const char *says)
{
	struct vm_config_file c;
	struct err e = { 0 };

	if (!vm_config_parse(&c, text, strlen(text), "vm.json", &e))
		fail_msg("taken: %s", text);
	if (strncmp(e.text, "vm.json, line ", 14) || !strstr(e.text, says))
		fail_msg("'%s': '%s' does not say '%s'", text, e.text, says);
	vm_config_free(&c);
}

static void test_good(void **state)
{
	static const char text[] =
		"{\n"
		" \"version\": 1, \"description\": \"x\",\n"
		" \"kernel\": \"k\", \"memory\": 64, \"cpus\": 2, \"no-reboot\": true,\n"
		" \"debug-exit\": false, \"cpu-weight\": \"7\",\n"
		" \"disk\": [\"a.img\", \"b.img,readonly=on\"],\n"
		" \"share\": [\"/x,tag=x\"], \"net\": [\"user\"], \"publish\": []\n"
		"}\n";
	struct vm_config_file c;
	struct err e = { 0 };

	(void)state;
	if (vm_config_parse(&c, text, strlen(text), "vm.json", &e))
		fail_msg("%s", e.text);
	assert_string_equal(c.options.kernel, "k");
	assert_int_equal(c.options.memory, 64 << 20);
	assert_int_equal(c.options.cpus, 2);
	assert_int_equal(c.options.limits.weight, 7);
	assert_true(c.options.no_reboot);
	assert_false(c.options.debug_exit);
	assert_int_equal(c.options.disk_count, 2);
	assert_string_equal(c.options.disk[1], "b.img,readonly=on");
	assert_int_equal(c.options.share_count, 1);
	assert_int_equal(c.options.publish_count, 0);
	vm_config_free(&c);
}

static void test_bad(void **state)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "", "line 1" },
		{ "[]", "line 1: this is to be an object" },
		{ "7", "line 1" },
		{ "{", "line 1" },
		{ "{\n\"kernel\": \"k\",\n}", "line 3" },
		{ "{\n\"kernel\": \"k\"\n}\n\nx", "line 5" },
		{ "{\n\"kernel\": \"k\",\n\"kernel\": \"l\"}", "line 3" },
		{ "{\n\"kernle\": \"k\"}", "line 2, \"kernle\": there is no such key; did you mean \"kernel\"" },
		{ "{\n\n\"frobnicate\": 1}", "line 3, \"frobnicate\": there is no such key" },
		{ "{\"name\": \"x\"}", "line 1, \"name\": there is no such key" },
		{ "{\"v\": \"x\"}", "\"v\": there is no such key" },
		{ "{\"\": 1}", "line 1, \"\"" },
		{ "{\n\"kernel\":\n 7}", "line 2, \"kernel\": this is to be a string" },
		{ "{\"kernel\": null}", "\"kernel\": this is to be a string" },
		{ "{\"cpus\": 1.5}", "\"cpus\": this is to be a string or a number" },
		{ "{\"cpus\": true}", "\"cpus\"" },
		{ "{\n\"cpus\": 65}", "line 2, \"cpus\": a VM cannot have '65'" },
		{ "{\n\"cpus\": -1}", "line 2, \"cpus\": a VM cannot have '-1'" },
		{ "{\n\"cpus\": 99999999999999999999}", "line 2" },
		{ "{\"memory\": \"x\"}", "\"memory\": 'x' is no size" },
		{ "{\"memory\": 0}", "\"memory\"" },
		{ "{\"memory\": [512]}", "\"memory\": this is to be a string or a number" },
		{ "{\"no-reboot\": 1}", "\"no-reboot\": this is to be true or false" },
		{ "{\"no-reboot\": \"yes\"}", "\"no-reboot\": this is to be true or false" },
		{ "{\n\n\n\"disk\": \"a.img\"}", "line 4, \"disk\": this is to be a list" },
		{ "{\"disk\": {}}", "\"disk\": this is to be a list" },
		{ "{\"disk\": [\n\"a\",\n\"b\",\n7]}", "line 4, \"disk\"[2]: this is to be a string" },
		{ "{\"disk\": [\n\"a\",\n\"b,colour=red\"]}", "line 3, \"disk\"[1]: " },
		{ "{\"disk\": [\"a\", [\"b\"]]}", "\"disk\"[1]: this is to be a string" },
		{ "{\"net\": [\"user\",\n\"wire\"]}", "line 2, \"net\"[1]: " },
		{ "{\"share\": [\"/x\"]}", "\"share\"[0]: " },
		{ "{\"console\": [\"here\"]}", "\"console\"[0]: " },
		{ "{\"engine\": \"warp\"}", "\"engine\": 'warp' is no value" },
		{ "{\"translator-opt\": \"help\"}", "\"translator-opt\": 'help' is no value" },
		{ "{\n\"version\": 2}", "line 2, \"version\": this vireo knows version 1" },
		{ "{\"version\": \"1\"}", "\"version\"" },
		{ "{\"description\": 1}", "\"description\": this is to be a string" },
		{ "{\"kernel\": \"a\\u0000b\"}", "line 1" },
		{ "{\"kernel\": \"\xff\"}", "line 1" },
		{ "{\"a\\\"b\\n\": {\"kernel\": [1, 2, \"}\"]},\n\"memory\": 1}", "line 1, \"a\"b" },
		/* The line is that of the member itself, not of one like it further in. */
		{ "{\"description\": \"{\\\"cpus\\\": 0}\",\n\"kernel\": \"k\",\n\"cpus\": 0}",
		  "line 3, \"cpus\"" },
		{ "{\n\"c\\u0070us\": 0}", "line 2, \"cpus\"" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		parse_bad(bad[i].text, bad[i].says);
}

static void test_many(void **state)
{
	char text[512] = "{\"serial\": [\n";

	(void)state;
	for (int i = 0; i < 3; i++)
		strcat(text, i ? ",\n\"none\"" : "\"none\"");
	strcat(text, "]}");
	parse_bad(text, "line 4, \"serial\"[2]: a VM has two serial ports");
}

/* Bytes changed, cut and doubled: an answer each time, and no more than that. */
static void test_fuzz(void **state)
{
	static const char good[] =
		"{\n\"version\": 1,\n\"kernel\": \"k\",\n\"memory\": 64,\n\"cpus\": 2,\n"
		"\"disk\": [\"a.img\",\n\"b,readonly=on\"],\n\"no-reboot\": true,\n\"net\": [\"user\"]\n}\n";
	static const char bytes[] = "{}[]\",:\\\n0u1tn\x01\xc3 ";
	unsigned int seed = 1;

	(void)state;
	for (int n = 0; n < 20000; n++) {
		char text[sizeof(good)];
		size_t len = sizeof(good) - 1;
		struct vm_config_file c;
		struct err e = { 0 };

		memcpy(text, good, sizeof(good));
		for (int k = rand_r(&seed) % 4; k >= 0; k--)
			text[rand_r(&seed) % len] = bytes[rand_r(&seed) % (sizeof(bytes) - 1)];
		if (rand_r(&seed) % 8 == 0)
			len = rand_r(&seed) % len;
		if (vm_config_parse(&c, text, len, "f", &e) && strncmp(e.text, "f, line ", 8))
			fail_msg("no line in '%s'", e.text);
		vm_config_free(&c);
		json_line_of(text, len, "net", rand_r(&seed) % 3 - 1);
	}
}

static const struct option_def *option(const char *name)
{
	for (unsigned int i = 0; i < command_run.option_count; i++)
		if (!strcmp(command_run.options[i].name, name))
			return &command_run.options[i];
	fail_msg("no option %s", name);
	return NULL;
}

/* What is written from a command line is read again, with paths from its folder. */
static void test_add(void **state)
{
	static const struct { const char *name, *value, *wanted; } add[] = {
		{ "kernel", "k", "/f,g/k" },
		{ "initrd", "/i", "/i" },
		{ "memory", "64M", "64M" },
		{ "disk", "d,readonly=on", "/f,,g/d,readonly=on" },
		{ "disk", "/d", "/d" },
		{ "serial", "file:x", "file:/f,g/x" },
		{ "serial", "none", "none" },
		{ "console", "out=o,in=/i,name=n", "out=/f,g/o,in=/i,name=n" },
		{ "net", "user", "user" },
		{ "gdb", "unix:s", "unix:/f,g/s" },
		{ "gdb", "1234", "1234" },
		{ "vsock", "s,cid=5", "/f,g/s,cid=5" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(add); i++) {
		json_t *root = json_object(), *v;
		struct err e = { 0 };

		assert_int_equal(vm_config_add(root, option(add[i].name), add[i].value, "/f,g", &e), 0);
		v = json_object_get(root, add[i].name);
		if (json_is_array(v))
			v = json_array_get(v, 0);
		assert_string_equal(json_string_value(v), add[i].wanted);
		json_decref(root);
	}
}

static void test_add_kinds(void **state)
{
	json_t *root = json_object();
	struct err e = { 0 };
	struct vm_config_file c;
	char *text;

	(void)state;
	assert_int_equal(vm_config_add(root, option("cpus"), "2", "/f", &e), 0);
	assert_int_equal(vm_config_add(root, option("no-reboot"), NULL, "/f", &e), 0);
	assert_int_equal(vm_config_add(root, option("v"), "d:tag:ro", "/f", &e), 0);
	assert_int_equal(vm_config_add(root, option("publish"), "1:2", "/f", &e), 0);
	assert_int_equal(vm_config_add(root, option("publish"), "3:4", "/f", &e), 0);
	assert_int_equal(vm_config_add(root, option("name"), "x", "/f", &e), -EINVAL);
	assert_int_equal(vm_config_add(root, option("v"), "d", "/f", &e), -EINVAL);
	assert_int_equal(vm_config_add(root, option("kernel"), "\xff", "/f", &e), -EINVAL);
	assert_true(json_is_integer(json_object_get(root, "cpus")));
	text = json_dumps(root, JSON_INDENT(1));
	assert_int_equal(vm_config_parse(&c, text, strlen(text), "f", &e), 0);
	assert_int_equal(c.options.cpus, 2);
	assert_true(c.options.no_reboot);
	assert_string_equal(c.options.share[0].text, "/f/d,tag=tag,readonly");
	assert_int_equal(c.options.publish_count, 2);
	vm_config_free(&c);
	free(text);
	json_decref(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_fuzz),
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_add_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
