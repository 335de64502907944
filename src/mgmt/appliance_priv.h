/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vireo appliance`: machines as single files.
 *
 * An appliance is a tar archive (POSIX.1-2001 "pax", sparse files as GNU tar 1.0 has them),
 * compressed by zstd: first manifest.json, which names every file, its size and SHA-256, then
 * these: vm.json, and what it names.  Names have no folders.  What comes from elsewhere is
 * checked whole in a folder of its own, which then becomes the machine's.
 */
#ifndef VIREO_MGMT_APPLIANCE_PRIV_H
#define VIREO_MGMT_APPLIANCE_PRIV_H

#include "mgmt/machine.h"

#include <jansson.h>
#include <nettle/sha2.h>
#include <stdio.h>

#define APPLIANCE_FORMAT	"vireo-appliance"
#define APPLIANCE_VERSION	1
#define APPLIANCE_MANIFEST	"manifest.json"
#define APPLIANCE_NAME_MAX	64U
#define APPLIANCE_FILES_MAX	64U
#define APPLIANCE_TEXT_MAX	(1U << 20)	/* of manifest.json, vm.json, an OVF */
#define APPLIANCE_SIZE_DEFAULT	(256ULL << 30)

struct appliance_args {
	const char *operands[2];
	unsigned int count;
	uint64_t max_size;		/* of all that an import makes, holes counted */
};

struct archive;

/* --- appliance_file.c --- */

/* Letters, digits, '.', '_', '-', not first a dot: no folders, nothing hidden. */
bool appliance_name_ok(const char *name);

#define DIGEST_TEXT	(2 * SHA256_DIGEST_SIZE + 1)
void digest_zeroes(struct sha256_ctx *h, uint64_t count);
void digest_text(struct sha256_ctx *h, char text[DIGEST_TEXT]);

/*
 * The data of the archive's present entry goes into @fd, holes stay holes; exactly @size
 * bytes, or at most what @size_left has, if that is given, which is lowered by them.  @digest may
 * be NULL.  @name is for those who wait.
 */
int appliance_take_data(struct archive *a, const char *name, int fd, uint64_t size, uint64_t *size_left,
			char digest[DIGEST_TEXT], struct err *e);
/* The archive's present entry, which is small, as a string; to be freed. */
int appliance_take_text(struct archive *a, const char *name, char **text, struct err *e);
/* What libarchive says of a broken file. */
int appliance_broken(struct archive *a, const char *path, struct err *e);

/* --- appliance_config.c --- */

/*
 * Leaves of the vm.json @root what an appliance may have, and with @told says on stderr what it
 * takes out: nothing that reaches the host's files, devices or network.
 */
void appliance_clean(json_t *root, bool told);
/* Calls @fn for each file that @root names, until it returns an error. */
int appliance_each_file(const json_t *root, int (*fn)(void *arg, const char *name, struct err *e),
			void *arg, struct err *e);
/* Every file that it names is in the folder @dir, and no disk needs one elsewhere. */
int appliance_check(const json_t *root, int dir, const char *path, struct err *e);

/* --- appliance_manifest.c --- */

#define OVF_NAME_MAX	128U
/* What a file of a package may be called: no folders, nothing hidden. */
bool ovf_name_ok(const char *name);

/* An OVF package: a descriptor, and what lies beside it. */
struct ovf_package {
	const char *path;		/* as the user named it */
	const char *descriptor;		/* its file's name */
	const char *text;		/* what is in it */
	int dir;			/* the folder of the other files */
};

/*
 * If the package has a manifest: does it name each of the @count @files, and is every sum in it
 * right?  -EINVAL: no.
 */
int ovf_manifest_check(const struct ovf_package *p, const char *const *files, unsigned int count,
		       struct err *e);

/* --- appliance_install.c --- */

/* A machine that is being made: a folder beside its place. */
struct install {
	struct machine m;		/* its dir is the folder's */
	char part[PATH_MAX];
	uint64_t left;			/* bytes that it may still get */
};

int install_begin(struct install *i, const char *name, uint64_t max_size, struct err *e);
/* A new file; a descriptor. */
int install_file(struct install *i, const char *name, struct err *e);
/* Writes vm.json, and puts the folder in its place; after @rc or an error of its own removes it. */
int install_end(struct install *i, const json_t *root, int rc, struct err *e);

/* Removes a folder and all in it; links are not followed. */
void appliance_remove(const char *folder);

/* --- the subcommands: 0 or -errno --- */

int appliance_export(const struct appliance_args *a, struct err *e);
int appliance_import(const struct appliance_args *a, struct err *e);
/* Reads an appliance of ours. */
int appliance_import_own(const char *path, const char *name, uint64_t max_size, struct err *e);
/* An OVF descriptor with its disks beside it, or an OVA, which is both in a tar. */
int appliance_import_ovf(const char *path, const char *name, uint64_t max_size, struct err *e);
/* An OCI image's root as a folder, or as an ext4 image where @out ends with .img or .ext4. */
int appliance_import_oci(const char *path, const char *out, uint64_t max_size, struct err *e);

#endif
