// SPDX-License-Identifier: Apache-2.0
/* Memory for generated code; see cache.h. */
#include "engine/soft/cache.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_ALIGN	16

int code_cache_init(struct code_cache *c, size_t size, struct err *e)
{
	int fd, rc = 0;

	*c = (struct code_cache){ .size = size };
	fd = memfd_create("vireo-code", MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "could not create the file behind the code cache");
	if (ftruncate(fd, size)) {
		rc = err_errno(e, errno, "could not make a code cache of %zu KiB", size >> 10);
		goto out;
	}
	c->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	c->rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (c->rw == MAP_FAILED || c->rx == MAP_FAILED) {
		rc = err_errno(e, errno, "could not map the code cache (does a security policy forbid executable memory?)");
		code_cache_destroy(c);
	}
out:
	close(fd);
	return rc;
}

void code_cache_destroy(struct code_cache *c)
{
	if (c->rw && c->rw != MAP_FAILED)
		munmap(c->rw, c->size);
	if (c->rx && c->rx != MAP_FAILED)
		munmap(c->rx, c->size);
	*c = (struct code_cache){ 0 };
}

void *code_cache_add(struct code_cache *c, const uint8_t *code, size_t len)
{
	uint8_t *at = c->rw + c->used;
	void *entry = c->rx + c->used;

	if (len > code_cache_room(c))
		return NULL;
	for (size_t i = 0; i < len; i++)
		at[i] = code[i];
	c->used = MIN(ALIGN_UP(c->used + len, CODE_ALIGN), c->size);
	return entry;
}
