// SPDX-License-Identifier: Apache-2.0
/* Which loader takes an image; see boot.h. */
#include "boot/boot_priv.h"

#include <errno.h>
#include <stdlib.h>

static int plan_elf(struct boot_plan *p, const struct boot_request *rq, struct err *e)
{
	struct elf_image img;
	int rc;

	rc = elf_parse(&img, &rq->kernel, e);
	if (rc)
		return rc;
	if (img.has_pvh)
		return pvh_plan(p, rq, &img, e);
	if (img.is64)
		return linux_plan_elf(p, rq, &img, e);
	return err_set(e, ENOEXEC, "'%s' is a 32-bit ELF file with neither a PVH note nor a "
		       "Multiboot header", rq->kernel.name);
}

static int plan_any(struct boot_plan *p, const struct boot_request *rq, struct err *e)
{
	const struct boot_file *f = &rq->kernel;

	if (linux_detect(f))
		return linux_plan(p, rq, e);
	/* Before PVH: kernels that carry both mean Multiboot for a PC like this one. */
	if (multiboot1_detect(f))
		return multiboot1_plan(p, rq, e);
	if (elf_magic(f))
		return plan_elf(p, rq, e);
	return err_set(e, ENOEXEC, "'%s' is not a kernel that can be booted: no bzImage, no ELF, "
		       "no Multiboot header", f->name);
}

/* What the plan has of @f is read from the file when it is carried out. */
static void plan_refer(struct boot_plan *p, const struct boot_file *f)
{
	for (unsigned int i = 0; f->open && i < p->piece_count; i++) {
		struct boot_piece *q = &p->piece[i];

		if (!q->data_size || q->data < f->data || q->data >= f->data + f->size)
			continue;
		q->from = (struct boot_source){ f->name, f->fd, q->data - f->data };
		q->data = NULL;
	}
}

int boot_prepare(struct boot_plan **out, const struct boot_request *rq, struct err *e)
{
	struct boot_plan *p;
	int rc;

	*out = NULL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_errno(e, ENOMEM, "could not plan the boot");
	p->map = *rq->map;
	rc = plan_any(p, rq, e);
	if (rc) {
		boot_plan_free(p);
		return rc;
	}
	plan_refer(p, &rq->kernel);
	*out = p;
	return 0;
}

void boot_plan_free(struct boot_plan *p)
{
	if (!p)
		return;
	for (unsigned int i = 0; i < p->piece_count; i++)
		free(p->piece[i].owned);
	free(p);
}

const char *boot_plan_format(const struct boot_plan *p)
{
	return p->format;
}
