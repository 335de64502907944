// SPDX-License-Identifier: Apache-2.0
/*
 * A spooling printer; see spool.h.
 *
 * A job ends when nothing was printed for a while, at a control-D (PostScript's end) and at the
 * "universal exit" of printer job languages, ESC %-12345X; on request at a form feed too.  A job
 * that grows past JOB_MAX is cut there, and while the queue holds QUEUE_MAX the printer is busy, so
 * a guest that prints for ever fills no disk.
 *
 * Files are written on the loop's thread; putting jobs out, which may wait for other VMs and for
 * lp, is a helper process's, for which a thread waits.
 */
#include "backend/spool.h"
#include "backend/errand.h"
#include "backend/spool_queue.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define BUFFER		16384U
#define JOB_MAX		(256ULL << 20)
#define QUEUE_MAX	(1ULL << 30)
#define RETRY_MS	1000U
#define FINISHED_MAX	64U		/* that wait for the queue; then the printer is busy */
#define EXIT_TEXT	"\033%-12345X"
#define EXIT_LEN	9U

struct finished {
	int fd;				/* keeps the file locked until it is a job */
	char file[NAME_MAX + 1];
};

/* (o) under lock; the rest belongs to the loop's thread */
struct spool {
	struct char_backend backend;
	struct spool_config config;
	char vm[SPOOL_NAME_MAX + 1];
	struct loop *loop;
	struct loop_work write_work;
	int timer;
	int job;			/* -1: none begun */
	char file[NAME_MAX + 1];
	unsigned int jobs;		/* so far */
	uint64_t size;
	char tail[EXIT_LEN];		/* the job's last bytes */
	pthread_t putter;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool put, ending;		/* (o) for the putter */
	struct finished done[FINISHED_MAX]; /* (o) for the putter, the oldest first */
	unsigned int done_count;	/* (o) */
	uint8_t buf[BUFFER];		/* (o) */
	size_t count;			/* (o) */
	bool refused;			/* (o) writable() is due */
};

static void arm(struct spool *s, unsigned int ms)
{
	const struct itimerspec t = {
		.it_value = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L },
	};

	timerfd_settime(s->timer, 0, &t, NULL);
}

/* --- jobs --- */

static bool queue_full(const struct spool *s)
{
	struct spool_job *jobs;
	const int count = spool_queue_list(s->config.queue, &jobs);
	uint64_t bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += jobs[i].size;
	free(jobs);
	return bytes >= QUEUE_MAX;
}

static bool begin_job(struct spool *s)
{
	bool room;

	if (s->job >= 0)
		return true;
	pthread_mutex_lock(&s->lock);
	room = s->done_count < FINISHED_MAX;
	pthread_mutex_unlock(&s->lock);
	if (!room || queue_full(s))
		return false;
	snprintf(s->file, sizeof(s->file), "incoming.%d.%u.%s", (int)getpid(), s->jobs, s->vm);
	s->job = openat(s->config.queue, s->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->job < 0)
		return false;
	flock(s->job, LOCK_EX | LOCK_NB);	/* who can take it knows that we are dead */
	s->jobs++;
	s->size = 0;
	memset(s->tail, 0, sizeof(s->tail));
	return true;
}

static void end_job(struct spool *s)
{
	if (s->job < 0)
		return;
	arm(s, 0);
	pthread_mutex_lock(&s->lock);
	s->done[s->done_count] = (struct finished){ .fd = s->job };
	strcpy(s->done[s->done_count++].file, s->file);
	s->job = -1;
	s->put = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

static bool ends_job(struct spool *s, uint8_t byte)
{
	memmove(s->tail, s->tail + 1, EXIT_LEN - 1);
	s->tail[EXIT_LEN - 1] = byte;
	if (s->size + 1 == EXIT_LEN && !memcmp(s->tail, EXIT_TEXT, EXIT_LEN))
		return false;		/* many jobs begin with one */
	return byte == 0x04 || (byte == '\f' && s->config.form_feed) ||
	       !memcmp(s->tail, EXIT_TEXT, EXIT_LEN);
}

/* Writes up to the end of a job; returns the bytes done, 0 where the host takes none now. */
static size_t write_some(struct spool *s, const uint8_t *p, size_t len)
{
	size_t n = 0, done = 0;
	bool end = false;

	if (!begin_job(s))
		return 0;
	while (n < len && !end) {
		end = ends_job(s, p[n++]) || ++s->size >= JOB_MAX;
	}
	while (done < n) {
		const ssize_t w = write(s->job, p + done, n - done);

		if (w < 0 && errno != EINTR)
			break;
		done += MAX(w, 0);
	}
	if (end && done == n)
		end_job(s);
	return done;
}

/* On the loop's thread: what was gathered goes to the file; a full disk makes the printer busy. */
static void write_out(void *arg)
{
	struct spool *s = arg;
	uint8_t copy[BUFFER];
	size_t count, done = 0, n;
	bool tell;

	pthread_mutex_lock(&s->lock);
	count = s->count;
	memcpy(copy, s->buf, count);
	pthread_mutex_unlock(&s->lock);
	while (done < count && (n = write_some(s, copy + done, count - done)))
		done += n;
	if (done < count)
		arm(s, RETRY_MS);
	else if (s->job >= 0)
		arm(s, s->config.idle_ms);
	pthread_mutex_lock(&s->lock);
	s->count -= done;
	memmove(s->buf, s->buf + done, s->count);
	tell = s->refused && done;
	if (tell)
		s->refused = false;
	pthread_mutex_unlock(&s->lock);
	if (tell && s->backend.front)
		s->backend.front->writable(s->backend.front_dev);
}

/* Nothing came for a while, or it is time to try again. */
static void timer_ready(void *arg, uint32_t events)
{
	struct spool *s = arg;
	uint64_t times;
	bool more;

	(void)events;
	if (read(s->timer, &times, sizeof(times)) != sizeof(times))
		return;
	pthread_mutex_lock(&s->lock);
	more = s->count;
	pthread_mutex_unlock(&s->lock);
	if (more)
		write_out(s);
	else
		end_job(s);
}

static size_t spool_write(struct char_backend *b, const uint8_t *buf, size_t len)
{
	struct spool *s = container_of(b, struct spool, backend);
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = MIN(len, BUFFER - s->count);
	memcpy(s->buf + s->count, buf, n);
	s->count += n;
	if (n < len)
		s->refused = true;
	pthread_mutex_unlock(&s->lock);
	loop_post(s->loop, &s->write_work);
	return n;
}

static void spool_input_wanted(struct char_backend *b)
{
	(void)b;	/* a printer says nothing */
}

/* --- putting out --- */

/* Into the queue, in order.  The lock is held, but not while the host works. */
static void add_finished_locked(struct spool *s)
{
	while (s->done_count) {
		struct finished f = s->done[0];
		int rc;

		memmove(s->done, s->done + 1, --s->done_count * sizeof(f));
		pthread_mutex_unlock(&s->lock);
		fsync(f.fd);
		rc = spool_queue_add(s->config.queue, f.file, s->vm);
		if (rc)
			log_error(s->config.log, "a print job stays in the file %s: %s", f.file,
				  strerror(-rc));
		close(f.fd);
		pthread_mutex_lock(&s->lock);
	}
}

static void *putter(void *arg)
{
	struct spool *s = arg;
	struct err e;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		while (!s->put && !s->ending)
			pthread_cond_wait(&s->cond, &s->lock);
		if (!s->put)
			break;
		s->put = false;
		add_finished_locked(s);
		pthread_mutex_unlock(&s->lock);
		if (errand_run(s->config.put_out, &e))
			log_warn(s->config.log, "%s; it stays in the queue", e.text);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int start_putter(struct spool *s, struct err *e)
{
	const int rc = thread_create(&s->putter, "printer", putter, s);

	return rc ? err_errno(e, -rc, "could not start the printer's thread") : 0;
}

/* --- life --- */

static void free_spool(struct spool *s)
{
	if (s->timer >= 0) {
		loop_unwatch(s->loop, s->timer);
		close(s->timer);
	}
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void spool_destroy(struct char_backend *b)
{
	struct spool *s = container_of(b, struct spool, backend);

	loop_unpost(s->loop, &s->write_work);
	write_out(s);
	end_job(s);
	pthread_mutex_lock(&s->lock);
	s->ending = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->putter, NULL);
	close(s->config.queue);
	errand_destroy(s->config.put_out);
	free_spool(s);
}

static const struct char_backend_ops spool_ops = {
	.write = spool_write,
	.input_wanted = spool_input_wanted,
	.destroy = spool_destroy,
};

int spool_create(struct char_backend **out, struct loop *l, const struct spool_config *c,
		 struct err *e)
{
	struct spool *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for a printer");
	s->backend.ops = &spool_ops;
	s->config = *c;
	snprintf(s->vm, sizeof(s->vm), "%s", c->vm);
	s->loop = l;
	s->job = -1;
	s->put = true;		/* what an earlier VM left */
	s->write_work = (struct loop_work){ .run = write_out, .arg = s };
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	rc = s->timer < 0 ? err_errno(e, errno, "could not create a printer's timer")
			  : loop_watch(l, s->timer, EPOLLIN, timer_ready, s, e);
	if (!rc)
		rc = start_putter(s, e);
	if (rc) {
		free_spool(s);
		return rc;
	}
	*out = &s->backend;
	return 0;
}
