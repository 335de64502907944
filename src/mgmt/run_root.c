// SPDX-License-Identifier: Apache-2.0
/* What --root adds to a VM's options; see run_root.h. */
#include "mgmt/run_root.h"
#include "backend/block.h"
#include "base/named_socket.h"
#include "base/session_wire.h"
#include "mgmt/guest_modules.h"
#include "mgmt/initramfs.h"
#include "mgmt/run_priv.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

/* A text that lives as long as the options; NULL and r->err: there is no room. */
static const char *keep(struct run_root *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static const char *keep(struct run_root *r, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = r->count < ARRAY_SIZE(r->texts) ? vasprintf(&text, fmt, ap) : -1;
	va_end(ap);
	if (n < 0) {
		err_set(&r->err, ENOMEM, "out of memory for the options of a VM");
		return NULL;
	}
	r->texts[r->count++] = text;
	return text;
}

/* --- the kernel --- */

/* The last of those that match, which is the newest if their names are alike. */
static const char *newest(struct run_root *r, const char *folder, const char *pattern)
{
	const char *found = NULL;
	char path[PATH_MAX];
	glob_t g;

	snprintf(path, sizeof(path), "%s%s", folder, pattern);
	if (!glob(path, 0, NULL, &g) && g.gl_pathc && !access(g.gl_pathv[g.gl_pathc - 1], R_OK))
		found = keep(r, "%s", g.gl_pathv[g.gl_pathc - 1]);
	globfree(&g);
	return found;
}

/* Where `make run` and tools/kernel.sh keep the kernels that they get. */
static const char *cached(struct run_root *r)
{
	const char *own = getenv("VIREO_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char folder[PATH_MAX];

	if (own)
		snprintf(folder, sizeof(folder), "%s", own);
	else
		snprintf(folder, sizeof(folder), "%s%s/vireo", xdg ? xdg : home ? home : "",
			 xdg ? "" : "/.cache");
	return newest(r, folder, "/kernel-standard/vmlinuz");
}

/* That of the root, of this host, or one that was got before. */
static int find_kernel(struct run_root *r, struct run_options *o, const char *directory,
		       struct err *e)
{
	char running[128];
	struct utsname u;

	uname(&u);
	snprintf(running, sizeof(running), "/boot/vmlinuz-%s", u.release);
	if (!o->kernel && directory) {
		o->kernel = newest(r, directory, "/boot/vmlinuz-*");
		if (!o->kernel)
			o->kernel = newest(r, directory, "/vmlinuz");
	}
	if (!o->kernel && !access(running, R_OK))
		o->kernel = keep(r, "%s", running);
	if (!o->kernel)
		o->kernel = cached(r);
	if (o->kernel)
		return 0;
	return err_set(e, ENOENT, "there is no kernel in '%.200s', none of this host's that can be read, "
		       "and none in the cache: name one with --kernel FILE, or get Debian's (tools/kernel.sh "
		       "standard in vireo's source)", o->root);
}

/* --- the root --- */

static int share_root(struct run_root *r, struct run_options *o, const char *directory,
		      struct err *e)
{
	char path[PATH_MAX];

	if (!realpath(directory, path))
		return err_errno(e, errno, "could not open the directory '%.300s'", directory);
	if (strchr(path, ','))
		return err_set(e, EINVAL, "the path of '%.300s' has a comma in it, which none of a shared "
			       "directory may have", path);
	if (o->share_count == RUN_SHARES_MAX)
		return err_set(e, E2BIG, "a VM has at most %d shared directories", RUN_SHARES_MAX);
	o->share[o->share_count++] = (struct share_option){
		.text = keep(r, "%s,tag=vireo.root%s", path, o->overlay ? ",readonly" : ""),
	};
	return 0;
}

/* As the first disk, whose kernel may lie beside it. */
static int disk_root(struct run_root *r, struct run_options *o, struct err *e)
{
	char path[PATH_MAX * 2], *at = path;

	if (o->disk_count == RUN_DISKS_MAX)
		return err_set(e, E2BIG, "a VM has at most %d disks", RUN_DISKS_MAX);
	for (const char *p = o->root; *p && at < path + sizeof(path) - 2; p++) {
		if (*p == ',')
			*at++ = ',';
		*at++ = *p;
	}
	*at = '\0';
	memmove(o->disk + 1, o->disk, o->disk_count * sizeof(o->disk[0]));
	o->disk[0] = keep(r, "%s%s", path, o->throw_away ? ",snapshot=on" : "");
	o->disk_count++;
	if (o->kernel || !o->disk[0])
		return 0;
	if (!run_boot_beside(o, NULL))
		o->cmdline = NULL;	/* what it says of the root is not so here */
	return 0;
}

/* --- the initramfs --- */

static int make_initramfs(struct run_root *r, struct run_options *o, const char *directory,
			  struct err *e)
{
	struct initramfs i;
	size_t size;
	const char *init = guest_init(&size);
	int rc;

	rc = initramfs_begin(&i, o->initrd, e);
	if (rc)
		return rc;
	initramfs_file(&i, "init", init, size, 0755);
	guest_modules_add(&i, o->kernel, directory);
	rc = initramfs_end(&i, e);
	if (rc < 0)
		return rc;
	r->initramfs = rc;
	o->initrd = keep(r, "/proc/self/fd/%d", r->initramfs);
	return 0;
}

/* --- the ports --- */

static int add_port(struct run_root *r, struct run_options *o, const char *text, struct err *e)
{
	if (o->console_count == RUN_CONSOLES_MAX)
		return err_set(e, E2BIG, "a VM has at most %d consoles and ports", RUN_CONSOLES_MAX);
	if (text)
		o->console[o->console_count++] = text;
	return r->err.code;
}

static int add_ports(struct run_root *r, struct run_options *o, struct err *e)
{
	struct sockaddr_un a;
	char file[32];
	int rc = 0;

	if (o->session >= 0)
		rc = add_port(r, o, keep(r, "fd=%d,name=" SESSION_PORT "0", o->session), e);
	for (unsigned int i = 1; i < SESSION_PORTS && !rc && o->name; i++) {
		snprintf(file, sizeof(file), o->kept ? RUN_ROOT_SOCKET : RUN_ROOT_NAMED, i);
		if (!o->kept)
			rc = named_socket_address(&a, "", o->name, file, e);
		if (!rc)
			rc = add_port(r, o, keep(r, "socket=%s,name=" SESSION_PORT "%u",
						 o->kept ? file : a.sun_path, i), e);
	}
	return rc;
}

/* --- the whole --- */

/* An unpacked OCI bundle has its root beside its config.json. */
static const char *root_directory(struct run_root *r, const char *root)
{
	char config[PATH_MAX], inner[PATH_MAX];

	snprintf(config, sizeof(config), "%s/config.json", root);
	snprintf(inner, sizeof(inner), "%s/rootfs", root);
	return !access(config, F_OK) && !access(inner, F_OK) ? keep(r, "%s", inner) : root;
}

int run_root_prepare(struct run_root *r, struct run_options *o, struct err *e)
{
	const char *directory = NULL, *where, *own;
	bool network;
	struct stat st;
	int rc;

	*r = (struct run_root){ 0 };
	if (!o->root)
		return 0;
	if (stat(o->root, &st))
		return err_errno(e, errno, "could not find the image '%.300s'", o->root);
	o->overlay |= o->throw_away;
	if (S_ISDIR(st.st_mode))
		directory = root_directory(r, o->root);
	own = o->cmdline;
	rc = directory ? share_root(r, o, directory, e) : disk_root(r, o, e);
	if (!rc)
		rc = find_kernel(r, o, directory, e);
	if (!rc)
		rc = make_initramfs(r, o, directory, e);
	if (!rc)
		rc = add_ports(r, o, e);
	where = !directory ? "/dev/vda" : o->overlay ? "overlay" : "9p";
	network = o->publish_count || (o->net_count && !strncmp(o->net[0], "user", 4));
	o->cmdline = keep(r, "console=ttyS0 quiet panic=-1 vireo.root=%s%s%s%s%s%s", where,
			  o->session < 0 ? " vireo.init" : "", o->name ? " vireo.exec" : "",
			  network ? " vireo.net" : "",
			  own ? " " : "", own ? own : "");
	if (!rc && r->err.code) {
		*e = r->err;
		rc = e->code;
	}
	return rc;
}

void run_root_free(struct run_root *r)
{
	for (unsigned int i = 0; i < r->count; i++)
		free(r->texts[i]);
	if (r->initramfs)
		close(r->initramfs);
	*r = (struct run_root){ 0 };
}
