// SPDX-License-Identifier: Apache-2.0
/*
 * The devices of --limit io-read= and io-write=, with a folder here in place of /sys/dev/block: a
 * disk, a partition of one, files on the same one, file systems without any.
 */
#include "mgmt/jail.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct fixture {
	char folder[64], sys[96];
	dev_t dev;			/* what the folder is on */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct stat st;

	strcpy(f->folder, "/var/tmp/jail_io.XXXXXX");
	if (!mkdtemp(f->folder) || stat(f->folder, &st))
		return -1;
	snprintf(f->sys, sizeof(f->sys), "%s/sys", f->folder);
	f->dev = st.st_dev;
	*state = f;
	return mkdir(f->sys, 0700);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", f->folder);
	free(f);
	return system(command);
}

/* A file in the place of sysfs. */
static void put(const struct fixture *f, const char *name, const char *text)
{
	char path[256];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%u:%u", f->sys, major(f->dev), minor(f->dev));
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%u:%u/%s", f->sys, major(f->dev), minor(f->dev), name);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static void skip_without_disk(const struct fixture *f)
{
	if (major(f->dev))
		return;
	print_message("/var/tmp is on no disk here\n");
	skip();
}

static void test_disk(void **state)
{
	const struct fixture *f = *state;
	struct jail_limits l = { 0 };

	skip_without_disk(f);
	assert_int_equal(jail_io_add(&l, f->folder, f->sys, NULL), 0);
	assert_int_equal(jail_io_add(&l, f->sys, f->sys, NULL), 0);
	assert_int_equal(l.io_device_count, 1);
	assert_true(l.io_device[0] == f->dev);
}

static void test_partition(void **state)
{
	const struct fixture *f = *state;
	struct jail_limits l = { 0 };

	skip_without_disk(f);
	put(f, "partition", "3\n");
	put(f, "../dev", "8:16\n");
	assert_int_equal(jail_io_add(&l, f->folder, f->sys, NULL), 0);
	assert_int_equal(l.io_device_count, 1);
	assert_true(l.io_device[0] == makedev(8, 16));
}

static void test_no_disk(void **state)
{
	const struct fixture *f = *state;
	struct jail_limits l = { 0 };
	struct err e = { 0 };

	assert_int_equal(jail_io_add(&l, "/proc", f->sys, &e), -ENOTSUP);
	assert_non_null(strstr(e.text, "'/proc'"));
	assert_int_equal(jail_io_add(&l, "/nowhere", f->sys, &e), -ENOENT);
	assert_int_equal(l.io_device_count, 0);
}

static void test_full(void **state)
{
	const struct fixture *f = *state;
	struct jail_limits l = { .io_device_count = JAIL_IO_DEVICES_MAX };

	skip_without_disk(f);
	assert_int_equal(jail_io_add(&l, f->folder, f->sys, NULL), -E2BIG);
}

static void test_text(void **state)
{
	struct jail_limits l = { 0 };

	(void)state;
	assert_int_equal(jail_limits_parse(&l, "io-read=10M,io-write=500K", NULL), 0);
	assert_true(l.io_read == 10 << 20 && l.io_write == 500 << 10 && jail_limits_set(&l));
	assert_int_equal(jail_limits_parse(&l, "io-read=0", NULL), -EINVAL);
	assert_int_equal(jail_limits_parse(&l, "io-read=", NULL), -EINVAL);
	assert_int_equal(jail_limits_parse(&l, "io-write=1Mx", NULL), -EINVAL);
	assert_int_equal(jail_limits_parse(&l, "io-write", NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_partition, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
