// SPDX-License-Identifier: Apache-2.0
/* `vireo logs`: what a machine's serial console has shown, or what vireo said of it. */
#include "base/types.h"
#include "mgmt/command.h"
#include "mgmt/machine.h"
#include "mgmt/status.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <poll.h>
#include <unistd.h>

#define LOOK_MS	500	/* whether it still runs */

struct logs_options {
	bool follow, vmm, json;
	unsigned long lines;		/* 0: all */
};

/* With --format json: the line that has not ended yet. */
struct lines {
	bool json;
	char text[8192];
	size_t n;
};

/* Where the last @lines lines of @fd begin. */
static off_t last_lines(int fd, unsigned long lines)
{
	off_t at = lseek(fd, 0, SEEK_END), end = at;
	char buf[4096];

	while (at > 0) {
		const size_t n = MIN((off_t)sizeof(buf), at);

		if (pread(fd, buf, n, at - n) != (ssize_t)n)
			return 0;
		for (size_t i = n; i-- > 0; )
			if (buf[i] == '\n' && at - n + i + 1 < (size_t)end && !--lines)
				return at - n + i + 1;
		at -= n;
	}
	return 0;
}

/* A line of the log as an object; bytes that are no text become question marks. */
static void print_line(struct lines *l)
{
	json_t *line;

	while (l->n && l->text[l->n - 1] == '\r')
		l->n--;
	for (size_t i = 0; i < l->n; i++)
		if (!l->text[i])
			l->text[i] = '?';
	line = json_stringn(l->text, l->n);
	for (size_t i = 0; !line && i < l->n; i++)
		if (l->text[i] & 0x80)
			l->text[i] = '?';
	line = json_pack("{s:o}", "line", line ? line : json_stringn(l->text, l->n));
	json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(line);
	l->n = 0;
}

static void add(struct lines *l, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (text[i] != '\n')
			l->text[l->n++] = text[i];
		if (text[i] == '\n' || l->n == sizeof(l->text))
			print_line(l);
	}
}

/* All that is there now; false: nobody reads. */
static bool print_rest(int fd, struct lines *l)
{
	char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (l->json)
			add(l, buf, n);
		else if (fwrite(buf, 1, n, stdout) != (size_t)n)
			return false;
	}
	return !fflush(stdout) && !ferror(stdout);
}

/* Until the machine has ended. */
static void follow(const struct machine *m, int fd, struct lines *l)
{
	const int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[64], events[4096];
	bool running = true;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (watch >= 0)
		inotify_add_watch(watch, path, IN_MODIFY);
	while (running) {
		struct pollfd p = { .fd = watch, .events = POLLIN };

		running = machine_state(m) == MACHINE_RUNNING;
		if (!print_rest(fd, l))
			break;
		if (running && poll(&p, 1, LOOK_MS) > 0)
			while (read(watch, events, sizeof(events)) > 0)
				;
	}
	if (watch >= 0)
		close(watch);
}

static int show(const struct machine *m, const struct logs_options *o, struct err *e)
{
	const char *name = o->vmm ? MACHINE_LOG : MACHINE_SERIAL_LOG;
	const int fd = openat(m->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct lines l = { .json = o->json };

	if (fd < 0 && errno == ENOENT)
		return err_set(e, ENOENT, "VM '%s' has no log yet: it has not run", m->name);
	if (fd < 0)
		return err_errno(e, errno, "could not open '%.300s/%s'", m->path, name);
	if (o->lines)
		lseek(fd, last_lines(fd, o->lines), SEEK_SET);
	if (print_rest(fd, &l) && o->follow)
		follow(m, fd, &l);
	if (l.n)
		print_line(&l);
	close(fd);
	return 0;
}

static int logs_main(const struct command *c, int argc, char **argv)
{
	struct logs_options o = { 0 };
	const char *name = NULL;
	struct machine m;
	struct err e = { 0 };
	int rc;

	rc = options_parse(c, argc, argv, &o, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc || machine_open(&m, name, &e))
		return command_fail(&e, STATUS_USAGE);
	rc = show(&m, &o, &e);
	machine_close(&m);
	return rc ? command_fail(&e, STATUS_USAGE) : STATUS_OK;
}

static int set_follow(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct logs_options *)dest)->follow = true;
	return 0;
}

static int set_vmm(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct logs_options *)dest)->vmm = true;
	return 0;
}

static int set_lines(void *dest, const char *value, struct err *e)
{
	char *end;
	const unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || !n)
		return err_set(e, EINVAL, "'%s' is no value for --lines: give a number from 1", value);
	((struct logs_options *)dest)->lines = n;
	return 0;
}

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct logs_options *)dest)->json = !strcmp(value, "json");
	return 0;
}

static const struct option_def option_defs[] = {
	{ "follow", NULL, "go on with what comes, until the VM ends", set_follow },
	{ "lines", "N", "begin with the last N lines", set_lines },
	{ "format", "text|json", "text (default), or json: an object a line", set_format },
	{ "vmm", NULL, "what vireo said, instead of the guest", set_vmm },
};

const struct command command_logs = {
	.name = "logs",
	.operand = "NAME",
	.summary = "show what a VM's serial console has shown",
	.about =
	"Prints what the guest of a VM that 'vireo start' started has sent to its serial console\n"
	"since it was started last.  (That of the time before is serial.log.1 in its directory.)\n"
	"\n"
	"Example:\n"
	"  vireo logs -f web",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.letter = 'f',
	.letter_option = "follow",
	.run = logs_main,
};
