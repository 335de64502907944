// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile 9P client: messages of all types with fields that are likely to hurt, broken ones
 * among them, against each security model.  The share has links of the host that lead out, and
 * beside it lies a directory that must stay as it is.  FUZZ_SEED repeats a run; LONG=1 takes
 * a minute.
 */
#include "p9_client.h"

#include <time.h>

#define CALLS		6000U
#define CALLS_LONG	400000U

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* What each request has: digits are integers of so many bytes, f a fid, s a name, d data. */
static const struct shape { uint8_t type; const char *fields; } shapes[] = {
	{ TSTATFS, "f" }, { TLOPEN, "f4" }, { TLCREATE, "fs444" }, { TSYMLINK, "fss4" },
	{ TMKNOD, "fs4444" }, { TRENAME, "ffs" }, { TREADLINK, "f" }, { TGETATTR, "f8" },
	{ TSETATTR, "f444488888" }, { TXATTRWALK, "ffs" }, { TXATTRCREATE, "fs84" },
	{ TREADDIR, "f84" }, { TFSYNC, "f4" }, { TLOCK, "f14884s" }, { TGETLOCK, "f1884s" },
	{ TLINK, "ffs" }, { TMKDIR, "fs44" }, { TRENAMEAT, "fsfs" }, { TUNLINKAT, "fs4" },
	{ TATTACH, "ffss4" }, { TFLUSH, "2" }, { TREAD, "f84" }, { TWRITE, "f8d" },
	{ TCLUNK, "f" }, { TREMOVE, "f" }, { TWALK, "ffw" }, { TWALK, "ffw" }, { TWALK, "ffw" },
	{ TLOPEN, "f4" }, { 102, "fss4" }, { TVERSION, "4s" },
};

static void put_name(struct client *c, uint64_t *seed)
{
	static const char *const names[] = {
		"a", "b", "c", "d", "e", "out", "secret-link", "root", "outside", "secret", "..", ".",
		"", "/", "a/b", "../outside/secret", "/etc/passwd", "user.a", "user.virtfs.uid",
		"system.posix_acl_access", "9P2000.L", "security.capability",
	};
	char text[400];

	if (next(seed) % 16) {
		put_string(c, names[next(seed) % ARRAY_SIZE(names)]);
		return;
	}
	memset(text, 'x', sizeof(text));
	text[next(seed) % sizeof(text)] = '\0';
	text[sizeof(text) - 1] = '\0';
	put_string(c, text);
}

static uint64_t number(uint64_t *seed)
{
	switch (next(seed) % 6) {
	case 0: return next(seed);
	case 1: return UINT64_MAX - next(seed) % 3;
	case 2: return 1ULL << next(seed) % 64;
	case 3: return 0100000 | next(seed) % 07777;
	default: return next(seed) % 5000;
	}
}

static void put_field(struct client *c, char field, uint64_t *seed)
{
	unsigned int n;

	switch (field) {
	case 'f':
		put(c, 4, next(seed) % 24);
		break;
	case 's':
		put_name(c, seed);
		break;
	case 'w':
		n = next(seed) % 4;
		put(c, 2, n);
		while (n--)
			put_name(c, seed);
		break;
	case 'd':
		n = next(seed) % 3000;
		put(c, 4, n);
		c->t_len += n;
		break;
	default:
		put(c, field - '0', number(seed));
	}
}

static void build(struct client *c, uint64_t *seed)
{
	const struct shape *s = &shapes[next(seed) % ARRAY_SIZE(shapes)];

	if (s->type == TVERSION && next(seed) % 16)
		s = &shapes[0];	/* not so often: it ends the session */
	begin(c, s->type);
	for (const char *f = s->fields; *f; f++)
		put_field(c, *f, seed);
	for (unsigned int i = 0; i < 4; i++)
		c->t[i] = c->t_len >> (8 * i);
	if (next(seed) % 8 == 0)
		c->t[next(seed) % c->t_len] = next(seed);
	if (next(seed) % 16 == 0)
		c->t_len = next(seed) % (c->t_len + 1);
	if (next(seed) % 64 == 0)
		for (size_t i = 0; i < c->t_len; i++)
			c->t[i] = next(seed);
}

static void dig(struct yard *y)
{
	char path[160];

	yard_init(y);
	snprintf(path, sizeof(path), "%s/out", y->share);
	assert_int_equal(symlink("../outside", path), 0);
	snprintf(path, sizeof(path), "%s/secret-link", y->share);
	assert_int_equal(symlink("../outside/secret", path), 0);
	snprintf(path, sizeof(path), "%s/root", y->share);
	assert_int_equal(symlink("/", path), 0);
}

static void fuzz(enum p9_security security, bool readonly)
{
	const char *const l = getenv("LONG");
	const unsigned int calls = l && *l ? CALLS_LONG : CALLS;
	struct p9_config config = {
		.security = security, .readonly = readonly, .fds_max = 6, .fids_max = 20,
	};
	uint64_t seed = getenv("FUZZ_SEED") ? strtoull(getenv("FUZZ_SEED"), NULL, 0)
					    : (uint64_t)time(NULL) * 2 + 1;
	struct yard y;
	struct client c;
	struct err e;

	print_message("# FUZZ_SEED=%llu\n", (unsigned long long)seed);
	dig(&y);
	config.path = y.share;
	if (p9_create(&c.server, &config, &e)) {
		print_message("# %s\n", e.text);
		yard_destroy(&y);
		skip();
	}
	client_init(&c, c.server);
	for (unsigned int i = 0; i < calls; i++) {
		if (i % 200 == 0)
			attach(&c, ROOT_FID, 0);
		build(&c, &seed);
		c.piece = next(&seed) % 4 ? 0 : 1 + next(&seed) % 40;
		c.room = next(&seed) % 8 ? P9_MSIZE_MAX : next(&seed) % 64;
		serve_raw(&c);
		c.room = P9_MSIZE_MAX;
		if (i % 2000 == 0)
			yard_check(&y);
	}
	yard_check(&y);
	client_done(&c);
	p9_destroy(c.server);
	yard_destroy(&y);
}

static void test_none(void **state)
{
	(void)state;
	fuzz(P9_NONE, false);
}

static void test_mapped(void **state)
{
	(void)state;
	fuzz(P9_MAPPED, false);
}

static void test_readonly(void **state)
{
	(void)state;
	fuzz(P9_NONE, true);
}

static void test_passthrough(void **state)
{
	(void)state;
	if (geteuid())
		skip();
	fuzz(P9_PASSTHROUGH, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_passthrough),
	};

	p9_thread_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
