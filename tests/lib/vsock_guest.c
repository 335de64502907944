// SPDX-License-Identifier: Apache-2.0
/*
 * A guest's program for tests/boot/vsock.py: connects to the host, sends 1 MiB, prints what comes
 * back; connects to where nobody listens; then echoes connections until one says "end".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#define MIB (1U << 20)

static int to_host(unsigned int port)
{
	const struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = 2, .svm_port = port };
	const int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to))) {
		printf("port %u: %s\n", port, errno == ECONNRESET ? "refused" : strerror(errno));
		return -1;
	}
	return fd;
}

static void send_all(int fd, const char *p, size_t len)
{
	while (len) {
		const ssize_t n = write(fd, p, len);

		if (n <= 0) {
			printf("write: %s\n", strerror(errno));
			exit(1);
		}
		p += n;
		len -= n;
	}
}

static void call_host(void)
{
	static char data[MIB];
	const int fd = to_host(52);
	ssize_t n;

	if (fd < 0)
		return;
	for (unsigned int i = 0; i < MIB; i++)
		data[i] = i * 31 + (i >> 8);
	send_all(fd, data, MIB);
	shutdown(fd, SHUT_WR);
	n = read(fd, data, 100);
	printf("the host says %.*s\n", n > 0 ? (int)n : 0, data);
	close(fd);
}

/* Returns 0 once a connection says "end". */
static int echo(int fd)
{
	static char data[65536];
	ssize_t n;
	int end = 0;

	while ((n = read(fd, data, sizeof(data))) > 0) {
		end = n == 3 && !memcmp(data, "end", 3);
		send_all(fd, data, n);
	}
	close(fd);
	return !end;
}

int main(void)
{
	const struct sockaddr_vm at = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1234,
	};
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0), fd;

	setvbuf(stdout, NULL, _IONBF, 0);
	if (listener < 0 || bind(listener, (const struct sockaddr *)&at, sizeof(at)) ||
	    listen(listener, 4)) {
		perror("listen");
		return 1;
	}
	call_host();
	to_host(53);
	printf("listening\n");
	do {
		fd = accept(listener, NULL, NULL);
	} while (fd >= 0 && echo(fd));
	printf("ended\n");
	return 0;
}
