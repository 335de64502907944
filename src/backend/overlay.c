// SPDX-License-Identifier: Apache-2.0
/*
 * Throwaway overlays (snapshot=on): a qcow2 image in a temporary file that has no name, over an
 * image opened for reading.  Nothing of it outlives the process, so nothing waits for the disk.
 */
#include "backend/extents.h"
#include "backend/qcow2.h"

#include <stdlib.h>

int overlay_open(struct image **img, struct err *e)
{
	const struct qcow2_create c = { .size = (*img)->size };
	const struct image_open how = { .path = (*img)->path };
	struct image *file, *overlay;
	int rc;

	rc = raw_temporary(&file, 0, e);
	if (rc)
		return rc;
	raw_never_sync(file);
	rc = qcow2_create(file, &c, e);
	if (!rc)
		rc = qcow2_open_over(&overlay, file, *img, &how, e);
	if (rc) {
		image_close(file);
		return rc;
	}
	*img = overlay;
	return 0;
}
