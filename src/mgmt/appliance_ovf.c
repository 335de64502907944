// SPDX-License-Identifier: Apache-2.0
/*
 * Appliances of other products: an OVF descriptor (DMTF's DSP0243, "Open Virtualization Format
 * Specification") with VMDK disks beside it, or an OVA, a tar that begins with the descriptor.
 *
 * Of the hardware is taken: processors, memory, disks in the order of their controllers' items,
 * and whether there is a network, which becomes a user's.  Not taken: firmware, ports, consoles,
 * properties for the guest.  The sums of its manifest, if it has one, are checked
 * (appliance_manifest.c).
 */
#include "mgmt/appliance_priv.h"
#include "mgmt/image_priv.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISKS_MAX	16U
#define MIB		(1ULL << 20)

enum { ITEM_CPU = 3, ITEM_MEMORY = 4, ITEM_NIC = 10, ITEM_DISK = 17 };

struct ovf_disk {
	char *id, *file_ref;		/* of <Disk> */
	uint64_t capacity;
	char *file;			/* the name in <File> that it refers to */
};

struct ovf {
	const char *path;
	struct ovf_disk disk[DISKS_MAX];
	unsigned int disk_count;
	char *used[DISKS_MAX];		/* ids of disks, in the order of the items */
	unsigned int used_count;
	unsigned long cpus, memory;	/* MiB */
	bool network;
	struct ovf_package package;
	struct install install;
};

/* --- the descriptor: whatever prefixes its names have --- */

static bool is(const xmlNode *n, const char *name)
{
	return n->type == XML_ELEMENT_NODE && !strcmp((const char *)n->name, name);
}

/* An attribute whatever its namespace; to be freed. */
static char *attribute(const xmlNode *n, const char *name)
{
	for (const xmlAttr *a = n->properties; a; a = a->next)
		if (!strcmp((const char *)a->name, name))
			return (char *)xmlNodeGetContent((const xmlNode *)a);
	return NULL;
}

static char *child_text(const xmlNode *n, const char *name)
{
	for (const xmlNode *c = n->children; c; c = c->next)
		if (is(c, name))
			return (char *)xmlNodeGetContent(c);
	return NULL;
}

static unsigned long child_number(const xmlNode *n, const char *name)
{
	char *text = child_text(n, name);
	const unsigned long value = text ? strtoul(text, NULL, 10) : 0;

	free(text);
	return value;
}

/* "byte * 2^20", "MegaBytes" and the like: the power of two. */
static unsigned int units_shift(const char *units)
{
	const char *power = units ? strstr(units, "2^") : NULL;
	const unsigned long n = power ? strtoul(power + 2, NULL, 10) : 0;

	if (power)
		return n <= 40 ? n : 0;
	if (units && strcasestr(units, "giga"))
		return 30;
	return units && strcasestr(units, "kilo") ? 10 : units && !strcasecmp(units, "byte") ? 0 : 20;
}

static void take_disk(struct ovf *o, const xmlNode *n)
{
	struct ovf_disk *d = &o->disk[o->disk_count];
	char *capacity = attribute(n, "capacity"), *units = attribute(n, "capacityAllocationUnits");

	if (o->disk_count < DISKS_MAX) {
		*d = (struct ovf_disk){
			.id = attribute(n, "diskId"), .file_ref = attribute(n, "fileRef"),
		};
		if (capacity)
			d->capacity = strtoull(capacity, NULL, 10) << (units ? units_shift(units) : 0);
		o->disk_count++;
	}
	free(capacity);
	free(units);
}

static void take_item(struct ovf *o, const xmlNode *n)
{
	char *resource, *units;
	const char *slash;

	switch (child_number(n, "ResourceType")) {
	case ITEM_CPU:
		o->cpus += child_number(n, "VirtualQuantity");
		break;
	case ITEM_MEMORY:
		units = child_text(n, "AllocationUnits");
		o->memory += (child_number(n, "VirtualQuantity") << units_shift(units)) / MIB;
		free(units);
		break;
	case ITEM_NIC:
		o->network = true;
		break;
	case ITEM_DISK:
		/* "ovf:/disk/ID" or "/disk/ID" */
		resource = child_text(n, "HostResource");
		slash = resource ? strrchr(resource, '/') : NULL;
		if (slash && o->used_count < DISKS_MAX)
			o->used[o->used_count++] = strdup(slash + 1);
		free(resource);
		break;
	}
}

static void walk(struct ovf *o, const xmlNode *n, unsigned int depth)
{
	for (; n && depth < 32; n = n->next) {
		if (is(n, "Disk"))
			take_disk(o, n);
		else if (is(n, "Item") || is(n, "StorageItem") || is(n, "EthernetPortItem"))
			take_item(o, n);
		else
			walk(o, n->children, depth + 1);
	}
}

/* <File href id> of the references; they come before what refers to them, or behind it. */
static void name_files(struct ovf *o, const xmlNode *n, unsigned int depth)
{
	for (; n && depth < 32; n = n->next) {
		char *id = is(n, "File") ? attribute(n, "id") : NULL;

		for (unsigned int i = 0; id && i < o->disk_count; i++)
			if (o->disk[i].file_ref && !o->disk[i].file && !strcmp(o->disk[i].file_ref, id))
				o->disk[i].file = attribute(n, "href");
		free(id);
		name_files(o, n->children, depth + 1);
	}
}

static int parse(struct ovf *o, const char *text, struct err *e)
{
	/* No network, and no entities, which may grow or be of elsewhere. */
	xmlDoc *doc = strstr(text, "<!DOCTYPE") ? NULL : xmlReadMemory(text, strlen(text), "appliance.ovf", NULL,
				    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
	int rc = 0;

	if (!root || !is(root, "Envelope")) {
		rc = err_set(e, EINVAL, "'%.300s' has no OVF descriptor that can be read", o->path);
	} else {
		walk(o, root->children, 0);
		name_files(o, root->children, 0);
	}
	xmlFreeDoc(doc);
	if (!rc && !o->disk_count)
		rc = err_set(e, EINVAL, "'%.300s' describes no disk", o->path);
	return rc;
}

/* --- disks --- */

static const struct ovf_disk *find_disk(const struct ovf *o, const char *id)
{
	for (unsigned int i = 0; i < o->disk_count; i++)
		if (o->disk[i].id && !strcmp(o->disk[i].id, id))
			return &o->disk[i];
	return NULL;
}

/* The disk that came as @vmdk becomes a qcow2 image in the machine's folder. */
static int convert(struct ovf *o, const char *vmdk, const char *name, struct err *e)
{
	const struct image_open how = { .path = vmdk, .format = "vmdk", .read_only = true };
	struct image_args a = { .type = "qcow2" };
	struct image *from, *to;
	char path[PATH_MAX + 32];
	int rc = image_open(&from, &how, e);

	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/%s", o->install.part, name);
	rc = from->size > o->install.left ?
	     err_set(e, EFBIG, "'%.300s' would become larger than --max-size allows", o->path) :
	     image_make(&to, path, from->size, &a, e);
	if (!rc) {
		o->install.left -= from->size;
		rc = image_make_end(to, path, image_copy(from, to, name, e), e);
	}
	image_close(from);
	return rc;
}

static int empty_disk(struct ovf *o, const struct ovf_disk *d, const char *name, struct err *e)
{
	struct image_args a = { .type = "qcow2" };
	char path[PATH_MAX + 32];
	struct image *to;
	int rc;

	if (!d->capacity || d->capacity % 512 || d->capacity > o->install.left)
		return err_set(e, EINVAL, "'%.300s' has an empty disk of an impossible size", o->path);
	snprintf(path, sizeof(path), "%s/%s", o->install.part, name);
	rc = image_make(&to, path, d->capacity, &a, e);
	return rc ? rc : image_make_end(to, path, 0, e);
}

static int make_disk(struct ovf *o, unsigned int i, const char *folder, json_t *disks, struct err *e)
{
	const struct ovf_disk *d = find_disk(o, o->used[i]);
	char name[32], path[PATH_MAX + OVF_NAME_MAX + 2];
	int rc;

	if (!d)
		return err_set(e, EINVAL, "'%.300s' uses a disk '%.100s' that it does not describe", o->path,
			       o->used[i]);
	snprintf(name, sizeof(name), "disk%u.img", i);
	if (!d->file_ref) {
		rc = empty_disk(o, d, name, e);
	} else if (!d->file || !ovf_name_ok(d->file)) {
		rc = err_set(e, EINVAL, "'%.300s': the disk's file '%.100s' is no plain name", o->path,
			     d->file ?: "");
	} else {
		snprintf(path, sizeof(path), "%s/%s", folder, d->file);
		rc = convert(o, path, name, e);
	}
	if (!rc) {
		strcat(name, ",format=qcow2");
		json_array_append_new(disks, json_string(name));
	}
	return rc;
}

/* --- OVA --- */

/* Unpacks the plain files of a tar into @dir; *ovf gets the descriptor, the first of them. */
static int unpack(struct ovf *o, int dir, char **ovf, char descriptor[OVF_NAME_MAX + 1],
		  struct err *e)
{
	struct archive *a = archive_read_new();
	uint64_t left = o->install.left;
	struct archive_entry *t;
	int fd, n = 0, rc = 0;

	archive_read_support_format_tar(a);
	if (archive_read_open_filename(a, o->path, 1 << 16) != ARCHIVE_OK)
		rc = appliance_broken(a, o->path, e);
	while (!rc && (rc = archive_read_next_header(a, &t)) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(t);

		if (archive_entry_filetype(t) != AE_IFREG || archive_entry_hardlink(t) || !name ||
		    !ovf_name_ok(name) || ++n > (int)APPLIANCE_FILES_MAX) {
			rc = err_set(e, EINVAL, "'%.300s' has something in it that is no plain file: '%.100s'",
				     o->path, name ?: "");
		} else if (n == 1) {
			strcpy(descriptor, name);	/* ovf_name_ok() knows its length */
			rc = appliance_take_text(a, name, ovf, e);
		} else {
			fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
			rc = fd < 0 ? err_errno(e, errno, "could not unpack '%s'", name) :
			     appliance_take_data(a, name, fd, MAX(archive_entry_size(t), 0), &left, NULL,
						 e);
			if (fd >= 0)
				close(fd);
		}
	}
	if (rc == ARCHIVE_EOF)
		rc = *ovf ? 0 : err_set(e, EINVAL, "'%.300s' is empty", o->path);
	else if (rc > ARCHIVE_EOF || (rc < 0 && !e->code))
		rc = appliance_broken(a, o->path, e);
	archive_read_free(a);
	return rc;
}

static int read_descriptor(const char *path, char **text, struct err *e)
{
	FILE *f = fopen(path, "re");
	size_t n;

	*text = calloc(1, APPLIANCE_TEXT_MAX + 1);
	if (!f || !*text) {
		if (f)
			fclose(f);
		return err_errno(e, f ? ENOMEM : errno, "could not read '%.300s'", path);
	}
	n = fread(*text, 1, APPLIANCE_TEXT_MAX, f);
	fclose(f);
	return n < APPLIANCE_TEXT_MAX ? 0 : err_set(e, EFBIG, "'%.300s' is too long", path);
}

/* --- the whole --- */

static json_t *config_of(const struct ovf *o, json_t *disks)
{
	json_t *root = json_pack("{s:i,s:O}", "version", 1, "disk", disks);
	char memory[32];

	snprintf(memory, sizeof(memory), "%luM", o->memory ? o->memory : 512);
	json_object_set_new(root, "memory", json_string(memory));
	json_object_set_new(root, "cpus", json_integer(o->cpus ? (json_int_t)o->cpus : 1));
	if (o->network)
		json_object_set_new(root, "net", json_pack("[s]", "user"));
	return root;
}

static int check_manifest(const struct ovf *o, struct err *e)
{
	const char *files[DISKS_MAX];
	unsigned int count = 0;

	for (unsigned int i = 0; i < o->disk_count; i++)
		if (o->disk[i].file)
			files[count++] = o->disk[i].file;
	return ovf_manifest_check(&o->package, files, count, e);
}

static int make_machine(struct ovf *o, const char *folder, json_t **root, struct err *e)
{
	json_t *disks = json_array();
	int rc = parse(o, o->package.text, e);

	if (!rc)
		rc = check_manifest(o, e);

	/* Without items all disks are meant. */
	if (!rc && !o->used_count)
		for (unsigned int i = 0; i < o->disk_count; i++)
			o->used[o->used_count++] = strdup(o->disk[i].id ?: "");
	for (unsigned int i = 0; i < o->used_count && !rc; i++)
		rc = make_disk(o, i, folder, disks, e);
	if (!rc)
		*root = config_of(o, disks);
	json_decref(disks);
	return rc;
}

static void ovf_free(struct ovf *o)
{
	for (unsigned int i = 0; i < o->disk_count; i++) {
		free(o->disk[i].id);
		free(o->disk[i].file_ref);
		free(o->disk[i].file);
	}
	for (unsigned int i = 0; i < o->used_count; i++)
		free(o->used[i]);
}

/* The tar's disks go into a folder of their own, which is empty again at the end. */
static int from_ova(struct ovf *o, json_t **root, struct err *e)
{
	char folder[PATH_MAX + 8], name[OVF_NAME_MAX + 1] = "", *text = NULL;
	int dir, rc;

	snprintf(folder, sizeof(folder), "%s/ova", o->install.part);
	if (mkdir(folder, 0700))
		return err_errno(e, errno, "could not make the folder '%.300s'", folder);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = dir < 0 ? err_errno(e, errno, "could not open '%.300s'", folder) :
	     unpack(o, dir, &text, name, e);
	o->package = (struct ovf_package){ o->path, name, text, dir };
	if (!rc)
		rc = make_machine(o, folder, root, e);
	if (dir >= 0)
		close(dir);
	free(text);
	appliance_remove(folder);
	return rc;
}

static int from_ovf(struct ovf *o, json_t **root, struct err *e)
{
	char folder[PATH_MAX], *slash, *text = NULL;
	int rc = read_descriptor(o->path, &text, e), dir = -1;

	snprintf(folder, sizeof(folder), "%s", o->path);
	slash = strrchr(folder, '/');
	strcpy(slash ? slash : folder, slash ? "" : ".");
	if (!rc && (dir = open(folder[0] ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		rc = err_errno(e, errno, "could not open the folder '%.300s'", folder);
	slash = strrchr(o->path, '/');
	o->package = (struct ovf_package){ o->path, slash ? slash + 1 : o->path, text, dir };
	if (!rc)
		rc = make_machine(o, folder, root, e);
	if (dir >= 0)
		close(dir);
	free(text);
	return rc;
}

int appliance_import_ovf(const char *path, const char *name, uint64_t max_size, struct err *e)
{
	const size_t n = strlen(path);
	struct ovf o = { .path = path };
	json_t *root = NULL;
	int rc = install_begin(&o.install, name, max_size, e);

	if (!rc)
		rc = !strcasecmp(path + n - 4, ".ova") ? from_ova(&o, &root, e) : from_ovf(&o, &root, e);
	rc = install_end(&o.install, root, rc, e);
	json_decref(root);
	ovf_free(&o);
	if (!rc)
		command_note("'%s' has the disks, memory and processors of '%s'; what it boots with is to "
			     "be named: vireo edit %s", name, path, name);
	return rc;
}
