// SPDX-License-Identifier: Apache-2.0
/*
 * The first program of a guest that `vireo run IMAGE` or `vireo kernel` boots: loads modules, puts
 * the root in place, and then serves commands at ports of the virtio console, or leaves the
 * guest to the root's own init with that service beside it.
 *
 * Statically linked, part of the vireo program, in the guest as /init.  Words on the kernel's
 * command line that it reads:
 *	vireo.root=9p|overlay|DEVICE	where the root is; overlay: 9p, with changes in memory
 *	vireo.ro			the root's device is only read, with changes in memory
 *	vireo.init			end in the root's own init instead of waiting for a command
 *	vireo.exec			there are ports for more commands
 *	vireo.net			the first network card is on vireo's user network
 */
#include "guest/guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROOT		"/root"
#define WAIT_MS		10000	/* for devices to come up */
#define END_MS		10000	/* for processes to end */

void guest_say(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "vireo-init: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
}

/* The guest's end, with what it has to say about it on the console, which vireo shows. */
static void __attribute__((noreturn)) power_off(void)
{
	sync();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void __attribute__((noreturn)) give_up(const char *what)
{
	guest_say("%s: %s", what, strerror(errno));
	power_off();
}

void guest_sleep_ms(unsigned int ms)
{
	const struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

/* --- the command line --- */

/* The value of the word @name, or "" for the bare word; NULL: it is not there. */
static const char *word(char *cmdline, const char *name)
{
	const size_t n = strlen(name);

	for (char *at = cmdline; (at = strstr(at, name)); at += n) {
		if (at != cmdline && at[-1] != ' ' && at[-1] != '\n')
			continue;
		if (at[n] == '=')
			return strndup(at + n + 1, strcspn(at + n + 1, " \n"));
		if (!at[n] || at[n] == ' ' || at[n] == '\n')
			return "";
	}
	return NULL;
}

/* --- the root --- */

static int mount_quietly(const char *from, const char *at, const char *type, unsigned long flags,
			 const char *options)
{
	mkdir(at, 0755);
	return mount(from, at, type, flags, options);
}

/* Is @at the place of another file system than the folder it is in? */
static int is_mounted(const char *at)
{
	struct stat here, above;
	char parent[64];

	snprintf(parent, sizeof(parent), "%s/..", at);
	return !stat(at, &here) && !stat(parent, &above) && here.st_dev != above.st_dev;
}

/* What is not there yet. */
static void mount_system(void)
{
	static const struct { const char *at, *type, *options; unsigned long flags; } all[] = {
		{ "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
		{ "/dev", "devtmpfs", "mode=0755", MS_NOSUID },
		{ "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC },
		{ "/dev/shm", "tmpfs", NULL, MS_NOSUID | MS_NODEV },
		{ "/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!is_mounted(all[i].at))
			mount_quietly(all[i].type, all[i].at, all[i].type, all[i].flags, all[i].options);
}

/* Changes stay in memory: over a root that is only read. */
static int mount_overlay(void)
{
	mount_quietly("tmpfs", "/change", "tmpfs", 0, "mode=0755");
	mkdir("/change/upper", 0755);
	mkdir("/change/work", 0755);
	if (!mount_quietly("overlay", ROOT, "overlay", 0,
			   "lowerdir=/below,upperdir=/change/upper,workdir=/change/work"))
		return 0;
	guest_say("no overlay (%s): the root can only be read but for /tmp and /var/tmp",
		  strerror(errno));
	if (mount("/below", ROOT, NULL, MS_MOVE, NULL))
		return -1;
	mount("tmpfs", ROOT "/tmp", "tmpfs", 0, "mode=1777");
	mount("tmpfs", ROOT "/var/tmp", "tmpfs", 0, "mode=1777");
	return 0;
}

static int mount_shared_root(const char *at, unsigned long flags)
{
	static const char options[] = "trans=virtio,version=9p2000.L,msize=262144,cache=loose";

	mkdir(at, 0755);
	for (int ms = 0; ms < WAIT_MS; ms += 20) {
		if (!mount("vireo.root", at, "9p", flags, options))
			return 0;
		if (errno != ENOENT)
			break;
		guest_sleep_ms(20);	/* the device is not there yet */
	}
	return -1;
}

/* Each kind of file system, whose modules come as they are needed. */
static int mount_device(const char *device, const char *at, unsigned long flags)
{
	static const char *const types[] = { "ext4", "xfs", "btrfs", "vfat", "squashfs", "erofs" };
	struct stat st;

	mkdir(at, 0755);
	for (int ms = 0; stat(device, &st) && ms < WAIT_MS; ms += 20)
		guest_sleep_ms(20);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (!mount(device, at, types[i], flags, NULL))
			return 0;
		if (errno == ENODEV && guest_load(types[i]) && !mount(device, at, types[i], flags, NULL))
			return 0;
	}
	errno = EINVAL;
	return -1;
}

/* Is there a system on the file system that is mounted at @at? */
static int has_system(const char *at)
{
	static const char *const signs[] = { "bin/sh", "usr/bin", "sbin/init", "etc" };
	char path[64];

	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", at, signs[i]);
		if (!faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW))
			return 1;
	}
	return 0;
}

/* "/dev/vda", or the first of its partitions that has a system. */
static int mount_disk(const char *device, const char *at, unsigned long flags)
{
	char part[64];

	if (!mount_device(device, at, flags))
		return 0;
	for (int i = 1; i <= 16; i++) {
		snprintf(part, sizeof(part), "%s%d", device, i);
		if (access(part, F_OK) || mount_device(part, at, flags))
			continue;
		if (has_system(at))
			return 0;
		umount(at);
	}
	errno = ENOENT;
	return -1;
}

static void mount_root(const char *where, int read_only)
{
	const int over = read_only || !strcmp(where, "overlay");
	const char *at = over ? "/below" : ROOT;
	const unsigned long flags = over ? MS_RDONLY : 0;

	if (!strcmp(where, "9p") || !strcmp(where, "overlay")) {
		guest_load("9p");
		guest_load("9pnet_virtio");
		if (mount_shared_root(at, flags))
			give_up("the root cannot be mounted over 9p (does this kernel have 9P_FS and "
				"NET_9P_VIRTIO, or are its modules known?)");
	} else {
		guest_load("virtio_blk");
		guest_load("crc32c_generic");	/* which ext4 and btrfs ask for by another name */
		if (mount_disk(where, at, flags))
			give_up("no partition of the disk has a system on it that can be mounted");
	}
	guest_root_modules(at);
	if (over) {
		guest_load("overlay");
		if (mount_overlay())
			give_up("the root cannot be put in place");
	}
}

/* Shared directories whose tags are paths, as -v DIR:/mnt makes them, are mounted there. */
static void mount_shares(void)
{
	static const char drivers[] = "/sys/bus/virtio/drivers/9pnet_virtio";
	DIR *dir;
	struct dirent *d;
	char path[512], tag[256];

	guest_load("9p");
	guest_load("9pnet_virtio");
	dir = opendir(drivers);
	while (dir && (d = readdir(dir))) {
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "%s/%s/mount_tag", drivers, d->d_name);
		fd = d->d_name[0] == '.' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? 0 : read(fd, tag, sizeof(tag) - 1);
		if (fd >= 0)
			close(fd);
		if (n <= 0 || tag[0] != '/')
			continue;
		tag[n] = '\0';
		guest_make_folders(tag);
		if (mount(tag, tag, "9p", 0, "trans=virtio,version=9p2000.L,msize=262144"))
			guest_say("'%s' cannot be mounted: %s", tag, strerror(errno));
	}
	if (dir)
		closedir(dir);
}

void guest_make_folders(const char *path)
{
	char part[512];

	snprintf(part, sizeof(part), "%s", path);
	for (char *p = part + 1; ; p++) {
		const char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		mkdir(part, 0755);
		*p = c;
		if (!c)
			return;
	}
}

/* --- the whole --- */

static void enter_root(void)
{
	static const char *const moved[] = { "/proc", "/sys", "/dev", "/run" };
	char to[64];

	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		snprintf(to, sizeof(to), ROOT "%s", moved[i]);
		mkdir(to, 0755);
		if (mount(moved[i], to, NULL, MS_MOVE, NULL))
			umount2(moved[i], MNT_DETACH);
	}
	if (chdir(ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		give_up("the root cannot be entered");
	mount_system();	/* what could not be moved, as its folder was not there */
}

/* Serves the ports; returns in the parent. */
static void start_services(void)
{
	for (int i = 1; i < SESSION_PORTS; i++) {
		const int port = guest_open_port(i, i == 1 ? WAIT_MS : 1000);
		pid_t pid;

		if (port < 0)
			continue;
		pid = fork();
		if (!pid) {
			setsid();
			guest_serve(port, i);
			_exit(0);
		}
		close(port);
	}
}

/* A process that ends when the power button is pressed; -1: nothing tells. */
static pid_t watch_button(void)
{
	const int fd = guest_power_open();
	const pid_t pid = fd < 0 ? -1 : fork();

	if (!pid) {
		setsid();
		guest_power_wait(fd);
		_exit(0);
	}
	if (fd >= 0)
		close(fd);
	return pid;
}

/* Everybody is asked to end, and given some time for it. */
static void end_all(void)
{
	kill(-1, SIGTERM);
	for (int ms = 0; ms < END_MS; ms += 20) {
		pid_t pid;

		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return;
		guest_sleep_ms(20);
	}
	kill(-1, SIGKILL);
}

/*
 * Ends when the first command has (0: there is none), or everything after the button was pressed;
 * buries whoever dies meanwhile.
 */
static void wait_for(pid_t first)
{
	const pid_t button = watch_button();

	for (;;) {
		const pid_t pid = wait(NULL);

		if (pid > 0 && pid == first)
			return;
		if (pid > 0 && pid == button) {
			end_all();
			return;
		}
		if (pid < 0 && errno == ECHILD && first)
			return;
		if (pid < 0 && errno == ECHILD)
			pause();
	}
}

static void run_init(void)
{
	static const char *const inits[] = { "/sbin/init", "/lib/systemd/systemd", "/etc/init", "/init" };

	for (size_t i = 0; i < sizeof(inits) / sizeof(inits[0]); i++) {
		char *const argv[] = { (char *)inits[i], NULL };

		execv(inits[i], argv);
	}
	/* A root without one: commands come through vireo exec. */
	guest_say("this root has no init: it waits for vireo exec");
	wait_for(0);
	power_off();
}

int main(void)
{
	char cmdline[4096] = "";
	const char *root;
	pid_t first;
	int fd, port;

	mount_system();
	fd = open("/dev/console", O_RDWR);
	for (int i = 0; i < 3 && fd >= 0; i++)
		dup2(fd, i);
	fd = open("/proc/cmdline", O_RDONLY);
	if (fd < 0 || read(fd, cmdline, sizeof(cmdline) - 1) < 0)
		give_up("the command line cannot be read");
	close(fd);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	guest_load("virtio_pci");
	guest_load("virtio_mmio");
	guest_load("virtio_console");
	guest_load("virtio-rng");
	root = word(cmdline, "vireo.root");
	mount_root(root ? root : "9p", word(cmdline, "vireo.ro") != NULL);
	guest_load("virtio_console");	/* now also from the root */
	guest_load("button");
	if (word(cmdline, "vireo.net"))
		guest_load("virtio_net");
	enter_root();
	if (word(cmdline, "vireo.net"))
		guest_network();
	mount_shares();
	if (word(cmdline, "vireo.init")) {
		if (word(cmdline, "vireo.exec"))
			start_services();
		run_init();
	}
	port = guest_open_port(0, WAIT_MS);
	if (port < 0)
		give_up("there is no virtio console (does this kernel have VIRTIO_CONSOLE and "
			"VIRTIO_PCI, or are its modules known?)");
	first = fork();
	if (!first) {
		setsid();
		guest_serve(port, 0);
		_exit(0);
	}
	if (word(cmdline, "vireo.exec"))
		start_services();
	wait_for(first);
	power_off();
}
