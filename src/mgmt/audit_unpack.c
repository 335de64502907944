// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel inside a bzImage, unpacked by the tool for its compression (xz, gzip, zstd,
 * lz4, bzip2), which runs with the payload on stdin.
 */
#include "mgmt/audit_image.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const struct {
	const char *tool;
	uint8_t magic[4];
	unsigned int magic_len;
} packers[] = {
	{ "gzip", { 0x1f, 0x8b }, 2 },
	{ "xz", { 0xfd, '7', 'z', 'X' }, 4 },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	{ "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4 },
	{ "bzip2", { 'B', 'Z', 'h' }, 3 },
};

static const char *packer_of(const uint8_t *p, uint64_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(packers); i++)
		if (size > packers[i].magic_len && !memcmp(p, packers[i].magic, packers[i].magic_len))
			return packers[i].tool;
	return NULL;
}

static int write_all(int fd, const uint8_t *p, uint64_t size)
{
	while (size) {
		const ssize_t n = write(fd, p, size);

		if (n < 0)
			return -errno;
		p += n;
		size -= n;
	}
	return lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

/* Runs "TOOL -d -c" from file @in to file @out. */
static int run_tool(const char *tool, int in, int out, struct err *e)
{
	char *argv[] = { (char *)tool, "-dc", NULL };
	posix_spawn_file_actions_t fa;
	int rc, status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&fa, out, STDOUT_FILENO);
	rc = posix_spawnp(&pid, tool, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (rc)
		return err_errno(e, rc, "unpacking the kernel needs the program %s", tool);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, EINVAL, "the kernel's payload could not be unpacked with %s", tool);
	return 0;
}

static int read_back(int fd, uint8_t **out, uint64_t *size, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) || st.st_size == 0)
		return err_set(e, EINVAL, "the kernel's payload is empty");
	*out = malloc(st.st_size);
	if (!*out)
		return err_errno(e, ENOMEM, "could not hold the unpacked kernel");
	if (pread(fd, *out, st.st_size, 0) != st.st_size) {
		free(*out);
		return err_set(e, EIO, "could not read the unpacked kernel");
	}
	*size = st.st_size;
	return 0;
}

static int unpack(uint8_t **out, uint64_t *out_size, const char *tool, const uint8_t *p,
		  uint64_t size, struct err *e)
{
	const int in = memfd_create("payload", MFD_CLOEXEC);
	const int to = memfd_create("kernel", MFD_CLOEXEC);
	int rc;

	if (in < 0 || to < 0)
		rc = err_errno(e, errno, "could not make room to unpack the kernel");
	else
		rc = write_all(in, p, size);
	if (!rc)
		rc = run_tool(tool, in, to, e);
	if (!rc)
		rc = read_back(to, out, out_size, e);
	if (in >= 0)
		close(in);
	if (to >= 0)
		close(to);
	return rc;
}

int audit_unpack_bzimage(uint8_t **out, uint64_t *out_size, const uint8_t *data, uint64_t size,
			 const char *name, struct err *e)
{
	const uint64_t at = offsetof(struct boot_params, hdr);
	struct setup_header h;
	uint64_t off, len;
	const char *tool;

	*out = NULL;
	if (size < at + sizeof(h))
		return 0;
	memcpy(&h, data + at, sizeof(h));
	if (h.boot_flag != 0xaa55 || memcmp(&h.header, "HdrS", 4))
		return 0;
	off = ((h.setup_sects ? h.setup_sects : 4) + 1ULL) * 512 + h.payload_offset;
	len = h.payload_length;
	/* The payload's last four bytes are its unpacked size, not the packer's. */
	if (len < 8 || off > size || len > size - off)
		return err_set(e, EINVAL, "'%s' is truncated: its payload is not in the file", name);
	tool = packer_of(data + off, len - 4);
	if (!tool)
		return err_set(e, EINVAL, "'%s' is packed in a way that is not known here", name);
	return unpack(out, out_size, tool, data + off, len - 4, e);
}
