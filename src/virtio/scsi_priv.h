/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-scsi's parts: scsi.c (the adapter), scsi_command.c (what a disk's commands mean). */
#ifndef VIREO_VIRTIO_SCSI_PRIV_H
#define VIREO_VIRTIO_SCSI_PRIV_H

#include "backend/block.h"
#include "base/types.h"

#define SCSI_SECTOR		512U
#define SCSI_CDB_SIZE		32U
#define SCSI_ANSWER_MAX		256U
#define SCSI_SENSE_SIZE		18U
#define SCSI_UNMAP_MAX		64U	/* descriptors of one UNMAP */
#define SCSI_PARAMETERS_MAX	(8 + 16 * SCSI_UNMAP_MAX)

/* SAM's status codes. */
#define SCSI_GOOD		0x00
#define SCSI_CHECK_CONDITION	0x02

enum scsi_what {
	SCSI_ANSWER,		/* @answer is all there is to do */
	SCSI_READ, SCSI_WRITE,	/* of the data buffers */
	SCSI_FLUSH,
	SCSI_ZERO,		/* WRITE SAME of zeros */
	SCSI_UNMAP,		/* @pieces of them */
};

struct scsi_piece {
	uint64_t offset, len;	/* bytes */
};

/* What a command comes to. */
struct scsi_action {
	enum scsi_what what;
	uint8_t status;
	uint8_t sense[SCSI_SENSE_SIZE];	/* with SCSI_CHECK_CONDITION */
	uint8_t answer[SCSI_ANSWER_MAX];
	size_t answer_len;
	uint64_t offset, len;	/* bytes; inside of the disk */
	bool through;		/* to stable storage before it is done (FUA) */
	bool unmap;		/* SCSI_ZERO may give room back */
	unsigned int pieces;
	struct scsi_piece piece[SCSI_UNMAP_MAX];
};

/*
 * Looks at the command @cdb of @cdb_len bytes for a disk as @disk describes it (NULL: a logical
 * unit that is not there); @param is what came with it, of which the first bytes are enough.
 * Depends on nothing else and changes nothing else.
 */
void scsi_command(struct scsi_action *a, const struct block_info *disk,
		  const uint8_t cdb[SCSI_CDB_SIZE], const uint8_t *param, size_t param_len);
/* How much of the data that comes with @cdb scsi_command() wants to see. */
size_t scsi_parameters(const uint8_t *cdb);
/* CHECK CONDITION with this sense key, additional code and qualifier (@code: both). */
void scsi_refuse(struct scsi_action *a, uint8_t key, uint16_t code);

#define SENSE_NOT_READY		0x2
#define SENSE_MEDIUM_ERROR	0x3
#define SENSE_ILLEGAL_REQUEST	0x5
#define SENSE_DATA_PROTECT	0x7
#define SENSE_ABORTED_COMMAND	0xb

#define ASC_WRITE_ERROR		0x0c00
#define ASC_READ_ERROR		0x1100
#define ASC_PARAMETER_LENGTH	0x1a00
#define ASC_INVALID_OPCODE	0x2000
#define ASC_LBA_OUT_OF_RANGE	0x2100
#define ASC_INVALID_FIELD	0x2400
#define ASC_NO_LOGICAL_UNIT	0x2500
#define ASC_INVALID_PARAMETER	0x2600
#define ASC_WRITE_PROTECTED	0x2700
#define ASC_SPACE_ALLOCATION	0x2707
#define ASC_NO_MEDIUM		0x3a00

#endif
