// SPDX-License-Identifier: Apache-2.0
/* The real system calls behind sys.h. */
#include "engine/kvm/sys.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int sys_open(const char *path)
{
	return open(path, O_RDWR | O_CLOEXEC);
}

static int sys_ioctl(int fd, unsigned long request, uintptr_t arg)
{
	return ioctl(fd, request, arg);
}

static void *sys_map(int fd, size_t size, uint64_t offset)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

const struct kvm_sys kvm_sys_linux = {
	.open = sys_open,
	.close = close,
	.ioctl = sys_ioctl,
	.map = sys_map,
	.unmap = munmap,
};
