/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the engine reaches KVM: the system calls it makes, so that a test can put a KVM of
 * its own behind them.
 */
#ifndef VIREO_ENGINE_KVM_SYS_H
#define VIREO_ENGINE_KVM_SYS_H

#include "base/types.h"

/* Each as the C library's: -1 (MAP_FAILED) and errno where it fails. */
struct kvm_sys {
	int (*open)(const char *path);
	int (*close)(int fd);
	/* @arg is a pointer or a number, as the request has it. */
	int (*ioctl)(int fd, unsigned long request, uintptr_t arg);
	void *(*map)(int fd, size_t size, uint64_t offset);	/* shared, read and write */
	int (*unmap)(void *at, size_t size);
};

extern const struct kvm_sys kvm_sys_linux;

#endif
