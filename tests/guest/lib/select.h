/* SPDX-License-Identifier: Apache-2.0 */
/* Selectors of the GDT in start.S; from SEL_FREE on, entries belong to the test. */
#define SEL_KCODE32	0x08
#define SEL_KCODE64	0x10
#define SEL_KDATA	0x18
#define SEL_UCODE32	0x23
#define SEL_UDATA	0x2b
#define SEL_UCODE64	0x33
#define SEL_CODE16	0x38
#define SEL_SMALL	0x40
#define SEL_TSS		0x48
#define SEL_FREE	0x58
#ifdef __x86_64__
#define SEL_KCODE	SEL_KCODE64
#define SEL_UCODE	SEL_UCODE64
#else
#define SEL_KCODE	SEL_KCODE32
#define SEL_UCODE	SEL_UCODE32
#endif
