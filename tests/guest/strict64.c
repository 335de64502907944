// SPDX-License-Identifier: Apache-2.0
/*
 * Reserved bits of control registers and MSRs: what a processor refuses with #GP.  QEMU's
 * TCG lets most of this pass and comes to grief, so this image is not run there.
 * Source: Intel SDM volume 3, "Control Registers", and volume 2, "MOV", "WRMSR".
 */
#include "guest.h"
#include "paging.h"

KERNEL_ASM(bad_msr_read, "mov $0x12345678, %ecx; rdmsr")
KERNEL_ASM(bad_efer, "mov $0xc0000080, %ecx; rdmsr; or $2, %eax; wrmsr")
KERNEL_ASM(noncanonical_lstar, "mov $0xc0000082, %ecx; mov $0x80000000, %edx; wrmsr")
KERNEL_ASM(bad_cr0, "mov %cr0, %rax; and $~1, %eax; mov %rax, %cr0")
KERNEL_ASM(bad_cr0_wide, "mov %cr0, %rax; bts $40, %rax; mov %rax, %cr0")
KERNEL_ASM(bad_cr4, "mov %cr4, %rax; bts $31, %rax; mov %rax, %cr4")
KERNEL_ASM(bad_cr4_pae, "mov %cr4, %rax; btr $5, %rax; mov %rax, %cr4")
KERNEL_ASM(bad_cr3, "mov %cr3, %rax; bts $52, %rax; mov %rax, %cr3")
KERNEL_ASM(bad_cr4_pcide_with_pcid, "mov %cr3, %rdx; lea 1(%rdx), %rax; mov %rax, %cr3; mov %cr4, %rax; bts $17, %rax; mov %rax, %cr4")
KERNEL_ASM(bad_dr7, "mov %dr7, %rax; bts $40, %rax; mov %rax, %dr7")
KERNEL_ASM(bad_dr6, "mov %dr6, %rax; bts $40, %rax; mov %rax, %dr6")
KERNEL_ASM(bad_cr8, "mov $0x10, %eax; mov %rax, %cr8")
KERNEL_ASM(bad_pat, "mov $0x277, %ecx; mov $0x02, %eax; xor %edx, %edx; wrmsr")
KERNEL_ASM(bad_efer_lme, "mov $0xc0000080, %ecx; rdmsr; btr $8, %eax; wrmsr")
KERNEL_ASM(bad_cr0_nw, "mov %cr0, %rax; btr $30, %rax; bts $29, %rax; mov %rax, %cr0")
KERNEL_ASM(bad_apic_base, "mov $0x1b, %ecx; rdmsr; bts $9, %eax; wrmsr")
KERNEL_ASM(bad_sysenter_esp, "mov $0x175, %ecx; mov $0x80000000, %edx; wrmsr")
KERNEL_ASM(bad_fs_base, "mov $0xc0000100, %ecx; mov $0x80000000, %edx; wrmsr")
KERNEL_ASM(bad_cr4_upper, "mov %cr4, %rax; bts $40, %rax; mov %rax, %cr4")

static void test_system(void)
{
	check_trap(guest_try(bad_msr_read, NULL), GP, 0, "gp-rdmsr");
	check_trap(guest_try(bad_efer, NULL), GP, 0, "gp-efer-reserved");
	check_trap(guest_try(noncanonical_lstar, NULL), GP, 0, "gp-lstar-noncanonical");
	check_trap(guest_try(bad_cr0, NULL), GP, 0, "gp-cr0-pg-without-pe");
	check_trap(guest_try(bad_cr0_wide, NULL), GP, 0, "gp-cr0-wide");
	check_trap(guest_try(bad_cr4, NULL), GP, 0, "gp-cr4-reserved");
	check_trap(guest_try(bad_cr4_pae, NULL), GP, 0, "gp-cr4-pae-in-long-mode");
	check_trap(guest_try(bad_cr3, NULL), GP, 0, "gp-cr3-reserved");
	check_trap(guest_try(bad_cr4_upper, NULL), GP, 0, "gp-cr4-upper-half");
	check_trap(guest_try(bad_cr4_pcide_with_pcid, NULL), GP, 0, "gp-pcide-with-pcid");
	write_cr3(read_cr3() & ~0xfffUL);
	check_trap(guest_try(bad_dr7, NULL), GP, 0, "gp-dr7-upper-half");
	check_trap(guest_try(bad_dr6, NULL), GP, 0, "gp-dr6-upper-half");
	check_trap(guest_try(bad_cr8, NULL), GP, 0, "gp-cr8-reserved");
	check_trap(guest_try(bad_pat, NULL), GP, 0, "gp-pat-type");
	check_trap(guest_try(bad_efer_lme, NULL), GP, 0, "gp-efer-lme-with-paging");
	check_trap(guest_try(bad_cr0_nw, NULL), GP, 0, "gp-cr0-nw-without-cd");
	check_trap(guest_try(bad_apic_base, NULL), GP, 0, "gp-apic-base-reserved");
	check_trap(guest_try(bad_sysenter_esp, NULL), GP, 0, "gp-sysenter-esp-noncanonical");
	check_trap(guest_try(bad_fs_base, NULL), GP, 0, "gp-fs-base-noncanonical");
}

void guest_main(void)
{
	paging_init();
	test_system();
}
