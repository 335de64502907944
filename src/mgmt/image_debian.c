// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo image create debian12`: runs debian12.sh, which is part of this program, then makes the
 * image of what it leaves, and puts kernel, initrd and command line beside it.
 */
#include "mgmt/image_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_SIZE	(8ULL << 30)
#define MIN_SIZE	(1ULL << 30)

/* The script's text, with a zero behind it. */
__asm__(".pushsection .rodata\n"
	"debian12_script: .incbin \"src/mgmt/debian12.sh\"\n"
	".byte 0\n"
	".popsection\n");
extern const char debian12_script[];

static void set_environment(const struct image_args *a, uint64_t size)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, size);
	setenv("SIZE", text, 1);
	setenv("NAME", a->name ? a->name : "debian", 1);
	setenv("PASSWORD", a->password ? a->password : "", 1);
	setenv("SSH_KEY", a->ssh_key ? a->ssh_key : "", 1);
	setenv("MIRROR", a->mirror ? a->mirror : "", 1);
	setenv("PACKAGES", a->packages ? a->packages : "", 1);
}

/* Its messages go to our stderr. */
static int run_script(const struct image_args *a, const char *folder, uint64_t size, struct err *e)
{
	const pid_t pid = fork();
	int status;

	if (pid < 0)
		return err_errno(e, errno, "cannot start a shell");
	if (!pid) {
		signal(SIGINT, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		set_environment(a, size);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execlp("sh", "sh", "-c", debian12_script, "debian12", folder, NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_errno(e, errno, "the shell was lost");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, ECHILD, "no Debian system was made; the lines above say why");
	return 0;
}

/* A file of @folder to @image with @suffix behind it. */
static int place(const char *folder, const char *name, const char *image, struct err *e)
{
	char from[256], *to = NULL;
	struct image_args raw = { .type = "raw", .force = true };
	struct image *in, *out;
	uint64_t length, taken;
	struct image_open how = { .path = from, .format = "raw", .read_only = true };
	int rc;

	snprintf(from, sizeof(from), "%s/%s", folder, name);
	if (asprintf(&to, "%s.%s", image, name) < 0)
		return err_errno(e, ENOMEM, "'%s'", name);
	rc = image_open(&in, &how, e);
	if (!rc) {
		rc = image_make(&out, to, in->size, &raw, e);
		if (!rc) {
			rc = image_copy(in, out, name, e);
			/* Its length is not one of a disk. */
			if (!rc && !raw_usage(in, &length, &taken) && ftruncate(raw_fd(out), length))
				rc = err_errno(e, errno, "cannot write '%s'", to);
			rc = image_make_end(out, to, rc, e);
		}
		image_close(in);
	}
	free(to);
	return rc;
}

static int place_disk(const struct image_args *a, const char *folder, const char *path,
		      struct err *e)
{
	char from[256];
	struct image_open how = { .path = from, .format = "raw", .read_only = true };
	struct image *in, *out;
	int rc;

	snprintf(from, sizeof(from), "%s/root.ext4", folder);
	rc = image_open(&in, &how, e);
	if (rc)
		return rc;
	rc = image_make(&out, path, in->size, a, e);
	if (!rc) {
		rc = image_copy(in, out, "writing the disk", e);
		rc = image_make_end(out, path, rc, e);
	}
	image_close(in);
	return rc;
}

static void clean(const char *folder)
{
	static const char *const names[] = { "root.ext4", "kernel", "initrd", "cmdline" };
	char path[256];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

static int make_all(const struct image_args *a, const char *folder, const char *path, struct err *e)
{
	int rc = run_script(a, folder, a->size ? a->size : DEFAULT_SIZE, e);

	if (!rc)
		rc = place_disk(a, folder, path, e);
	if (!rc)
		rc = place(folder, "kernel", path, e);
	if (!rc)
		rc = place(folder, "initrd", path, e);
	if (!rc)
		rc = place(folder, "cmdline", path, e);
	return rc;
}

static int check_args(const struct image_args *a, struct err *e)
{
	if (a->count > 2)
		return err_set(e, EINVAL, "'vireo image create debian12' takes one IMAGE; its size is "
			       "given by --size");
	if (a->backing)
		return err_set(e, EINVAL, "a Debian system has no backing image");
	if (a->size && a->size < MIN_SIZE)
		return err_set(e, EINVAL, "a Debian system needs a disk of at least 1G");
	if (a->ssh_key && access(a->ssh_key, R_OK))
		return err_errno(e, errno, "cannot read the keys in '%s'", a->ssh_key);
	if (!access(a->operands[1], F_OK) && !a->force)
		return err_set(e, EEXIST, "'%s' exists; --force replaces it", a->operands[1]);
	return 0;
}

int image_debian(const struct image_args *a)
{
	const char *path = a->operands[1], *tmp = getenv("TMPDIR");
	char folder[128];
	struct err e = { 0 };
	int rc = check_args(a, &e);

	if (rc)
		return command_fail(&e, STATUS_USAGE);
	snprintf(folder, sizeof(folder), "%.100s/vireo-image.XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	if (!mkdtemp(folder)) {
		err_errno(&e, errno, "cannot make a folder '%s'", folder);
		return command_fail(&e, STATUS_HOST);
	}
	/* Ctrl-C ends the script, which is most of the time; then what there is gets removed. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	rc = make_all(a, folder, path, &e);
	clean(folder);
	if (rc)
		return command_fail(&e, STATUS_HOST);
	command_note("%s is a Debian 12 disk; kernel, initrd and command line are beside it", path);
	command_done("image", path);
	return STATUS_OK;
}
