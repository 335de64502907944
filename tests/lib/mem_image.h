/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image in memory, in place of a file: with a journal of what was written between flushes,
 * so that a crash can be played at any point, and with faults on request.
 */
#ifndef TESTS_LIB_MEM_IMAGE_H
#define TESTS_LIB_MEM_IMAGE_H

#include "backend/image.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct mem_write {
	uint64_t off, len;
	uint8_t *data;			/* NULL: a flush */
};

struct mem_image {
	struct image img;
	pthread_mutex_t lock;
	uint8_t *data;
	size_t size, room;
	bool journal;
	struct mem_write *writes;
	size_t write_count;
	unsigned long write_calls;
	long room_left;			/* bytes that may be written beyond the end; -1: any */
};

static inline struct mem_image *mem_of(struct image *img)
{
	return container_of(img, struct mem_image, img);
}

static inline int mem_read(struct image *img, uint64_t off, const struct span *s)
{
	struct mem_image *m = mem_of(img);
	size_t n;
	struct span there, rest;

	pthread_mutex_lock(&m->lock);
	n = off >= m->size ? 0 : MIN(s->len, m->size - off);
	there = span_part(s, 0, n);
	rest = span_part(s, n, s->len - n);
	if (n)
		span_copy_in(&there, m->data + off);
	span_zero(&rest);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static inline void mem_note(struct mem_image *m, uint64_t off, uint64_t len, const uint8_t *data)
{
	struct mem_write *w;

	if (!m->journal)
		return;
	if (!(m->write_count & (m->write_count - 1)))
		m->writes = realloc(m->writes, (2 * m->write_count + 1) * sizeof(*w));
	w = &m->writes[m->write_count++];
	*w = (struct mem_write){ off, len, NULL };
	if (data) {
		w->data = malloc(len);
		memcpy(w->data, data, len);
	}
}

static inline int mem_write_at(struct mem_image *m, uint64_t off, const struct span *s)
{
	const uint64_t end = off + s->len;

	if (end > 1ULL << 26)
		return -EFBIG;
	if (end > m->size && m->room_left >= 0) {
		if ((uint64_t)m->room_left < end - m->size)
			return -ENOSPC;
		m->room_left -= end - m->size;
	}
	if (end > m->room) {
		m->data = realloc(m->data, 2 * end);
		memset(m->data + m->room, 0, 2 * end - m->room);
		m->room = 2 * end;
	}
	span_copy_out(s, m->data + off);
	m->size = MAX(m->size, end);
	m->img.size = ALIGN_UP(m->size, 512);
	m->write_calls++;
	mem_note(m, off, s->len, m->data + off);
	return 0;
}

static inline int mem_write(struct image *img, uint64_t off, const struct span *s)
{
	struct mem_image *m = mem_of(img);
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = mem_write_at(m, off, s);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

static inline int mem_flush(struct image *img)
{
	struct mem_image *m = mem_of(img);

	pthread_mutex_lock(&m->lock);
	mem_note(m, 0, 0, NULL);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static inline int mem_close(struct image *img)
{
	struct mem_image *m = mem_of(img);

	for (size_t i = 0; i < m->write_count; i++)
		free(m->writes[i].data);
	free(m->writes);
	free(m->data);
	pthread_mutex_destroy(&m->lock);
	free(m);
	return 0;
}

static const struct image_ops mem_ops = {
	.format = "raw",
	.read = mem_read,
	.write = mem_write,
	.flush = mem_flush,
	.close = mem_close,
};

/* With a copy of @size bytes at @data, which may be NULL for none. */
static inline struct mem_image *mem_image_new(const void *data, size_t size)
{
	struct mem_image *m = calloc(1, sizeof(*m));

	pthread_mutex_init(&m->lock, NULL);
	m->room_left = -1;
	m->size = size;
	m->room = size + 1;
	m->data = calloc(1, m->room);
	if (data)
		memcpy(m->data, data, size);
	m->img = (struct image){ .ops = &mem_ops, .size = ALIGN_UP(size, 512), .cluster = 512,
				 .path = (char *)"memory" };
	return m;
}

/* A small generator, so that a seed repeats a run. */
static inline uint64_t test_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
