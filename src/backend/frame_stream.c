// SPDX-License-Identifier: Apache-2.0
/* Frames on a stream socket; see frame_stream.h. */
#include "backend/frame_stream.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE		(512U << 10)
#define PIECES_MAX	1024U	/* UIO_MAXIOV */

/* What comes before each frame. */
struct prefix {
	uint32_t len;
	struct net_hdr hdr;
};

#define MESSAGE_MAX	(sizeof(struct prefix) + NET_FRAME_MAX)

/* The kernel's default holds few large frames; what it does not grant is no error. */
static void enlarge(int fd)
{
	const int size = 1 << 20;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int frame_stream_init(struct frame_stream *s, int fd, size_t out_max, struct err *e)
{
	*s = (struct frame_stream){ .fd = fd, .out_max = MAX(out_max, MESSAGE_MAX) };
	s->in = malloc(IN_SIZE);
	s->out = malloc(s->out_max);
	if (!s->in || !s->out) {
		frame_stream_fini(s);
		return err_set(e, ENOMEM, "out of memory for a network connection's buffers");
	}
	if (fd >= 0)
		enlarge(fd);
	return 0;
}

void frame_stream_fini(struct frame_stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->in);
	free(s->out);
	*s = (struct frame_stream){ .fd = -1 };
}

void frame_stream_reopen(struct frame_stream *s, int fd)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = fd;
	s->in_at = s->in_len = s->out_at = s->out_len = 0;
	if (fd >= 0)
		enlarge(fd);
}

/* --- receiving --- */

ssize_t frame_stream_read(struct frame_stream *s)
{
	ssize_t n;

	if (s->in_at == s->in_len)
		s->in_at = s->in_len = 0;
	if (s->in_at && IN_SIZE - s->in_len < 2 * MESSAGE_MAX) {
		memmove(s->in, s->in + s->in_at, s->in_len - s->in_at);
		s->in_len -= s->in_at;
		s->in_at = 0;
	}
	if (s->in_len == IN_SIZE)
		return 0;
	n = recv(s->fd, s->in + s->in_len, IN_SIZE - s->in_len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!n)
		return -EPIPE;
	s->in_len += n;
	return n;
}

int frame_stream_peek(const struct frame_stream *s, struct net_in *frames, unsigned int max)
{
	size_t at = s->in_at;
	unsigned int n = 0;
	struct prefix p;

	while (n < max && s->in_len - at >= sizeof(p)) {
		memcpy(&p, s->in + at, sizeof(p));
		if (p.len < NET_ETH_LEN || p.len > NET_FRAME_MAX)
			return n ? (int)n : -EPROTO;
		if (s->in_len - at - sizeof(p) < p.len)
			break;
		frames[n++] = (struct net_in){
			.hdr = p.hdr, .data = s->in + at + sizeof(p), .len = p.len,
		};
		at += sizeof(p) + p.len;
	}
	return n;
}

void frame_stream_consume(struct frame_stream *s, const struct net_in *frames,
			  unsigned int count)
{
	if (count)
		s->in_at = frames[count - 1].data + frames[count - 1].len - s->in;
}

/* --- sending --- */

/* A send that would block, or that the kernel has no memory for now, is 0 bytes. */
static ssize_t send_pieces(int fd, struct iovec *iov, unsigned int count)
{
	const struct msghdr m = { .msg_iov = iov, .msg_iovlen = count };
	ssize_t n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? 0 : -errno;
	return n;
}

int frame_stream_flush(struct frame_stream *s)
{
	struct iovec iov = { s->out + s->out_at, frame_stream_queued(s) };
	ssize_t n;

	if (!iov.iov_len)
		return 0;
	n = send_pieces(s->fd, &iov, 1);
	if (n < 0)
		return n;
	s->out_at += n;
	if (s->out_at == s->out_len)
		s->out_at = s->out_len = 0;
	return 0;
}

bool frame_stream_queue(struct frame_stream *s, const struct net_hdr *h, const uint8_t *data,
			size_t len)
{
	const struct prefix p = { .len = len, .hdr = *h };

	if (s->out_at && s->out_max - s->out_len < sizeof(p) + len) {
		memmove(s->out, s->out + s->out_at, frame_stream_queued(s));
		s->out_len -= s->out_at;
		s->out_at = 0;
	}
	if (len > NET_FRAME_MAX || s->out_max - s->out_len < sizeof(p) + len)
		return false;
	memcpy(s->out + s->out_len, &p, sizeof(p));
	memcpy(s->out + s->out_len + sizeof(p), data, len);
	s->out_len += sizeof(p) + len;
	return true;
}

/* Keeps what the socket did not take of a message: all but its first @done bytes. */
static void keep_rest(struct frame_stream *s, const struct iovec *iov, unsigned int count,
		      size_t done)
{
	for (; count; iov++, count--) {
		const size_t skip = MIN(done, iov->iov_len);

		done -= skip;
		memcpy(s->out + s->out_len, (uint8_t *)iov->iov_base + skip, iov->iov_len - skip);
		s->out_len += iov->iov_len - skip;
	}
}

static bool sendable(const struct net_out *f)
{
	return f->len >= NET_ETH_LEN && f->len <= NET_FRAME_MAX && f->count < PIECES_MAX;
}

int frame_stream_send(struct frame_stream *s, const struct net_out *frames, unsigned int count)
{
	struct iovec iov[PIECES_MAX];
	struct prefix prefix[FRAME_STREAM_AT_ONCE];
	unsigned int first[FRAME_STREAM_AT_ONCE + 1];
	unsigned int pieces = 0, n;
	ssize_t done;
	int rc;

	rc = frame_stream_flush(s);
	if (rc || frame_stream_queued(s))
		return rc;
	for (n = 0; n < MIN(count, FRAME_STREAM_AT_ONCE); n++) {
		const struct net_out *f = &frames[n];

		first[n] = pieces;
		if (!sendable(f))
			continue;	/* dropped: an empty message */
		if (pieces + 1 + f->count > PIECES_MAX)
			break;
		prefix[n] = (struct prefix){ .len = f->len, .hdr = f->hdr };
		iov[pieces++] = (struct iovec){ &prefix[n], sizeof(prefix[n]) };
		memcpy(&iov[pieces], f->iov, f->count * sizeof(*iov));
		pieces += f->count;
	}
	first[n] = pieces;
	done = pieces ? send_pieces(s->fd, iov, pieces) : 0;
	if (done < 0)
		return done;
	for (unsigned int i = 0; i < n; i++) {
		size_t size = first[i + 1] > first[i] ? sizeof(*prefix) + frames[i].len : 0;

		if ((size_t)done >= size) {
			done -= size;
			continue;
		}
		if (!done)
			return i;
		keep_rest(s, &iov[first[i]], first[i + 1] - first[i], done);
		return i + 1;
	}
	return n;
}
