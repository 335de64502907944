/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Register, flag, descriptor, exception and MSR constants under the manual's names.
 * Source: Intel SDM volume 3, "System Architecture Overview" and "Model-Specific
 * Registers"; AMD APM volume 2 for EFER and the SYSCALL MSRs.
 */
#ifndef VIREO_X86_REGS_H
#define VIREO_X86_REGS_H

#include "base/types.h"

enum { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
       REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

#define RFLAGS_CF	BIT(0)
#define RFLAGS_FIXED	BIT(1)
#define RFLAGS_PF	BIT(2)
#define RFLAGS_AF	BIT(4)
#define RFLAGS_ZF	BIT(6)
#define RFLAGS_SF	BIT(7)
#define RFLAGS_TF	BIT(8)
#define RFLAGS_IF	BIT(9)
#define RFLAGS_DF	BIT(10)
#define RFLAGS_OF	BIT(11)
#define RFLAGS_IOPL	(3ULL << 12)
#define RFLAGS_IOPL_SHIFT 12
#define RFLAGS_NT	BIT(14)
#define RFLAGS_RF	BIT(16)
#define RFLAGS_VM	BIT(17)
#define RFLAGS_AC	BIT(18)
#define RFLAGS_VIF	BIT(19)
#define RFLAGS_VIP	BIT(20)
#define RFLAGS_ID	BIT(21)
#define RFLAGS_ARITH	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define CR0_PE	BIT(0)
#define CR0_MP	BIT(1)
#define CR0_EM	BIT(2)
#define CR0_TS	BIT(3)
#define CR0_ET	BIT(4)
#define CR0_NE	BIT(5)
#define CR0_WP	BIT(16)
#define CR0_AM	BIT(18)
#define CR0_NW	BIT(29)
#define CR0_CD	BIT(30)
#define CR0_PG	BIT(31)

#define CR3_PCID	0xfffULL
#define CR3_ROOT	0x000ffffffffff000ULL	/* where the tables are */
#define CR3_NOFLUSH	BIT(63)

#define CR4_VME		BIT(0)
#define CR4_PVI		BIT(1)
#define CR4_TSD		BIT(2)
#define CR4_DE		BIT(3)
#define CR4_PSE		BIT(4)
#define CR4_PAE		BIT(5)
#define CR4_MCE		BIT(6)
#define CR4_PGE		BIT(7)
#define CR4_PCE		BIT(8)
#define CR4_OSFXSR	BIT(9)
#define CR4_OSXMMEXCPT	BIT(10)
#define CR4_UMIP	BIT(11)
#define CR4_LA57	BIT(12)
#define CR4_FSGSBASE	BIT(16)
#define CR4_PCIDE	BIT(17)
#define CR4_OSXSAVE	BIT(18)
#define CR4_SMEP	BIT(20)
#define CR4_SMAP	BIT(21)

#define EFER_SCE	BIT(0)
#define EFER_LME	BIT(8)
#define EFER_LMA	BIT(10)
#define EFER_NXE	BIT(11)

#define XCR0_X87	BIT(0)
#define XCR0_SSE	BIT(1)
#define XCR0_AVX	BIT(2)
#define XCR0_AVX512	(7ULL << 5)

#define DR6_FIXED	0xffff0ff0ULL
#define DR6_BD		BIT(13)
#define DR6_BS		BIT(14)
#define DR6_BT		BIT(15)
#define DR7_FIXED	0x400ULL
#define DR7_GD		BIT(13)

/* struct segment.attr: bits 40-55 of the descriptor */
#define SEG_TYPE	0x000fU
#define SEG_A		0x0001U	/* code and data: accessed */
#define SEG_W		0x0002U	/* data: writable; code: readable */
#define SEG_E		0x0004U	/* data: expand down; code: conforming */
#define SEG_CODE	0x0008U
#define SEG_S		0x0010U	/* code or data, not a system segment */
#define SEG_DPL_SHIFT	5
#define SEG_DPL(attr)	((attr) >> SEG_DPL_SHIFT & 3)
#define SEG_P		0x0080U
#define SEG_AVL		0x1000U
#define SEG_L		0x2000U
#define SEG_DB		0x4000U
#define SEG_G		0x8000U
#define SEG_UNUSABLE	0x0100U	/* ours: a null selector is loaded */

/* Exceptions (SDM volume 3, "Exception and Interrupt Reference") */
enum { EXC_DE, EXC_DB, EXC_NMI, EXC_BP, EXC_OF, EXC_BR, EXC_UD, EXC_NM, EXC_DF,
       EXC_TS = 10, EXC_NP, EXC_SS, EXC_GP, EXC_PF, EXC_MF = 16, EXC_AC, EXC_MC, EXC_XM };

#define PF_P	BIT(0)
#define PF_W	BIT(1)
#define PF_U	BIT(2)
#define PF_RSVD	BIT(3)
#define PF_I	BIT(4)

#define PTE_P	BIT(0)
#define PTE_W	BIT(1)
#define PTE_U	BIT(2)
#define PTE_PWT	BIT(3)
#define PTE_PCD	BIT(4)
#define PTE_A	BIT(5)
#define PTE_D	BIT(6)
#define PTE_PS	BIT(7)
#define PTE_G	BIT(8)
#define PTE_NX	BIT(63)

#define MSR_TSC			0x10
#define MSR_PLATFORM_ID		0x17
#define MSR_APIC_BASE		0x1b
#define MSR_EBL_CR_POWERON	0x2a
#define MSR_FEATURE_CONTROL	0x3a
#define MSR_TSC_ADJUST		0x3b
#define MSR_SPEC_CTRL		0x48
#define MSR_PRED_CMD		0x49
#define MSR_UCODE_REV		0x8b
#define MSR_PLATFORM_INFO	0xce
#define MSR_MTRRCAP		0xfe
#define MSR_ARCH_CAPABILITIES	0x10a
#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176
#define MSR_MCG_CAP		0x179
#define MSR_MCG_STATUS		0x17a
#define MSR_MISC_ENABLE		0x1a0
#define MSR_DEBUGCTL		0x1d9
#define MSR_MTRR_PHYSBASE0	0x200
#define MSR_MTRR_FIX64K_00000	0x250
#define MSR_MTRR_FIX16K_80000	0x258
#define MSR_MTRR_FIX16K_A0000	0x259
#define MSR_MTRR_FIX4K_C0000	0x268
#define MSR_PAT			0x277
#define MSR_MTRR_DEF_TYPE	0x2ff
#define MSR_TSC_DEADLINE	0x6e0
#define MSR_X2APIC_FIRST	0x800
#define MSR_X2APIC_LAST		0x8ff
#define MSR_XSS			0xda0
#define MSR_EFER		0xc0000080
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SFMASK		0xc0000084
#define MSR_FS_BASE		0xc0000100
#define MSR_GS_BASE		0xc0000101
#define MSR_KERNEL_GS_BASE	0xc0000102
#define MSR_TSC_AUX		0xc0000103

#define ARCH_CAP_RDCL_NO	BIT(0)
#define ARCH_CAP_IBRS_ALL	BIT(1)
#define ARCH_CAP_SKIP_L1DFL	BIT(3)
#define ARCH_CAP_SSB_NO		BIT(4)
#define ARCH_CAP_MDS_NO		BIT(5)
#define ARCH_CAP_PSCHANGE_NO	BIT(6)
#define ARCH_CAP_TAA_NO		BIT(8)
#define ARCH_CAP_SBDR_SSDP_NO	BIT(13)
#define ARCH_CAP_FBSDP_NO	BIT(14)
#define ARCH_CAP_PSDP_NO	BIT(15)
#define ARCH_CAP_BHI_NO		BIT(20)
#define ARCH_CAP_PBRSB_NO	BIT(24)
#define ARCH_CAP_GDS_NO		BIT(26)
#define ARCH_CAP_RFDS_NO	BIT(27)
#define ARCH_CAP_ITS_NO		BIT(62)

#define PAT_RESET		0x0007040600070406ULL
#define MXCSR_RESET		0x1f80U
#define APIC_DEFAULT_BASE	0xfee00000ULL

#endif
