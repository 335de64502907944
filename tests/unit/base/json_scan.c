// SPDX-License-Identifier: Apache-2.0
/* Where JSON objects end in a stream, and that whatever else comes ends somewhere. */
#include "base/json_scan.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

/* How many whole things are in @text, and how long the first is. */
static unsigned int pieces(const char *text, size_t len, size_t *first)
{
	struct json_scan s = { 0 };
	unsigned int n = 0;

	for (size_t i = 0; i < len; i++)
		if (json_scan(&s, text[i]) && !n++ && first)
			*first = i + 1;
	return n;
}

static void ends_of_objects(void **state)
{
	static const struct { const char *text; unsigned int count; size_t first; } cases[] = {
		{ "{}", 1, 2 },
		{ "{}{}", 2, 2 },
		{ "{\"a\":{\"b\":[1,{}]}}", 1, 18 },
		{ "{\"a\":\"}\"}", 1, 9 },
		{ "{\"a\":\"\\\"}\"}", 1, 11 },
		{ "{\"a\":\"\\\\\"}{", 1, 10 },
		{ "{\n\n\"a\":1\n}\n", 2, 10 },	/* the last newline is an empty line */
		{ "nonsense\n{}", 2, 9 },
		{ "}}}", 3, 1 },
		{ "{\"half\":", 0, 0 },
		{ "{\"half\xff{}", 2, 7 },
		{ "\"a{b\"\n", 0, 0 },		/* a string alone is no request; its brace opens */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t first = 0;

		assert_int_equal(pieces(cases[i].text, strlen(cases[i].text), &first),
				 cases[i].count);
		assert_int_equal(first, cases[i].first);
	}
}

/* After anything at all, 0xff makes the next object be seen. */
static void recovers(void **state)
{
	static const char good[] = "\xff{\"execute\":\"stop\"}";
	char noise[256 + sizeof(good)];

	(void)state;
	srandom(1);
	for (int k = 0; k < 20000; k++) {
		const size_t n = random() % 256;
		struct json_scan s = { 0 };
		bool last = false;

		for (size_t i = 0; i < n; i++)
			noise[i] = random() % 3 ? "{}[]\"\\\n\xff a"[random() % 10] : random();
		memcpy(noise + n, good, sizeof(good) - 1);
		for (size_t i = 0; i < n + sizeof(good) - 1; i++)
			last = json_scan(&s, noise[i]);
		assert_true(last);
		assert_int_equal(s.depth, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ends_of_objects),
		cmocka_unit_test(recovers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
