// SPDX-License-Identifier: Apache-2.0
/* Queues of print jobs on the host; see spool_queue.h. */
#include "backend/spool_queue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SETTLED_SECONDS	5

int spool_name_check(const char *name, struct err *e)
{
	const size_t len = strlen(name);

	if (!len || len > SPOOL_NAME_MAX ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != len)
		return err_set(e, EINVAL, "'%s' is no name of a queue or VM: it has 1 to %u of a-z, 0-9, "
			       "- and _", name, SPOOL_NAME_MAX);
	return 0;
}

/* $VIREO_SPOOL, else a folder among the user's state. */
int spool_queue_path(char path[PATH_MAX], const char *name, struct err *e)
{
	const char *own = getenv("VIREO_SPOOL"), *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int n;

	if (own && *own)
		n = snprintf(path, PATH_MAX, "%s/%s", own, name);
	else if (state && *state)
		n = snprintf(path, PATH_MAX, "%s/vireo/spool/%s", state, name);
	else if (home && *home)
		n = snprintf(path, PATH_MAX, "%s/.local/state/vireo/spool/%s", home, name);
	else
		return err_set(e, ENOENT, "there is no place for print jobs: set VIREO_SPOOL or HOME");
	return n < PATH_MAX ? 0 : err_set(e, ENAMETOOLONG, "the name of the spool folder is too long");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in @d that may be queues'; how many, or -ENOMEM. */
static int read_names(DIR *d, char ***names)
{
	struct dirent *entry;
	unsigned int count = 0;
	char **more;

	while ((entry = readdir(d))) {
		if (spool_name_check(entry->d_name, NULL))
			continue;
		more = reallocarray(*names, count + 1, sizeof(*more));
		if (more) {
			*names = more;
			more[count] = strdup(entry->d_name);
		}
		if (!more || !more[count]) {
			while (count)
				free((*names)[--count]);
			return -ENOMEM;
		}
		count++;
	}
	return count;
}

int spool_queue_names(char ***names, struct err *e)
{
	char path[PATH_MAX];
	int count;
	DIR *d;

	*names = NULL;
	count = spool_queue_path(path, ".", e);
	if (count)
		return count;
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? 0 : err_errno(e, errno, "could not read %s", path);
	count = read_names(d, names);
	closedir(d);
	if (count < 0) {
		free(*names);
		return err_errno(e, -count, "could not read %s", path);
	}
	if (count)
		qsort(*names, count, sizeof(**names), by_name);
	return count;
}

static void make_folders(char *path)
{
	for (char *at = path + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(path, 0700);
		*at = '/';
	}
	mkdir(path, 0700);
}

int spool_queue_open(const char *name, bool make, struct err *e)
{
	char path[PATH_MAX];
	int fd, rc;

	rc = spool_name_check(name, e);
	if (!rc)
		rc = spool_queue_path(path, name, e);
	if (rc)
		return rc;
	if (make)
		make_folders(path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return err_set(e, ENOENT, "there is no print queue '%s': vireo run --printer %s makes one",
			       name, name);
	return fd < 0 ? err_errno(e, errno, "could not open the print queue %s", path) : fd;
}

/* Exclusive, until it is closed. */
static int lock_queue(int queue)
{
	const int fd = openat(queue, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX)) {
		if (errno != EINTR) {
			const int rc = -errno;

			close(fd);
			return rc;
		}
	}
	return fd;
}

/* --- small files --- */

static bool read_text(int queue, const char *name, char *text, size_t room)
{
	const int fd = openat(queue, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, room - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return true;
}

static int write_text(int queue, const char *name, const char *text)
{
	char fresh[64];
	int fd, rc = 0;

	snprintf(fresh, sizeof(fresh), "%s.new", name);
	fd = openat(queue, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fsync(fd))
		rc = errno ? -errno : -EIO;
	close(fd);
	if (!rc && renameat(queue, fresh, queue, name))
		rc = -errno;
	return rc;
}

int spool_queue_set_destination(int queue, const char *kind, const char *value, struct err *e)
{
	char text[PATH_MAX + 8];
	int lock, rc;

	if (strchr(value, '\n') || strlen(value) >= PATH_MAX)
		return err_set(e, EINVAL, "'%s' is no destination of print jobs", value);
	snprintf(text, sizeof(text), "%s %s\n", kind, value);
	lock = lock_queue(queue);
	rc = lock < 0 ? lock : write_text(queue, "destination", text);
	if (lock >= 0)
		close(lock);
	return rc ? err_errno(e, -rc, "could not note where print jobs go") : 0;
}

/* --- jobs --- */

static bool parse_name(const char *file, struct spool_job *j)
{
	char kind[8];
	int end = 0;

	memset(j, 0, sizeof(*j));
	if (sscanf(file, "incoming.%*d.%*u.%32[a-z0-9_-]%n", j->vm, &end) != 1 || file[end]) {
		end = 0;
		if (sscanf(file, "%8u.%32[a-z0-9_-].%7[a-z]%n", &j->number, j->vm, kind, &end) != 3 ||
		    !end || file[end] || (strcmp(kind, "job") && strcmp(kind, "held")))
			return false;
		j->held = !strcmp(kind, "held");
	}
	snprintf(j->file, sizeof(j->file), "%s", file);
	return true;
}

/* By number, what is still printed last. */
static int compare_jobs(const void *a, const void *b)
{
	const unsigned int x = ((const struct spool_job *)a)->number - 1;
	const unsigned int y = ((const struct spool_job *)b)->number - 1;

	return x < y ? -1 : x > y;
}

int spool_queue_list(int queue, struct spool_job **jobs)
{
	const int fd = openat(queue, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct spool_job j, *grown;
	struct dirent *d;
	struct stat st;
	int count = 0;

	*jobs = NULL;
	if (!dir)
		return -errno;
	while ((d = readdir(dir))) {
		if (!parse_name(d->d_name, &j) || fstatat(queue, d->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		j.size = st.st_size;
		j.time = st.st_mtime;
		grown = realloc(*jobs, (count + 1) * sizeof(j));
		if (!grown)
			break;
		*jobs = grown;
		grown[count++] = j;
	}
	closedir(dir);
	if (count)
		qsort(*jobs, count, sizeof(j), compare_jobs);
	return count;
}

/* The lock is held. */
static int add_locked(int queue, const char *incoming, const char *vm, bool held)
{
	char text[16], file[NAME_MAX + 1];
	unsigned int number = 1;
	int rc;

	if (read_text(queue, "next", text, sizeof(text)))
		number = MAX(strtoul(text, NULL, 10), 1UL);
	snprintf(text, sizeof(text), "%u\n", (number + 1) % 100000000U);
	rc = write_text(queue, "next", text);
	if (rc)
		return rc;
	snprintf(file, sizeof(file), "%08u.%s.%s", number % 100000000U, vm, held ? "held" : "job");
	return renameat(queue, incoming, queue, file) ? -errno : 0;
}

int spool_queue_add(int queue, const char *incoming, const char *vm)
{
	const int lock = lock_queue(queue);
	int rc;

	if (lock < 0)
		return lock;
	rc = add_locked(queue, incoming, vm, false);
	fsync(queue);
	close(lock);
	return rc;
}

int spool_queue_change(int queue, unsigned int number, enum spool_action what)
{
	const int lock = lock_queue(queue);
	char fresh[NAME_MAX + 1];
	struct spool_job *jobs;
	int count, rc = -ENOENT;

	if (lock < 0)
		return lock;
	count = spool_queue_list(queue, &jobs);
	for (int i = 0; i < count; i++) {
		if (!number || jobs[i].number != number)
			continue;
		snprintf(fresh, sizeof(fresh), "%08u.%s.%s", number, jobs[i].vm,
			 what == SPOOL_HOLD ? "held" : "job");
		rc = what == SPOOL_REMOVE ? unlinkat(queue, jobs[i].file, 0)
					  : renameat(queue, jobs[i].file, queue, fresh);
		rc = rc ? -errno : 0;
	}
	free(jobs);
	close(lock);
	return rc;
}

/* --- putting out --- */

static int copy_all(int from, int to)
{
	ssize_t n;

	do {
		n = sendfile(to, from, NULL, 1 << 20);
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 || fsync(to) ? -errno : 0;
}

/* Under its last name it is whole; after a crash it is copied again, to the same name. */
static int put_into_folder(int queue, const struct spool_job *j, const char *path)
{
	char part[NAME_MAX + 8], file[NAME_MAX + 1];
	const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int from, to, rc;

	if (dir < 0)
		return -errno;
	snprintf(file, sizeof(file), "%08u.%s.prn", j->number, j->vm);
	snprintf(part, sizeof(part), ".%s.part", file);
	from = openat(queue, j->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	to = openat(dir, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
	rc = from < 0 || to < 0 ? -errno : copy_all(from, to);
	if (!rc && renameat(dir, part, dir, file))
		rc = -errno;
	if (!rc)
		fsync(dir);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	close(dir);
	return rc;
}

/* lp reads the job from its standard input. */
static int put_to_lp(int queue, const struct spool_job *j, const char *printer)
{
	char *argv[] = { "lp", "-s", "-d", (char *)printer, NULL };
	const int fd = openat(queue, j->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	posix_spawn_file_actions_t actions;
	int rc, status;
	pid_t pid;

	if (fd < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
	rc = posix_spawnp(&pid, "lp", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fd);
	if (rc)
		return -rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}

static int put_out(int queue, const struct spool_job *j, const char *destination)
{
	int rc = -EINVAL;

	if (!strncmp(destination, "dir ", 4))
		rc = put_into_folder(queue, j, destination + 4);
	else if (!strncmp(destination, "lp ", 3))
		rc = put_to_lp(queue, j, destination + 3);
	if (!rc && unlinkat(queue, j->file, 0))
		rc = -errno;
	return rc;
}

/* A file whose lock can be had belongs to nobody any more, unless it was made just now. */
static void take_over(int queue, const struct spool_job *j)
{
	int fd;

	if (time(NULL) - j->time < SETTLED_SECONDS)
		return;
	fd = openat(queue, j->file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	if (!flock(fd, LOCK_EX | LOCK_NB)) {
		if (j->size)
			add_locked(queue, j->file, j->vm, true);
		else
			unlinkat(queue, j->file, 0);
	}
	close(fd);
}

int spool_queue_drain(int queue, struct err *e)
{
	const int lock = lock_queue(queue);
	char destination[PATH_MAX + 8];
	struct spool_job *jobs;
	int count, rc = 0;

	if (lock < 0)
		return err_errno(e, -lock, "could not lock the print queue");
	count = spool_queue_list(queue, &jobs);
	if (read_text(queue, "destination", destination, sizeof(destination)))
		for (int i = 0; i < count && !rc; i++)
			if (jobs[i].number && !jobs[i].held)
				rc = put_out(queue, &jobs[i], destination);
	for (int i = 0; i < count; i++)
		if (!jobs[i].number)
			take_over(queue, &jobs[i]);
	free(jobs);
	close(lock);
	return rc ? err_errno(e, -rc, "could not put a print job out to %s", destination) : 0;
}
