// SPDX-License-Identifier: Apache-2.0
/* The command's small parts: suggestions, sizes, the escape key. */

#include "mgmt/command.h"
#include "mgmt/escape.h"
#include "mgmt/run_options.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

static void test_nearest(void **state)
{
	static const char *const names[] = { "kernel", "initrd", "memory", "cpu" };
	char long_word[200];

	(void)state;
	assert_string_equal(nearest_word("kernle", names, 4), "kernel");
	assert_string_equal(nearest_word("memroy", names, 4), "memory");
	assert_string_equal(nearest_word("cup", names, 4), "cpu");
	assert_null(nearest_word("frobnicate", names, 4));
	assert_null(nearest_word("", names, 4));
	memset(long_word, 'k', sizeof(long_word));
	long_word[sizeof(long_word) - 1] = '\0';
	assert_null(nearest_word(long_word, names, 4));
}

static void test_memory(void **state)
{
	static const struct { const char *text; uint64_t mib; } good[] = {
		{ "512M", 512 }, { "512m", 512 }, { "512", 512 }, { "512MiB", 512 },
		{ "2G", 2048 }, { "1048576K", 1024 }, { "1T", 1048576 },
	};
	static const char *const bad[] = {
		"", "0", "M", "-1", "+1", " 1", "1X", "1MB", "1.5G", "100K", "0x10",
		"18446744073709551616", "17592186044416M", "18446744073709551615",
	};
	uint64_t bytes;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse_memory(&bytes, good[i].text, &e), 0);
		assert_int_equal(bytes, good[i].mib << 20);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!parse_memory(&bytes, bad[i], &e))
			fail_msg("'%s' was taken for %llu", bad[i], (unsigned long long)bytes);
}

struct typed {
	struct escape escape;
	char acted[16];
};

static void act(void *arg, enum escape_action what)
{
	struct typed *t = arg;
	const size_t n = strlen(t->acted);

	t->acted[n] = what;
	t->acted[n + 1] = '\0';
}

/* Types @in in pieces of @piece bytes: every split must come to the same. */
static void type(uint8_t key, const char *in, size_t piece, const char *guest, const char *acted)
{
	struct typed t = { .escape = { .key = key, .act = act } };
	const size_t len = strlen(in);
	char out[64] = "";
	size_t n = 0;

	t.escape.arg = &t;
	for (size_t at = 0; at < len; at += piece) {
		uint8_t buf[64];
		const size_t take = MIN(piece, len - at);
		size_t kept;

		memcpy(buf, in + at, take);
		kept = escape_filter(&t.escape, buf, take);
		memcpy(out + n, buf, kept);
		n += kept;
	}
	out[n] = '\0';
	assert_string_equal(out, guest);
	assert_string_equal(t.acted, acted);
}

static void test_escape(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 12; piece++) {
		type(0x1d, "plain", piece, "plain", "");
		type(0x1d, "a\x1d.b", piece, "ab", ".");
		type(0x1d, "a\x1d\x1d.b", piece, "a\x1d.b", "");
		type(0x1d, "\x1d\x1d\x1dp", piece, "\x1d", "p");
		type(0x1d, "x\x1dqy", piece, "xy", "?");
		type(0x1d, "x\x1d", piece, "x", "");
		type(0x01, "\x1d.\x01r", piece, "\x1d.", "r");
		type(ESCAPE_NONE, "\x1d.\x01.", piece, "\x1d.\x01.", "");
	}
}

static void test_escape_key(void **state)
{
	static const char *const bad[] = { "", "x", "^", "^^^", "^1", "]", "^]x", "NONE" };
	struct err e;
	uint8_t key;

	(void)state;
	assert_int_equal(escape_parse_key(&key, "^]", &e), 0);
	assert_int_equal(key, 0x1d);
	assert_int_equal(escape_parse_key(&key, "^a", &e), 0);
	assert_int_equal(key, 1);
	assert_int_equal(escape_parse_key(&key, "none", &e), 0);
	assert_int_equal(key, ESCAPE_NONE);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(escape_parse_key(&key, bad[i], &e), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nearest),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_escape_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
