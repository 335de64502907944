// SPDX-License-Identifier: Apache-2.0
/* `vireo run --vsock`. */
#include "mgmt/run_devices.h"
#include "virtio/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int parse_cid(uint32_t *cid, const char *text, struct err *e)
{
	char *end;
	unsigned long n;

	if (strncmp(text, "cid=", 4))
		return err_set(e, EINVAL, "--vsock knows no '%s': it takes cid=N", text);
	text += 4;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || n < VSOCK_CID_GUEST ||
	    n >= UINT32_MAX)
		return err_set(e, EINVAL, "'%s' is no CID of a guest: it is a number from %u", text,
			       VSOCK_CID_GUEST);
	*cid = n;
	return 0;
}

int run_add_vsock(struct vm *vm, const struct run_options *o, struct err *e)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 32], *rest = path;
	uint32_t cid = VSOCK_CID_GUEST;
	struct virtio_device *d;
	int rc = 0;

	if (!o->vsock)
		return 0;
	if (strlen(o->vsock) >= sizeof(path))
		return err_set(e, ENAMETOOLONG, "--vsock: the name of a socket has at most 96 bytes (a relative "
			       "one may do): %s", o->vsock);
	strcpy(path, o->vsock);
	strsep(&rest, ",");
	if (rest)
		rc = parse_cid(&cid, rest, e);
	if (!rc)
		rc = virtio_vsock_create(&d, vm_space(vm), vm_log(vm), cid, path, e);
	return rc ? rc : vm_add_virtio(vm, d, e);
}
