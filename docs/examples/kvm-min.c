// SPDX-License-Identifier: Apache-2.0
/*
 * The smallest monitor: a virtual machine with one processor and one page of memory that
 * runs eight instructions in real mode and prints what they send to a port.
 *
 *	cc -Wall -Wextra -o kvm-min docs/examples/kvm-min.c && ./kvm-min
 *
 * What it shows is the shape of every monitor on KVM, Vireo's src/engine/kvm too: memory and
 * registers are prepared, then KVM_RUN executes the guest until it does something that the
 * processor cannot do alone, and kvm_run says what that is.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MEMORY		0x1000
#define GUEST_ADDRESS	0x1000		/* of that memory, as the guest sees it */
#define CONSOLE		0x3f8

/* Prints the string behind it, character by character, and halts. */
static const uint8_t guest[] = {
	0xba, 0xf8, 0x03,	/*	mov  dx, 3f8h		*/
	0xbe, 0x10, 0x10,	/*	mov  si, 1010h		*/
	0xac,			/* next: lodsb			*/
	0x84, 0xc0,		/*	test al, al		*/
	0x74, 0x03,		/*	jz   end		*/
	0xee,			/*	out  dx, al		*/
	0xeb, 0xf8,		/*	jmp  next		*/
	0xf4,			/* end:	hlt			*/
	0x90,
	'H', 'e', 'l', 'l', 'o', ',', ' ', 'K', 'V', 'M', '\n', 0,
};

static int request(int fd, unsigned long what, const char *name, void *arg)
{
	int rc = ioctl(fd, what, arg);

	if (rc < 0)
		err(1, "%s", name);
	return rc;
}
#define REQUEST(fd, what, arg) request(fd, what, #what, arg)

/* Memory of this process becomes the guest's: slot 0. */
static void give_memory(int vm)
{
	void *p = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = GUEST_ADDRESS, .memory_size = MEMORY,
		.userspace_addr = (uintptr_t)p,
	};

	if (p == MAP_FAILED)
		err(1, "mmap");
	memcpy(p, guest, sizeof(guest));
	REQUEST(vm, KVM_SET_USER_MEMORY_REGION, &slot);
}

/* A processor begins at fffffff0h, where firmware would be; this one begins at our code. */
static void set_registers(int vcpu)
{
	struct kvm_regs regs = { .rip = GUEST_ADDRESS, .rflags = 2 /* always set */ };
	struct kvm_sregs sregs;

	REQUEST(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.selector = 0;
	sregs.cs.base = 0;
	REQUEST(vcpu, KVM_SET_SREGS, &sregs);
	REQUEST(vcpu, KVM_SET_REGS, &regs);
}

static void do_port(struct kvm_run *run)
{
	const uint8_t *data = (uint8_t *)run + run->io.data_offset;

	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.port != CONSOLE)
		errx(1, "the guest used port %x", run->io.port);
	for (uint32_t i = 0; i < run->io.count; i++)
		putchar(data[i * run->io.size]);
}

int main(void)
{
	const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm, vcpu, size;
	struct kvm_run *run;

	if (kvm < 0)
		err(1, "/dev/kvm");
	if (REQUEST(kvm, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION)
		errx(1, "another version of KVM's interface");
	vm = REQUEST(kvm, KVM_CREATE_VM, NULL);
	give_memory(vm);
	vcpu = REQUEST(vm, KVM_CREATE_VCPU, NULL);	/* number 0 */
	size = REQUEST(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "mmap of the vCPU");
	set_registers(vcpu);

	for (;;) {
		REQUEST(vcpu, KVM_RUN, NULL);
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			do_port(run);
			break;
		case KVM_EXIT_HLT:
			return 0;
		default:	/* memory that is not there, a shutdown, KVM's own failure */
			errx(1, "exit reason %u", run->exit_reason);
		}
	}
}
