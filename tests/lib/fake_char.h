/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A character backend under a test's hand: keeps what was written, takes only as much as
 * 'room' allows, holds input until the front end takes it.
 */
#ifndef VIREO_TESTS_FAKE_CHAR_H
#define VIREO_TESTS_FAKE_CHAR_H

#include "base/char_backend.h"

#include <string.h>

struct fake_char {
	struct char_backend backend;
	char out[4096];
	size_t out_len;
	size_t room;		/* bytes it still takes */
	const char *in;		/* what is typed, not yet taken */
	bool wanted;		/* the front end asked for input */
};

static inline size_t fake_char_write(struct char_backend *b, const uint8_t *buf, size_t len)
{
	struct fake_char *f = container_of(b, struct fake_char, backend);
	size_t n = MIN(len, f->room);

	n = MIN(n, sizeof(f->out) - f->out_len);
	memcpy(f->out + f->out_len, buf, n);
	f->out_len += n;
	f->room -= n;
	return n;
}

static inline void fake_char_wanted(struct char_backend *b)
{
	container_of(b, struct fake_char, backend)->wanted = true;
}

static inline void fake_char_destroy(struct char_backend *b)
{
	(void)b;
}

static const struct char_backend_ops fake_char_ops = {
	.write = fake_char_write,
	.input_wanted = fake_char_wanted,
	.destroy = fake_char_destroy,
};

static inline void fake_char_init(struct fake_char *f)
{
	memset(f, 0, sizeof(*f));
	f->backend.ops = &fake_char_ops;
	f->room = sizeof(f->out);
	f->in = "";
}

/* What the event loop does: hands over held input if that was asked for. */
static inline void fake_char_pump(struct fake_char *f)
{
	while (f->wanted && *f->in) {
		f->wanted = false;
		f->in += f->backend.front->receive(f->backend.front_dev, (const uint8_t *)f->in,
						   strlen(f->in));
	}
}

/* Types @s on top of what is held (nothing). */
static inline void fake_char_type(struct fake_char *f, const char *s)
{
	f->in = s;
	f->wanted = true;
	fake_char_pump(f);
}

#endif
