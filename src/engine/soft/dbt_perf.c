// SPDX-License-Identifier: Apache-2.0
/*
 * Names of translated code for perf(1): /tmp/perf-PID.map, a line "ADDRESS SIZE NAME" for
 * each translation when it is made.  A name is where the guest's code is: "guest_" and the
 * address of the block, "user_" before it at CPL 3.
 *
 * Source: Linux's tools/perf/Documentation/jit-interface.txt.  Lines are never taken back:
 * where the code cache was emptied meanwhile, names of what was there before remain.
 */
#include "engine/soft/dbt_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

/* Others may write in /tmp too: the file is made new, and only this user reads it. */
int dbt_perf_open(FILE **f, struct err *e)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "could not make %s for --perf-map", path);
	*f = fdopen(fd, "w");
	if (!*f) {
		close(fd);
		return err_set(e, ENOMEM, "out of memory for the translator");
	}
	/* perf may read while the guest runs. */
	setvbuf(*f, NULL, _IOLBF, 0);
	return 0;
}

void dbt_perf_fixed(struct dbt *d)
{
	if (d->cfg.perf_map)
		fprintf(d->cfg.perf_map, "%" PRIxPTR " %" PRIxPTR " vireo_translator\n",
			(uintptr_t)d->rx, (uintptr_t)(d->first - d->rw));
}

/* The guest's SIMD state is not in the host's registers here. */
void dbt_perf_block(struct dbt *d, const struct tblock *b)
{
	if (!d->cfg.perf_map)
		return;
	fprintf(d->cfg.perf_map, "%" PRIxPTR " %zx %sguest_%" PRIx64 "\n", (uintptr_t)b->code,
		(size_t)b->code_len, b->mode & MODE_USER ? "user_" : "", b->gva);
}
