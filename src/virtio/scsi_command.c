// SPDX-License-Identifier: Apache-2.0
/*
 * What SCSI commands mean to a disk: a command's bytes become an answer or an operation on a
 * block back end.
 *
 * Source: SCSI Primary Commands (SPC-4) and SCSI Block Commands (SBC-3), "Commands for direct
 * access block devices".  Not modelled: MODE SELECT, reservations, protection information,
 * unit attentions (a change of size is an event of the adapter's), WRITE SAME of anything but
 * zeros, VERIFY that compares.
 */
#include "virtio/scsi_priv.h"

#include <string.h>

#define WRITE_SAME_MAX	(4U << 20)	/* blocks: 2 GiB */
#define UNMAP_BLOCKS_MAX (4U << 20)

static uint32_t be16_at(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t be32_at(const uint8_t *p)
{
	return be16_at(p) << 16 | be16_at(p + 2);
}

static uint64_t be64_at(const uint8_t *p)
{
	return (uint64_t)be32_at(p) << 32 | be32_at(p + 4);
}

static void put_be(uint8_t *p, uint64_t v, unsigned int bytes)
{
	while (bytes--) {
		p[bytes] = v;
		v >>= 8;
	}
}

void scsi_refuse(struct scsi_action *a, uint8_t key, uint16_t code)
{
	a->what = SCSI_ANSWER;
	a->status = SCSI_CHECK_CONDITION;
	a->answer_len = 0;
	memset(a->sense, 0, sizeof(a->sense));
	a->sense[0] = 0x70;		/* current, fixed format */
	a->sense[2] = key;
	a->sense[7] = SCSI_SENSE_SIZE - 8;
	put_be(a->sense + 12, code, 2);
}

static void invalid_field(struct scsi_action *a)
{
	scsi_refuse(a, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD);
}

/* The answer has @len bytes, of which the initiator has room for @room. */
static void answer(struct scsi_action *a, size_t len, size_t room)
{
	a->answer_len = MIN(len, room);
}

/* --- INQUIRY --- */

static size_t vpd_unit_serial(uint8_t *p, const struct block_info *disk)
{
	const size_t n = strnlen(disk->serial, sizeof(disk->serial));

	memcpy(p + 4, disk->serial, n);
	return n;
}

/* A designator by vendor, of ASCII: what udev makes names of. */
static size_t vpd_identification(uint8_t *p, const struct block_info *disk)
{
	const size_t n = strnlen(disk->serial, sizeof(disk->serial));

	if (!n)
		return 0;
	p[4] = 2;
	p[5] = 1;
	p[7] = 8 + n;
	memcpy(p + 8, "VIREO   ", 8);
	memcpy(p + 16, disk->serial, n);
	return 12 + n;
}

static size_t vpd_block_limits(uint8_t *p, const struct block_info *disk)
{
	p[4] = 1;				/* WSNZ: a length of 0 is not "to the end" */
	put_be(p + 6, MAX(disk->cluster, 4096U) / SCSI_SECTOR, 2);
	put_be(p + 12, disk->cluster > 4096 ? disk->cluster / SCSI_SECTOR : 0, 4);
	if (disk->can_discard && !disk->read_only) {
		put_be(p + 20, UNMAP_BLOCKS_MAX, 4);
		put_be(p + 24, SCSI_UNMAP_MAX, 4);
		put_be(p + 28, MAX(disk->cluster, SCSI_SECTOR) / SCSI_SECTOR, 4);
	}
	put_be(p + 36, WRITE_SAME_MAX, 8);
	return 0x3c;
}

static size_t vpd_characteristics(uint8_t *p, const struct block_info *disk)
{
	(void)disk;
	put_be(p + 4, 1, 2);			/* it does not rotate */
	return 0x3c;
}

static size_t vpd_provisioning(uint8_t *p, const struct block_info *disk)
{
	if (disk->can_discard && !disk->read_only) {
		p[5] = 0xe0;			/* UNMAP and both WRITE SAME may unmap */
		p[6] = 2;			/* thin */
	}
	return 4;
}

static const struct {
	uint8_t page;
	size_t (*fill)(uint8_t *p, const struct block_info *disk);	/* the bytes behind the header */
} vpd_pages[] = {
	{ 0x80, vpd_unit_serial },
	{ 0x83, vpd_identification },
	{ 0xb0, vpd_block_limits },
	{ 0xb1, vpd_characteristics },
	{ 0xb2, vpd_provisioning },
};

static void inquiry_vpd(struct scsi_action *a, const struct block_info *disk, uint8_t page,
			size_t room)
{
	uint8_t *p = a->answer;
	size_t n = 0;

	p[1] = page;
	if (page == 0) {
		p[4] = 0;
		for (n = 0; n < ARRAY_SIZE(vpd_pages); n++)
			p[5 + n] = vpd_pages[n].page;
		n++;
	}
	for (size_t i = 0; i < ARRAY_SIZE(vpd_pages) && page; i++)
		if (vpd_pages[i].page == page)
			n = vpd_pages[i].fill(p, disk);
		else if (i + 1 == ARRAY_SIZE(vpd_pages) && !n && page != 0x80 && page != 0x83)
			invalid_field(a);
	if (a->status)
		return;
	put_be(p + 2, n, 2);
	answer(a, 4 + n, room);
}

static void inquiry(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb)
{
	const size_t room = be16_at(cdb + 3);
	uint8_t *p = a->answer;

	if (disk && cdb[1] & 1) {
		inquiry_vpd(a, disk, cdb[2], room);
		return;
	}
	if (cdb[2] || cdb[1] & 1) {
		invalid_field(a);
		return;
	}
	p[0] = disk ? 0 : 0x7f;			/* a disk; nothing, nor could there be */
	p[2] = 6;				/* SPC-4 */
	p[3] = 0x12;				/* HISUP, the only format of answers */
	p[4] = 36 - 5;
	p[7] = 2;				/* CMDQUE */
	memcpy(p + 8, "VIREO   VIREO HARDDISK  1   ", 28);
	answer(a, 36, room);
}

/* --- what the disk is --- */

static void read_capacity(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb)
{
	const uint64_t last = disk->size / SCSI_SECTOR - 1;
	uint8_t *p = a->answer;

	if (!disk->size) {
		scsi_refuse(a, SENSE_NOT_READY, ASC_NO_MEDIUM);
		return;
	}
	if (cdb[0] == 0x25) {
		put_be(p, MIN(last, (uint64_t)UINT32_MAX), 4);
		put_be(p + 4, SCSI_SECTOR, 4);
		answer(a, 8, 8);
		return;
	}
	put_be(p, last, 8);
	put_be(p + 8, SCSI_SECTOR, 4);
	p[13] = 3;				/* 4 KiB a physical block */
	p[14] = disk->can_discard && !disk->read_only ? 0x80 : 0;
	answer(a, 32, be32_at(cdb + 10));
}

static size_t mode_page(uint8_t *p, uint8_t page)
{
	switch (page) {
	case 0x08:				/* caching: there is a cache for writes */
		p[0] = 0x08;
		p[1] = 0x12;
		p[2] = 0x04;
		return 0x14;
	case 0x0a:				/* control: commands may change places */
		p[0] = 0x0a;
		p[1] = 0x0a;
		p[3] = 0x10;
		return 0x0c;
	default:
		return 0;
	}
}

static void mode_sense(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb)
{
	const bool ten = cdb[0] == 0x5a;
	const uint8_t page = cdb[2] & 0x3f, control = cdb[2] >> 6;
	const size_t head = ten ? 8 : 4, room = ten ? be16_at(cdb + 7) : cdb[4];
	uint8_t *p = a->answer;
	size_t n = head;

	/* Of no field a driver may change (1) or keep (3) the value. */
	if (control & 1 || (cdb[3] && cdb[3] != 0xff)) {
		invalid_field(a);
		return;
	}
	if (!(cdb[1] & 8)) {			/* a block descriptor */
		put_be(p + n, MIN(disk->size / SCSI_SECTOR, 0xffffffULL), 4);
		put_be(p + n + 4, SCSI_SECTOR, 4);
		n += 8;
		p[head - 1] = 8;
	}
	if (page == 0x3f) {
		n += mode_page(p + n, 0x08);
		n += mode_page(p + n, 0x0a);
	} else if (page) {
		const size_t more = mode_page(p + n, page);

		if (!more) {
			invalid_field(a);
			return;
		}
		n += more;
	}
	p[ten ? 3 : 2] = (disk->read_only ? 0x80 : 0) | 0x10;	/* WP, DPOFUA */
	put_be(p, n - (ten ? 2 : 1), ten ? 2 : 1);
	answer(a, n, room);
}

static void report_luns(struct scsi_action *a, const uint8_t *cdb)
{
	put_be(a->answer, 8, 4);
	answer(a, 16, be32_at(cdb + 6));
}

static void request_sense(struct scsi_action *a, const uint8_t *cdb)
{
	const bool descriptors = cdb[1] & 1;

	a->answer[0] = descriptors ? 0x72 : 0x70;
	if (!descriptors)
		a->answer[7] = SCSI_SENSE_SIZE - 8;
	answer(a, descriptors ? 8 : SCSI_SENSE_SIZE, cdb[4]);
}

/* --- reads and writes --- */

/* True: the blocks are on the disk, a->offset and a->len say where. */
static bool set_range(struct scsi_action *a, const struct block_info *disk, uint64_t lba,
		      uint64_t count)
{
	const uint64_t blocks = disk->size / SCSI_SECTOR;

	if (lba > blocks || count > blocks - lba) {
		scsi_refuse(a, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
		return false;
	}
	a->offset = lba * SCSI_SECTOR;
	a->len = count * SCSI_SECTOR;
	return true;
}

/* By the command's group: its length is in the three upper bits. */
static void blocks_of(const uint8_t *cdb, uint64_t *lba, uint64_t *count)
{
	switch (cdb[0] >> 5) {
	case 0:
		*lba = be32_at(cdb) & 0x1fffff;
		*count = cdb[4] ? cdb[4] : 256;
		break;
	case 1: case 2:
		*lba = be32_at(cdb + 2);
		*count = be16_at(cdb + 7);
		break;
	case 5:
		*lba = be32_at(cdb + 2);
		*count = be32_at(cdb + 6);
		break;
	default:
		*lba = be64_at(cdb + 2);
		*count = be32_at(cdb + 10);
	}
}

static bool may_write(struct scsi_action *a, const struct block_info *disk)
{
	if (disk->read_only)
		scsi_refuse(a, SENSE_DATA_PROTECT, ASC_WRITE_PROTECTED);
	return !disk->read_only;
}

static void transfer(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb,
		     enum scsi_what what)
{
	uint64_t lba, count;

	if (cdb[0] >> 5 && cdb[1] & 0xe0) {	/* protection information */
		invalid_field(a);
		return;
	}
	if (what == SCSI_WRITE && !may_write(a, disk))
		return;
	blocks_of(cdb, &lba, &count);
	if (!set_range(a, disk, lba, count))
		return;
	a->what = what;
	a->through = what == SCSI_WRITE && cdb[0] >> 5 && cdb[1] & 0x08;
}

/* Nothing is compared: that the blocks are there is all that is looked at. */
static void verify(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb)
{
	uint64_t lba, count;

	if (cdb[1] & 0xe6) {
		invalid_field(a);
		return;
	}
	blocks_of(cdb, &lba, &count);
	set_range(a, disk, lba, count);
}

static void write_same(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb,
		       const uint8_t *param, size_t param_len)
{
	const bool no_data = cdb[0] == 0x93 && cdb[1] & 1;
	uint64_t lba, count;

	blocks_of(cdb, &lba, &count);
	if (cdb[1] & 0xe6 || !count || count > WRITE_SAME_MAX) {
		invalid_field(a);
		return;
	}
	if (!no_data && param_len < SCSI_SECTOR) {
		invalid_field(a);
		return;
	}
	for (size_t i = 0; i < SCSI_SECTOR && !no_data; i++)
		if (param[i]) {
			invalid_field(a);
			return;
		}
	if (!may_write(a, disk) || !set_range(a, disk, lba, count))
		return;
	a->what = SCSI_ZERO;
	a->unmap = cdb[1] & 8;
}

static void unmap(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb,
		  const uint8_t *param, size_t param_len)
{
	const size_t len = be16_at(cdb + 7);
	size_t n;

	if (cdb[1] & 1) {			/* ANCHOR */
		invalid_field(a);
		return;
	}
	if (!len || !may_write(a, disk))
		return;
	if (len < 8 || param_len < 8 || len > param_len) {
		scsi_refuse(a, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LENGTH);
		return;
	}
	n = MIN(be16_at(param + 2), len - 8) / 16;
	if (n > SCSI_UNMAP_MAX) {
		scsi_refuse(a, SENSE_ILLEGAL_REQUEST, ASC_INVALID_PARAMETER);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const uint8_t *d = param + 8 + 16 * i;

		if (!set_range(a, disk, be64_at(d), be32_at(d + 8)))
			return;
		if (a->len)
			a->piece[a->pieces++] = (struct scsi_piece){ a->offset, a->len };
	}
	if (a->pieces)
		a->what = SCSI_UNMAP;
}

/* --- the table --- */

size_t scsi_parameters(const uint8_t *cdb)
{
	switch (cdb[0]) {
	case 0x41: case 0x93:
		return SCSI_SECTOR;
	case 0x42:
		return MIN(be16_at(cdb + 7), SCSI_PARAMETERS_MAX);
	default:
		return 0;
	}
}

static void command(struct scsi_action *a, const struct block_info *disk, const uint8_t *cdb,
		    const uint8_t *param, size_t param_len)
{
	switch (cdb[0]) {
	case 0x00:				/* TEST UNIT READY */
	case 0x1b:				/* START STOP UNIT */
	case 0x1e:				/* PREVENT ALLOW MEDIUM REMOVAL */
		break;
	case 0x08: case 0x28: case 0x88: case 0xa8:
		transfer(a, disk, cdb, SCSI_READ);
		break;
	case 0x0a: case 0x2a: case 0x8a: case 0xaa:
		transfer(a, disk, cdb, SCSI_WRITE);
		break;
	case 0x1a: case 0x5a:
		mode_sense(a, disk, cdb);
		break;
	case 0x25:
		read_capacity(a, disk, cdb);
		break;
	case 0x2f: case 0x8f:
		verify(a, disk, cdb);
		break;
	case 0x35: case 0x91:			/* SYNCHRONIZE CACHE */
		a->what = SCSI_FLUSH;
		break;
	case 0x41: case 0x93:
		write_same(a, disk, cdb, param, param_len);
		break;
	case 0x42:
		unmap(a, disk, cdb, param, param_len);
		break;
	case 0x9e:				/* SERVICE ACTION IN: READ CAPACITY (16) */
		if ((cdb[1] & 0x1f) == 0x10) {
			read_capacity(a, disk, cdb);
			break;
		}
		invalid_field(a);
		break;
	default:
		scsi_refuse(a, SENSE_ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
	}
}

void scsi_command(struct scsi_action *a, const struct block_info *disk,
		  const uint8_t cdb[SCSI_CDB_SIZE], const uint8_t *param, size_t param_len)
{
	*a = (struct scsi_action){ .what = SCSI_ANSWER, .status = SCSI_GOOD };
	if (cdb[0] == 0x12)
		inquiry(a, disk, cdb);
	else if (cdb[0] == 0x03)
		request_sense(a, cdb);
	else if (cdb[0] == 0xa0)
		report_luns(a, cdb);
	else if (!disk)
		scsi_refuse(a, SENSE_ILLEGAL_REQUEST, ASC_NO_LOGICAL_UNIT);
	else
		command(a, disk, cdb, param, param_len);
}
