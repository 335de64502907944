// SPDX-License-Identifier: Apache-2.0
/*
 * Firmware configuration device with the port and the DMA interface.
 *
 * Source: QEMU documentation, "QEMU Firmware Configuration (fw_cfg) Device".
 * Not modelled: items that the guest may write.
 */
#include "dev/fw_cfg.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEY_SIGNATURE	0x0000
#define KEY_ID		0x0001
#define KEY_FILE_DIR	0x0019
#define KEY_FIRST_FILE	0x0020
#define ID_TRADITIONAL	0x1
#define ID_DMA		0x2
#define DMA_SIGNATURE	0x51454d5520434647ULL	/* "QEMU CFG" */

#define DMA_ERROR	0x01U
#define DMA_READ	0x02U
#define DMA_SKIP	0x04U
#define DMA_SELECT	0x08U
#define DMA_WRITE	0x10U

#define PORT_SELECTOR	0
#define PORT_DATA	1
#define PORT_DMA	4
#define ITEMS_MAX	64
#define FILES_MAX	48

struct item {
	uint16_t key;
	uint32_t size;
	uint8_t *data;
};

/* As the directory's reader sees it, big-endian. */
struct file_entry {
	uint32_t size;
	uint16_t key;
	uint16_t reserved;
	char name[FW_CFG_NAME_SIZE];
} __attribute__((packed));

struct file_dir {
	uint32_t count;
	struct file_entry file[FILES_MAX];
} __attribute__((packed));

/* What a DMA request in guest memory says, big-endian there. */
struct dma_request {
	uint32_t control;
	uint32_t length;
	uint64_t address;
};

/* (i) constant once the machine runs; everything else under lock */
struct fw_cfg {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	uint16_t base;			/* (i) */
	struct item item[ITEMS_MAX];	/* (i) */
	unsigned int item_count;	/* (i) */
	struct file_dir dir;		/* (i) */
	unsigned int file_count;	/* (i) */
	uint16_t key;			/* selected */
	uint32_t at;			/* next byte of the selected item */
	uint32_t dma_high;		/* first half of a request's address */
};

static struct fw_cfg *to_fw(struct device *d)
{
	return container_of(d, struct fw_cfg, dev);
}

static const struct item *find_item(const struct fw_cfg *f, uint16_t key)
{
	for (unsigned int i = 0; i < f->item_count; i++)
		if (f->item[i].key == key)
			return &f->item[i];
	return NULL;
}

static void select_item(struct fw_cfg *f, uint16_t key)
{
	f->key = key;
	f->at = 0;
}

/* Copies the next @len bytes of the selected item; behind its end are zeros. */
static void read_item(struct fw_cfg *f, uint8_t *buf, uint32_t len)
{
	const struct item *it = find_item(f, f->key);
	uint32_t have = it && f->at < it->size ? MIN(len, it->size - f->at) : 0;

	if (have)
		memcpy(buf, it->data + f->at, have);
	memset(buf + have, 0, len - have);
	f->at = f->at + len < f->at ? UINT32_MAX : f->at + len;
}

/* --- DMA --- */

static bool dma_read(struct fw_cfg *f, gpa_t to, uint32_t len)
{
	uint8_t piece[GUEST_PAGE_SIZE];
	uint32_t n;

	for (; len; len -= n, to += n) {
		n = MIN(len, sizeof(piece));
		read_item(f, piece, n);
		if (gpa_write(f->space, to, piece, n) != MEM_OK)
			return false;
	}
	return true;
}

static void dma_run(struct fw_cfg *f, gpa_t at)
{
	struct dma_request rq;
	uint32_t control, status = 0;

	if (gpa_read(f->space, at, &rq, sizeof(rq)) != MEM_OK)
		return;
	control = be32toh(rq.control);
	if (control & DMA_SELECT)
		select_item(f, control >> 16);
	if (control & DMA_READ) {
		if (!dma_read(f, be64toh(rq.address), be32toh(rq.length)))
			status = DMA_ERROR;
	} else if (control & DMA_WRITE) {
		status = DMA_ERROR;
	} else if (control & DMA_SKIP) {
		rq.length = be32toh(rq.length);
		f->at = f->at + rq.length < f->at ? UINT32_MAX : f->at + rq.length;
	}
	status = htobe32(status);
	gpa_write(f->space, at, &status, sizeof(status));
}

static void dma_write_register(struct fw_cfg *f, uint64_t off, unsigned int size,
			       uint64_t value)
{
	if (size == 4 && off == PORT_DMA) {
		f->dma_high = be32toh(value);
	} else if (size == 4 && off == PORT_DMA + 4) {
		gpa_t at = (gpa_t)f->dma_high << 32 | be32toh(value);

		f->dma_high = 0;
		dma_run(f, at);
	}
}

/* --- ports --- */

static uint64_t fw_read(void *dev, uint64_t off, unsigned int size)
{
	struct fw_cfg *f = dev;
	uint64_t value = UINT64_MAX;
	uint8_t buf[8] = { 0 };

	pthread_mutex_lock(&f->lock);
	if (off == PORT_DATA && size == 1) {
		read_item(f, buf, 1);
		value = buf[0];
	} else if (off >= PORT_DMA) {
		value = htobe64(DMA_SIGNATURE) >> (8 * (off - PORT_DMA));
	}
	pthread_mutex_unlock(&f->lock);
	return value;
}

static void fw_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct fw_cfg *f = dev;

	pthread_mutex_lock(&f->lock);
	if (off == PORT_SELECTOR && size == 2)
		select_item(f, value);
	else if (off >= PORT_DMA)
		dma_write_register(f, off, size, value);
	pthread_mutex_unlock(&f->lock);
}

static const struct io_ops fw_io = { .read = fw_read, .write = fw_write };

/* --- contents --- */

int fw_cfg_add_item(struct device *fw, uint16_t key, const void *data, uint32_t size,
		    struct err *e)
{
	struct fw_cfg *f = to_fw(fw);
	struct item *it = &f->item[f->item_count];
	uint8_t *copy;

	if (find_item(f, key))
		return err_set(e, EEXIST, "fw_cfg has an item %#x already", key);
	if (f->item_count == ITEMS_MAX)
		return err_set(e, ENOSPC, "fw_cfg has at most %d items", ITEMS_MAX);
	copy = malloc(MAX(size, 1U));
	if (!copy)
		return err_set(e, ENOMEM, "out of memory for fw_cfg");
	if (size)
		memcpy(copy, data, size);
	*it = (struct item){ .key = key, .size = size, .data = copy };
	f->item_count++;
	return 0;
}

/* The directory item is a copy: made anew whenever a file comes. */
static void refresh_dir(struct fw_cfg *f)
{
	struct item *it = (struct item *)find_item(f, KEY_FILE_DIR);

	f->dir.count = htobe32(f->file_count);
	it->size = sizeof(f->dir.count) + f->file_count * sizeof(struct file_entry);
	memcpy(it->data, &f->dir, it->size);
}

int fw_cfg_add_file(struct device *fw, const char *name, const void *data, uint32_t size,
		    struct err *e)
{
	struct fw_cfg *f = to_fw(fw);
	struct file_entry *entry = &f->dir.file[f->file_count];
	uint16_t key = KEY_FIRST_FILE + f->file_count;
	int rc;

	if (strlen(name) >= FW_CFG_NAME_SIZE)
		return err_set(e, ENAMETOOLONG, "fw_cfg file name %s has more than %d characters",
			       name, FW_CFG_NAME_SIZE - 1);
	if (f->file_count == FILES_MAX)
		return err_set(e, ENOSPC, "fw_cfg has at most %d files", FILES_MAX);
	for (unsigned int i = 0; i < f->file_count; i++)
		if (!strcmp(f->dir.file[i].name, name))
			return err_set(e, EEXIST, "fw_cfg has a file %s already", name);
	rc = fw_cfg_add_item(fw, key, data, size, e);
	if (rc)
		return rc;
	entry->size = htobe32(size);
	entry->key = htobe16(key);
	strcpy(entry->name, name);
	f->file_count++;
	refresh_dir(f);
	return 0;
}

static int add_fixed_items(struct fw_cfg *f, struct err *e)
{
	uint32_t id = htole32(ID_TRADITIONAL | ID_DMA);
	int rc;

	rc = fw_cfg_add_item(&f->dev, KEY_SIGNATURE, "QEMU", 4, e);
	if (!rc)
		rc = fw_cfg_add_item(&f->dev, KEY_ID, &id, sizeof(id), e);
	if (!rc)
		rc = fw_cfg_add_item(&f->dev, KEY_FILE_DIR, &f->dir, sizeof(f->dir), e);
	if (!rc)
		refresh_dir(f);
	return rc;
}

/* --- as a device --- */

static void fw_reset(struct device *d)
{
	struct fw_cfg *f = to_fw(d);

	pthread_mutex_lock(&f->lock);
	select_item(f, KEY_SIGNATURE);
	f->dma_high = 0;
	pthread_mutex_unlock(&f->lock);
}

static void fw_free(struct fw_cfg *f)
{
	for (unsigned int i = 0; i < f->item_count; i++)
		free(f->item[i].data);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static void fw_destroy(struct device *d)
{
	struct fw_cfg *f = to_fw(d);

	gpa_space_remove_pio(f->space, f->base);
	fw_free(f);
}

static const struct state_field fw_fields[] = {
	STATE_FIELD(struct fw_cfg, key, 0xffff),
	STATE_FIELD(struct fw_cfg, at, UINT32_MAX),
	STATE_FIELD(struct fw_cfg, dma_high, UINT32_MAX),
};

static const struct device_ops fw_ops = {
	.model = "fw_cfg",
	.version = 1,
	.reset = fw_reset,
	.destroy = fw_destroy,
	.fields = fw_fields,
	.field_count = ARRAY_SIZE(fw_fields),
};

int fw_cfg_create(struct device **out, struct gpa_space *s, uint16_t base, struct err *e)
{
	struct fw_cfg *f = calloc(1, sizeof(*f));
	struct io_region region = { "fw_cfg", base, 12, &fw_io, f };
	int rc;

	if (!f)
		return err_set(e, ENOMEM, "out of memory for fw_cfg");
	f->dev.ops = &fw_ops;
	f->space = s;
	f->base = base;
	pthread_mutex_init(&f->lock, NULL);
	rc = add_fixed_items(f, e);
	if (!rc)
		rc = gpa_space_add_pio(s, &region, e);
	if (rc) {
		fw_free(f);
		return rc;
	}
	*out = &f->dev;
	return 0;
}
