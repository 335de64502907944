/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware configuration device: named blobs that firmware and kernels fetch.
 */
#ifndef VIREO_DEV_FW_CFG_H
#define VIREO_DEV_FW_CFG_H

#include "dev/device.h"

#define FW_CFG_RAM_SIZE		0x0003	/* le64 */
#define FW_CFG_NB_CPUS		0x0005	/* le16 */
#define FW_CFG_MAX_CPUS		0x000f	/* le16 */
#define FW_CFG_NAME_SIZE	56	/* with the NUL */

/* Ports @base (selector, data) and @base + 4 (DMA) in @s; DMA goes to @s's memory. */
int fw_cfg_create(struct device **out, struct gpa_space *s, uint16_t base, struct err *e);

/*
 * While the machine is built: adds an item under a fixed key, or a file; the contents are
 * copied.  -EEXIST, -ENOMEM, -ENOSPC, -ENAMETOOLONG.
 */
int fw_cfg_add_item(struct device *fw, uint16_t key, const void *data, uint32_t size,
		    struct err *e);
int fw_cfg_add_file(struct device *fw, const char *name, const void *data, uint32_t size,
		    struct err *e);

#endif
