// SPDX-License-Identifier: Apache-2.0
/* Page walks: every paging mode, rights, error codes, accessed and dirty bits. */

#include "guest_mem.h"
#include "unit.h"

#define PAGE	0x100000ULL	/* the RAM page that tests map */
#define GVA	0x7f1234567000ULL
#define KGVA	0xffff888000123000ULL
#define PWU	(PTE_P | PTE_W | PTE_U)
#define PW	(PTE_P | PTE_W)

static int setup(void **state)
{
	*state = guest_create("vireo-v1");
	return 0;
}

static int teardown(void **state)
{
	guest_destroy(*state);
	return 0;
}

#define assert_walk(g, gva, access, expected) do { \
	gpa_t gpa_; \
	assert_int_equal(gva_to_gpa((g)->v, gva, access, &gpa_), MEM_OK); \
	assert_int_equal(gpa_, expected); \
} while (0)

#define assert_pf(g, gva, access, error_code) do { \
	gpa_t gpa_; \
	memset(&(g)->v->fault, 0, sizeof((g)->v->fault)); \
	assert_int_equal(gva_to_gpa((g)->v, gva, access, &gpa_), MEM_FAULT); \
	assert_int_equal((g)->v->fault.vector, EXC_PF); \
	assert_int_equal((g)->v->fault.error, error_code); \
	assert_true((g)->v->fault.has_error); \
	assert_int_equal((g)->v->fault.cr2, gva); \
} while (0)

static void test_long_mode_sizes(void **state)
{
	struct guest *g = *state;

	guest_long_mode(g);
	pt_map(g, GVA, PAGE, 12, PWU);
	pt_map(g, 0x40000000, 0x200000, 21, PWU);
	pt_map(g, 0x8000000000, 0, 30, PWU);
	assert_walk(g, GVA + 0x123, ACC_READ, PAGE + 0x123);
	assert_walk(g, 0x40000000 + 0x1fffff, ACC_READ, 0x3fffff);
	assert_walk(g, 0x8000000000 + 0x765432, ACC_READ, 0x765432);
	/* The PAT bit of a large page is not an address bit. */
	pt_map(g, 0x40200000, 0x400000 | BIT(12), 21, PWU);
	assert_walk(g, 0x40201000, ACC_READ, 0x401000);
}

static void test_accessed_dirty(void **state)
{
	struct guest *g = *state;
	uint64_t *pte, *pde, *pdpte, *pml4e;

	guest_long_mode(g);
	pt_map(g, GVA, PAGE, 12, PWU);
	pte = pt_entry64(g, GVA, 12);
	pde = pt_entry64(g, GVA, 21);
	pdpte = pt_entry64(g, GVA, 30);
	pml4e = pt_entry64(g, GVA, 39);
	assert_walk(g, GVA, ACC_READ | ACC_PROBE, PAGE);
	assert_int_equal((*pte | *pde | *pdpte | *pml4e) & (PTE_A | PTE_D), 0);
	assert_walk(g, GVA, ACC_READ, PAGE);
	assert_true(*pte & *pde & *pdpte & *pml4e & PTE_A);
	assert_int_equal((*pte | *pde | *pdpte | *pml4e) & PTE_D, 0);
	assert_walk(g, GVA, ACC_WRITE, PAGE);
	assert_true(*pte & PTE_D);
	assert_int_equal((*pde | *pdpte | *pml4e) & PTE_D, 0);
	/* A refused access sets no D. */
	*pte = PAGE | PTE_P | PTE_U;
	assert_pf(g, GVA, ACC_WRITE, PF_P | PF_W);
	assert_int_equal(*pte & PTE_D, 0);
}

static void test_not_present(void **state)
{
	struct guest *g = *state;

	guest_long_mode(g);
	assert_pf(g, GVA, ACC_READ, 0);
	assert_pf(g, GVA, ACC_WRITE, PF_W);
	assert_pf(g, GVA, ACC_FETCH, PF_I);
	g->v->efer &= ~EFER_NXE;
	assert_pf(g, GVA, ACC_FETCH, 0);
	guest_set_cpl(g, 3);
	assert_pf(g, GVA, ACC_READ, PF_U);
	assert_pf(g, GVA, ACC_READ | ACC_SUPER, 0);
	pt_map(g, GVA, PAGE, 12, PWU & ~PTE_P);
	assert_pf(g, GVA, ACC_WRITE, PF_U | PF_W);
}

static void test_rights(void **state)
{
	struct guest *g = *state;

	guest_long_mode(g);
	pt_map(g, GVA, PAGE, 12, PTE_P | PTE_U);
	pt_map(g, KGVA, PAGE, 12, PW | PTE_NX);
	assert_pf(g, GVA, ACC_WRITE, PF_P | PF_W);
	g->v->cr0 &= ~CR0_WP;
	assert_walk(g, GVA, ACC_WRITE, PAGE);
	guest_set_cpl(g, 3);
	assert_pf(g, GVA, ACC_WRITE, PF_P | PF_W | PF_U);
	assert_pf(g, KGVA, ACC_READ, PF_P | PF_U);
	assert_pf(g, KGVA, ACC_FETCH, PF_P | PF_U | PF_I);
	guest_set_cpl(g, 0);
	assert_pf(g, KGVA, ACC_FETCH, PF_P | PF_I);
	/* U clear at one upper level makes the page the supervisor's; so with W and NX. */
	*pt_entry64(g, GVA, 30) &= ~PTE_U;
	guest_set_cpl(g, 3);
	assert_pf(g, GVA, ACC_READ, PF_P | PF_U);
	*pt_entry64(g, GVA, 30) |= PTE_U | PTE_NX;
	assert_walk(g, GVA, ACC_READ, PAGE);
	assert_pf(g, GVA, ACC_FETCH, PF_P | PF_U | PF_I);
}

static void test_smep_smap(void **state)
{
	struct guest *g = *state;

	guest_long_mode(g);
	pt_map(g, GVA, PAGE, 12, PWU);
	assert_walk(g, GVA, ACC_FETCH, PAGE);
	g->v->cr4 |= CR4_SMEP | CR4_SMAP;
	vcpu_update_mode(g->v);
	assert_pf(g, GVA, ACC_FETCH, PF_P | PF_I);
	assert_pf(g, GVA, ACC_READ, PF_P);
	assert_pf(g, GVA, ACC_WRITE, PF_P | PF_W);
	g->v->rflags |= RFLAGS_AC;
	assert_walk(g, GVA, ACC_WRITE, PAGE);
	assert_pf(g, GVA, ACC_READ | ACC_SUPER, PF_P);
	assert_pf(g, GVA, ACC_FETCH, PF_P | PF_I);
	guest_set_cpl(g, 3);
	assert_walk(g, GVA, ACC_FETCH, PAGE);
	/* Without NXE, SMEP alone makes fetches visible in the error code. */
	g->v->efer &= ~EFER_NXE;
	assert_pf(g, GVA + 0x1000, ACC_FETCH, PF_U | PF_I);
}

static void test_reserved_bits(void **state)
{
	struct guest *g = *state;

	guest_long_mode(g);
	pt_map(g, GVA, PAGE | BIT(GPA_BITS), 12, PWU);
	assert_pf(g, GVA, ACC_READ, PF_P | PF_RSVD);
	pt_map(g, GVA, PAGE | BIT(51), 12, PWU);
	assert_pf(g, GVA, ACC_WRITE, PF_P | PF_RSVD | PF_W);
	pt_map(g, GVA, PAGE | BIT(52) | BIT(62), 12, PWU);	/* ignored */
	assert_walk(g, GVA, ACC_READ, PAGE);
	pt_map(g, 0x40000000, 0x200000 | BIT(13), 21, PWU);
	assert_pf(g, 0x40000000ULL, ACC_READ, PF_P | PF_RSVD);
	pt_map(g, 0x8000000000, BIT(29), 30, PWU);
	assert_pf(g, 0x8000000000ULL, ACC_READ, PF_P | PF_RSVD);
	*pt_entry64(g, GVA, 39) |= PTE_PS;
	assert_pf(g, GVA, ACC_READ, PF_P | PF_RSVD);
	*pt_entry64(g, GVA, 39) &= ~PTE_PS;
	g->v->efer &= ~EFER_NXE;
	pt_map(g, GVA, PAGE, 12, PWU | PTE_NX);
	assert_pf(g, GVA, ACC_READ, PF_P | PF_RSVD);
	/* Tables where there is no RAM read as all ones. */
	*pt_entry64(g, 0x10000000000, 39) = (GUEST_RAM + 0x1000) | PWU;
	assert_pf(g, 0x10000000000ULL, ACC_READ, PF_P | PF_RSVD);
}

static void test_pae(void **state)
{
	struct guest *g = *state;

	guest_pae_mode(g);
	pt_map(g, 0xc0001000, PAGE, 12, PWU | PTE_NX);
	pt_map(g, 0x40000000, 0x200000, 21, PWU);
	assert_walk(g, 0xc0001234ULL, ACC_WRITE, PAGE + 0x234);
	assert_true(*pt_entry64(g, 0xc0001000, 12) & PTE_D);
	assert_true(*pt_entry64(g, 0xc0001000, 21) & PTE_A);
	assert_int_equal(*pt_entry64(g, 0xc0001000, 30) & PTE_A, 0);
	assert_pf(g, 0xc0001234ULL, ACC_FETCH, PF_P | PF_I);
	assert_walk(g, 0x401fffffULL, ACC_READ, 0x3fffff);
	assert_pf(g, 0x80000000ULL, ACC_READ, 0);
	pt_map(g, 0xc0002000, PAGE | BIT(60), 12, PWU);
	assert_pf(g, 0xc0002000ULL, ACC_READ, PF_P | PF_RSVD);
	*pt_entry64(g, 0xc0001000, 30) |= PTE_W;	/* reserved in a PDPTE */
	assert_pf(g, 0xc0001000ULL, ACC_READ, PF_P | PF_RSVD);
}

static void test_32bit(void **state)
{
	struct guest *g = *state;

	guest_32bit_mode(g);
	*pt_entry32(g, 0x08048000, 12) = PAGE | PWU;
	*pt_entry32(g, 0xc0000000, 22) = 0x400000 | PW | PTE_PS;
	assert_walk(g, 0x08048ffcULL, ACC_WRITE, PAGE + 0xffc);
	assert_true(*pt_entry32(g, 0x08048000, 12) & PTE_D);
	assert_true(*pt_entry32(g, 0x08048000, 22) & PTE_A);
	assert_walk(g, 0xc03fffffULL, ACC_READ, 0x7fffff);
	assert_true(*pt_entry32(g, 0xc0000000, 22) & PTE_A);
	assert_pf(g, 0x08049000ULL, ACC_FETCH, 0);
	guest_set_cpl(g, 3);
	assert_pf(g, 0xc0000000ULL, ACC_READ, PF_P | PF_U);
	guest_set_cpl(g, 0);
	*pt_entry32(g, 0xc0000000, 22) = 0x400000 | PW | PTE_PS | BIT(13);
	assert_pf(g, 0xc0000000ULL, ACC_READ, PF_P | PF_RSVD);
	/* Without PSE the bit is ignored and the entry points at a table. */
	g->v->cr4 &= ~CR4_PSE;
	*pt_entry32(g, 0xc0000000, 22) = guest_new_table(g) | PW | PTE_PS;
	*pt_entry32(g, 0xc0000000, 12) = PAGE | PW;
	assert_walk(g, 0xc0000010ULL, ACC_READ, PAGE + 0x10);
}

static void test_paging_off(void **state)
{
	struct guest *g = *state;

	assert_walk(g, 0xfffffff0ULL, ACC_FETCH, 0xfffffff0ULL);
	assert_walk(g, 0x1234ULL, ACC_WRITE, 0x1234);
}

static void test_non_canonical(void **state)
{
	struct guest *g = *state;
	gpa_t gpa;

	guest_long_mode(g);
	assert_int_equal(gva_to_gpa(g->v, 0x800000000000, ACC_READ, &gpa), MEM_FAULT);
	assert_int_equal(g->v->fault.vector, EXC_GP);
	assert_int_equal(g->v->fault.error, 0);
	assert_int_equal(gva_to_gpa(g->v, 0xffff7fffffffffff, ACC_WRITE | ACC_STACK, &gpa),
			 MEM_FAULT);
	assert_int_equal(g->v->fault.vector, EXC_SS);
}

/* Tables in ROM: their A and D cannot be set, and the walk must come to an end. */
static void test_tables_in_rom(void **state)
{
	struct guest *g = *state;
	uint64_t *rom;

	assert_int_equal(gpa_space_add_rom(&g->space, 0x10000000, 0x1000, NULL), 0);
	rom = gpa_to_hva(&g->space, 0x10000000, 0x1000);
	guest_long_mode(g);
	*pt_entry64(g, GVA, 21) = 0x10000000 | PWU;
	rom[GVA >> 12 & 511] = PAGE | PWU;
	assert_walk(g, GVA, ACC_WRITE, PAGE);
	assert_int_equal(rom[GVA >> 12 & 511], PAGE | PWU);
}

int main(void)
{

	const struct CMUnitTest tests[] = {
		T(test_long_mode_sizes), T(test_accessed_dirty), T(test_not_present),
		T(test_rights), T(test_smep_smap), T(test_reserved_bits), T(test_pae),
		T(test_32bit), T(test_paging_off), T(test_non_canonical), T(test_tables_in_rom),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
