// SPDX-License-Identifier: Apache-2.0
/* What the TLB keeps and what each kind of flush drops: PCIDs, global and large pages. */

#include <sys/resource.h>
#include <unistd.h>

#include "guest_mem.h"
#include "unit.h"

#define USER	0x7f1234567000ULL
#define KERNEL	0xffff888000123000ULL
#define PAGE	0x100000ULL
#define OTHER	0x200000ULL
#define PWU	(PTE_P | PTE_W | PTE_U)
#define PW	(PTE_P | PTE_W)

static int setup(void **state)
{
	struct guest *g = guest_create("vireo-v1");

	guest_long_mode(g);
	g->v->cr4 |= CR4_PCIDE;
	vcpu_update_mode(g->v);
	*state = g;
	return 0;
}

/* The same where the host refuses what the kernel half is shared by. */
static int setup_unshared(void **state)
{
	struct rlimit old, small;
	int rc;

	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = 1 << 30;
	setrlimit(RLIMIT_FSIZE, &small);
	rc = setup(state);
	setrlimit(RLIMIT_FSIZE, &old);
	return rc;
}

static int teardown(void **state)
{
	guest_destroy(*state);
	return 0;
}

static bool held(struct guest *g, gva_t gva)
{
	return tlb_lookup(g->v->view, gva, 1, TLB_READ) != NULL;
}

static void touch(struct guest *g, gva_t gva)
{
	assert_int_equal(mem_write8(g->v, gva, 1), MEM_OK);
	assert_true(held(g, gva));
	assert_non_null(tlb_lookup(g->v->view, gva, 1, TLB_WRITE));
}

/* As MOV to CR3 does it. */
static void load_cr3(struct guest *g, gpa_t root, unsigned int pcid, bool keep)
{
	g->v->cr3 = root | pcid;
	tlb_switch_space(g->v, keep);
}

static gpa_t root_of(struct guest *g)
{
	return g->v->cr3 & ~GUEST_PAGE_MASK;
}

static void test_cr3_flush(void **state)
{
	struct guest *g = *state;
	uint64_t tag;

	pt_map(g, USER, PAGE, 12, PWU);
	pt_map(g, KERNEL, PAGE, 12, PW | PTE_G);
	pt_map(g, KERNEL + 0x1000, PAGE, 12, PW);
	touch(g, USER);
	touch(g, KERNEL);
	touch(g, KERNEL + 0x1000);
	tag = g->v->tlb.fetch_tag;
	load_cr3(g, root_of(g), 0, true);
	assert_true(held(g, USER) && held(g, KERNEL) && held(g, KERNEL + 0x1000));
	assert_int_equal(g->v->tlb.fetch_tag, tag);
	load_cr3(g, root_of(g), 0, false);
	assert_false(held(g, USER));
	assert_true(held(g, KERNEL));
	assert_false(held(g, KERNEL + 0x1000));
	assert_int_not_equal(g->v->tlb.fetch_tag, tag);
	touch(g, USER);
	tlb_flush_nonglobal(g->v);
	assert_false(held(g, USER));
	assert_true(held(g, KERNEL));
	tlb_flush_all(g->v);
	assert_false(held(g, KERNEL));
}

/* More goes than must. */
static void test_cr3_flush_unshared(void **state)
{
	struct guest *g = *state;

	pt_map(g, USER, PAGE, 12, PWU);
	pt_map(g, KERNEL, PAGE, 12, PW);
	touch(g, USER);
	touch(g, KERNEL);
	load_cr3(g, root_of(g), 0, true);
	assert_true(held(g, USER) && held(g, KERNEL));
	load_cr3(g, root_of(g), 0, false);
	assert_false(held(g, USER) || held(g, KERNEL));
}

static void test_pcid(void **state)
{
	struct guest *g = *state;
	gpa_t a = root_of(g), b;
	uint64_t tag_a, tag_b;
	uint8_t value;

	pt_map(g, USER, PAGE, 12, PWU);
	pt_map(g, KERNEL, PAGE, 12, PW);
	touch(g, USER);
	touch(g, KERNEL);
	tag_a = g->v->tlb.fetch_tag;
	b = guest_new_table(g);
	load_cr3(g, b, 1, true);
	/* Nothing of PCID 0 is seen, also not its kernel page that is not global. */
	assert_false(held(g, USER) || held(g, KERNEL));
	tag_b = g->v->tlb.fetch_tag;
	assert_int_not_equal(tag_a, tag_b);
	pt_map(g, USER, OTHER, 12, PWU);
	touch(g, USER);
	*(uint8_t *)gpa_to_hva(&g->space, PAGE, 1) = 0xaa;
	load_cr3(g, a, 0, true);
	assert_true(held(g, USER));
	assert_int_equal(g->v->tlb.fetch_tag, tag_a);
	assert_int_equal(mem_read8(g->v, USER, &value), MEM_OK);
	assert_int_equal(value, 0xaa);
	load_cr3(g, b, 1, false);
	assert_false(held(g, USER));
	assert_int_not_equal(g->v->tlb.fetch_tag, tag_b);
}

static void test_many_pcids(void **state)
{
	struct guest *g = *state;
	gpa_t roots[20];

	for (int i = 0; i < 20; i++) {
		roots[i] = guest_new_table(g);
		load_cr3(g, roots[i], i + 1, true);
		pt_map(g, USER, PAGE + i * 4096, 12, PWU);
		touch(g, USER);
		*(uint8_t *)gpa_to_hva(&g->space, PAGE + i * 4096, 1) = i;
	}
	/* The last ones are still there, the oldest are not, and none shows another's page. */
	for (int i = 19; i >= 0; i--) {
		uint8_t value;

		load_cr3(g, roots[i], i + 1, true);
		assert_int_equal(held(g, USER), i >= 20 - TLB_SPACES);
		assert_int_equal(mem_read8(g->v, USER, &value), MEM_OK);
		assert_int_equal(value, i);
	}
}

static void test_invlpg(void **state)
{
	struct guest *g = *state;
	uint64_t tag;

	pt_map(g, USER, PAGE, 12, PWU);
	pt_map(g, USER + 0x1000, PAGE, 12, PWU);
	pt_map(g, KERNEL, PAGE, 12, PW | PTE_G);
	touch(g, USER);
	touch(g, USER + 0x1000);
	touch(g, KERNEL);
	tag = g->v->tlb.fetch_tag;
	tlb_flush_page(g->v, USER + 0x234);
	assert_false(held(g, USER));
	assert_null(tlb_lookup(g->v->view, USER, 1, TLB_WRITE));
	assert_true(held(g, USER + 0x1000) && held(g, KERNEL));
	assert_int_equal(g->v->tlb.fetch_tag, tag);	/* nothing was fetched there */
	tlb_flush_page(g->v, KERNEL);
	assert_false(held(g, KERNEL));
}

/* Does INVLPG of @there make known that what was fetched from @fetched may be stale? */
static bool fetch_goes_stale(struct guest *g, gva_t fetched, gva_t there)
{
	uint64_t tag;
	gpa_t gpa;

	assert_int_equal(gva_to_gpa(g->v, fetched, ACC_FETCH, &gpa), MEM_OK);
	tag = g->v->tlb.fetch_tag;
	tlb_flush_page(g->v, there);
	return g->v->tlb.fetch_tag != tag;
}

static void test_invlpg_code(void **state)
{
	struct guest *g = *state;

	pt_map(g, USER, PAGE, 12, PWU);
	pt_map(g, USER + 0x1000, PAGE, 12, PWU);
	pt_map(g, 0x40000000, 0x200000, 21, PWU);
	pt_map(g, 0x8000000000, 0, 30, PWU);
	assert_true(fetch_goes_stale(g, USER + 7, USER + 0x234));
	assert_false(fetch_goes_stale(g, USER, USER + 0x1000));
	assert_false(fetch_goes_stale(g, USER, 0x40000000));
	assert_true(fetch_goes_stale(g, USER + 0x1000, USER + 0x1fff));
	assert_true(fetch_goes_stale(g, 0x40001000, 0x40100000));
	assert_false(fetch_goes_stale(g, 0x40001000, 0x40200000));
	assert_true(fetch_goes_stale(g, 0x8000a00000, 0x8030000000));
}

static void test_invlpg_large(void **state)
{
	struct guest *g = *state;

	pt_map(g, 0x40000000, 0x200000, 21, PWU);
	pt_map(g, KERNEL & ~0x1fffffULL, 0x200000, 21, PW | PTE_G);
	pt_map(g, 0x8000000000, 0, 30, PWU);
	touch(g, 0x40000000);
	touch(g, 0x401ff000);
	tlb_flush_page(g->v, 0x40100000);
	assert_false(held(g, 0x40000000) || held(g, 0x401ff000));
	touch(g, 0x401ff000);
	tlb_flush_page(g->v, 0x40100000);
	assert_false(held(g, 0x401ff000));
	touch(g, KERNEL);
	tlb_flush_page(g->v, KERNEL ^ 0x100000);
	assert_false(held(g, KERNEL));
	/* 1 GiB: entries in several regions, the address named in none of them. */
	touch(g, 0x8000000000);
	touch(g, 0x8000a00000);
	tlb_flush_page(g->v, 0x8030000000);
	assert_false(held(g, 0x8000000000) || held(g, 0x8000a00000));
	touch(g, 0x8000a00000);
	tlb_flush_all(g->v);
	assert_false(held(g, 0x8000a00000));
}

static void test_invlpg_4m(void **state)
{
	struct guest *g = *state;

	guest_32bit_mode(g);
	*pt_entry32(g, 0x40000000, 22) = 0x400000 | PWU | PTE_PS;
	touch(g, 0x40001000);
	touch(g, 0x40301000);
	tlb_flush_page(g->v, 0x40100000);
	assert_false(held(g, 0x40001000) || held(g, 0x40301000));
}

static void test_invlpg_global_everywhere(void **state)
{
	struct guest *g = *state;
	gpa_t a = root_of(g), b = guest_new_table(g);

	pt_map(g, USER, PAGE, 12, PWU | PTE_G);
	touch(g, USER);
	load_cr3(g, b, 1, true);
	tlb_flush_page(g->v, USER);
	load_cr3(g, a, 0, true);
	assert_false(held(g, USER));
}

static void test_invpcid(void **state)
{
	struct guest *g = *state;
	gpa_t a = root_of(g), b = guest_new_table(g);

	pt_map(g, USER, PAGE, 12, PWU);
	pt_map(g, USER + 0x1000, PAGE, 12, PWU);
	pt_map(g, KERNEL, PAGE, 12, PW | PTE_G);
	touch(g, USER);
	touch(g, USER + 0x1000);
	touch(g, KERNEL);
	load_cr3(g, b, 1, true);
	tlb_invpcid(g->v, 0, 0, USER);
	load_cr3(g, a, 0, true);
	assert_false(held(g, USER));
	assert_true(held(g, USER + 0x1000));
	load_cr3(g, b, 1, true);
	tlb_invpcid(g->v, 1, 0, 0);
	load_cr3(g, a, 0, true);
	assert_false(held(g, USER + 0x1000));
	touch(g, USER);
	tlb_invpcid(g->v, 3, 0, 0);
	assert_false(held(g, USER));
	assert_true(held(g, KERNEL));
	tlb_invpcid(g->v, 2, 0, 0);
	assert_false(held(g, KERNEL));
}

static void test_views(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint8_t value;

	v->cr4 |= CR4_SMAP;
	v->rflags |= RFLAGS_AC;
	vcpu_update_mode(v);
	pt_map(g, USER, PAGE, 12, PWU);
	pt_map(g, KERNEL, PAGE, 12, PW | PTE_G);
	pt_map(g, KERNEL + 0x1000, PAGE, 12, PWU | PTE_G);
	touch(g, USER);
	touch(g, KERNEL);
	/* A user page up there must not show in the view that SMAP is in force in. */
	assert_int_equal(mem_write8(v, KERNEL + 0x1000, 1), MEM_OK);
	assert_false(held(g, KERNEL + 0x1000));
	v->rflags &= ~RFLAGS_AC;
	vcpu_update_mode(v);
	assert_false(held(g, USER));
	assert_true(held(g, KERNEL));
	assert_int_equal(mem_read8(v, USER, &value), MEM_FAULT);
	assert_int_equal(mem_read8(v, KERNEL + 0x1000, &value), MEM_FAULT);
	guest_set_cpl(g, 3);
	assert_false(held(g, USER) || held(g, KERNEL));
	touch(g, USER);
	assert_int_equal(mem_read8(v, KERNEL, &value), MEM_FAULT);
	touch(g, KERNEL + 0x1000);
}

static void test_mode_change_flushes(void **state)
{
	struct guest *g = *state;
	uint8_t value = 0;

	g->v->cr0 &= ~CR0_WP;
	vcpu_update_mode(g->v);
	pt_map(g, USER, PAGE, 12, PTE_P | PTE_U);
	touch(g, USER);
	g->v->cr0 |= CR0_WP;
	vcpu_update_mode(g->v);
	assert_int_equal(mem_read8(g->v, USER, &value), MEM_OK);
	assert_int_equal(mem_write8(g->v, USER, value), MEM_FAULT);
}

static void test_many_nonglobal(void **state)
{
	struct guest *g = *state;
	gpa_t a = root_of(g);

	for (int i = 0; i < 3000; i++)
		pt_map(g, KERNEL + i * 4096ULL, PAGE, 12, PW);
	for (int i = 0; i < 3000; i++)
		touch(g, KERNEL + i * 4096ULL);
	load_cr3(g, a, 7, true);
	for (int i = 0; i < 3000; i++)
		assert_false(held(g, KERNEL + i * 4096ULL));
}

/* A page of code at several addresses, in several spaces and views. */
static void test_protect_aliases(void **state)
{
	struct guest *g = *state;
	gva_t alias[5] = { USER, KERNEL, KERNEL + 0x40000000, USER + 0x5000, 0x400000 };
	gpa_t a = root_of(g), b = guest_new_table(g);
	uint8_t *flags = &g->space.ram[0].page_flags[PAGE >> 12];

	for (int count = 1; count <= 5; count++) {
		for (int space = 0; space < 2; space++) {
			load_cr3(g, space ? b : a, space, true);
			for (int i = 0; i < count; i++) {
				pt_map(g, alias[i], PAGE, 12,
				       PW | (alias[i] & BIT(47) ? PTE_G : PTE_U));
				touch(g, alias[i]);
			}
			pt_map(g, USER + 0x9000, OTHER, 12, PWU);
			touch(g, USER + 0x9000);
		}
		tlb_protect_code_page(g->v, PAGE + 5);
		assert_true(*flags & PAGE_CODE);
		for (int space = 0; space < 2; space++) {
			load_cr3(g, space ? b : a, space, true);
			for (int i = 0; i < count; i++) {
				assert_null(tlb_lookup(g->v->view, alias[i], 1, TLB_WRITE));
				assert_true(held(g, alias[i]));
			}
			assert_non_null(tlb_lookup(g->v->view, USER + 0x9000, 1, TLB_WRITE));
		}
		*flags = 0;
	}
}

/* Addresses that differ in their highest bits only, which smaller tables have no entries for. */
static void test_high_bits(void **state)
{
	struct guest *g = *state;
	const gva_t gva[] = { 0x400000, 0x400000 + BIT(36), 0x400000 + BIT(35), 0x400000 + 5 * BIT(40),
			      0xffff800000400000, 0xffff808000400000 };
	uint8_t byte;

	for (unsigned int i = 0; i < ARRAY_SIZE(gva); i++)
		pt_map(g, gva[i], PAGE + 4096 * i, 12, PW | (gva[i] & BIT(47) ? PTE_G : PTE_U));
	for (unsigned int i = 0; i < ARRAY_SIZE(gva); i++)
		assert_int_equal(mem_write8(g->v, gva[i], i), MEM_OK);
	for (unsigned int n = 0; n < 3; n++)
		for (unsigned int i = 0; i < ARRAY_SIZE(gva); i++) {
			assert_int_equal(mem_read8(g->v, gva[i], &byte), MEM_OK);
			assert_int_equal(byte, i);
		}
	for (unsigned int i = 0; i < ARRAY_SIZE(gva); i++) {
		assert_int_equal(mem_write8(g->v, gva[i], i), MEM_OK);
		tlb_protect_code_page(g->v, PAGE + 4096 * i);
		assert_null(tlb_lookup(g->v->view, gva[i], 1, TLB_WRITE));
		assert_int_equal(mem_write8(g->v, gva[(i + 1) % ARRAY_SIZE(gva)], 1), MEM_OK);
		assert_null(tlb_lookup(g->v->view, gva[i], 1, TLB_WRITE));
		g->space.ram[0].page_flags[(PAGE >> 12) + i] = 0;
	}
	/* What user mode has is not the kernel's with SMAP in force, wherever its entry is. */
	g->v->cr4 |= CR4_SMAP;
	vcpu_update_mode(g->v);
	for (unsigned int i = 0; i < ARRAY_SIZE(gva); i++)
		assert_int_equal(mem_read8(g->v, gva[i], &byte),
				 gva[i] & BIT(47) ? MEM_OK : MEM_FAULT);
}

/* Resident memory of the process in KiB. */
static long resident(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A guest that looks everywhere must not take all of the host's memory. */
static void test_host_memory_is_bounded(void **state)
{
	struct guest *g = *state;
	uint8_t value;
	long before = resident();

	/* Every address is mapped to one page, by four tables. */
	gpa_t table = root_of(g);

	for (int level = 4; level > 0; level--) {
		gpa_t below = level > 1 ? guest_new_table(g) : PAGE;
		uint64_t *e = gpa_to_hva(&g->space, table, GUEST_PAGE_SIZE);

		for (int i = 0; i < 512; i++)
			e[i] = below | PW;
		table = below;
	}
	for (uint64_t i = 0; i < 120000; i++) {
		gva_t gva = i * 0x9e3779b97f4a7c15ULL;

		gva = (gva_t)((int64_t)gva >> 16) & ~GUEST_PAGE_MASK;
		assert_int_equal(mem_read8(g->v, gva, &value), MEM_OK);
	}
	assert_true(resident() - before < 400 * 1024);
}

static void set_mode(struct guest *g, unsigned int cpl, bool smap, bool ac)
{
	g->v->seg[SEG_SS].attr = (g->v->seg[SEG_SS].attr & ~(3U << 5)) | cpl << 5;
	g->v->cr4 = smap ? g->v->cr4 | CR4_SMAP : g->v->cr4 & ~(uint64_t)CR4_SMAP;
	g->v->rflags = ac ? g->v->rflags | RFLAGS_AC : g->v->rflags & ~(uint64_t)RFLAGS_AC;
	vcpu_update_mode(g->v);
}

/* Reads @gva, which holds @value, and tells whether the tables do. */
static bool held_after(struct guest *g, gva_t gva, uint8_t value)
{
	uint8_t got = ~value;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(mem_read8(g->v, gva, &got), MEM_OK);
		assert_int_equal(got, value);
	}
	return held(g, gva);
}

/*
 * One of 64: views share tables.  Each address and its counterpart in the other half lead to
 * different pages, so that a wrong entry would show.
 */
static void test_compact(void **state)
{
	struct guest *g = guest_create_cpus("vireo-v1", 64);
	const gva_t user = 0x123456000, low = 0x223456000, top = BIT(63) >> 16;
	const gva_t upper = 0xffff800000000000ULL, mapped[4] = { user, low, upper | user, upper | low };
	const uint64_t flags[4] = { PWU, PW, PW | PTE_G, PWU };
	uint8_t value;

	(void)state;
	assert_true(top == BIT(47) && g->v->tlb.compact);
	guest_long_mode(g);
	for (unsigned int i = 0; i < 4; i++) {
		pt_map(g, mapped[i], PAGE + i * 0x1000, 12, flags[i]);
		*(uint8_t *)gpa_to_hva(&g->space, PAGE + i * 0x1000, 1) = i + 1;
	}
	for (unsigned int round = 0; round < 2; round++) {
		set_mode(g, 0, true, false);
		assert_true(held_after(g, mapped[2], 3));
		assert_false(held_after(g, mapped[1], 2));
		assert_int_equal(mem_read8(g->v, mapped[0], &value), MEM_FAULT);
		set_mode(g, 0, true, true);
		assert_false(held_after(g, mapped[0], 1));
		assert_false(held_after(g, mapped[2], 3));
		set_mode(g, 3, true, false);
		assert_true(held_after(g, mapped[0], 1));
		assert_false(held_after(g, mapped[3], 4));
		assert_int_equal(mem_read8(g->v, mapped[1], &value), MEM_FAULT);
		assert_int_equal(mem_read8(g->v, mapped[2], &value), MEM_FAULT);
		set_mode(g, 0, false, false);
		assert_true(held_after(g, mapped[0], 1));
		assert_true(held_after(g, mapped[1], 2));
		assert_true(held_after(g, mapped[2], 3));
		set_mode(g, 3, false, false);
		assert_false(held_after(g, mapped[0], 1));
		assert_false(held_after(g, mapped[3], 4));
		assert_int_equal(mem_read8(g->v, mapped[1], &value), MEM_FAULT);
	}
	guest_destroy(g);
}

/* Without room for the tables: a sentence, not a crash. */
static void test_address_space_limit(void **state)
{
	struct rlimit old, tight;
	struct guest *g = *state;
	struct vcpu *v = processor_alloc();
	struct err e = { 0 };
	int rc;

	v->space = &g->space;
	v->model = &g->model;
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	tight = old;
	tight.rlim_cur = 6ULL << 40;
	if (setrlimit(RLIMIT_AS, &tight))
		skip();
	rc = vcpu_init(v, &e);
	setrlimit(RLIMIT_AS, &old);
	assert_int_equal(rc, -12);
	assert_non_null(strstr(e.text, "ulimit"));
	free(v);
}

int main(void)
{

#define U(f) { #f " (not shared)", f, setup_unshared, teardown, NULL }
	const struct CMUnitTest tests[] = {
		T(test_cr3_flush), T(test_pcid), T(test_many_pcids), T(test_invlpg),
		T(test_invlpg_code), T(test_invlpg_large), T(test_invlpg_4m), T(test_invlpg_global_everywhere),
		T(test_invpcid), T(test_views), T(test_mode_change_flushes),
		T(test_many_nonglobal), T(test_protect_aliases), T(test_high_bits),
		T(test_host_memory_is_bounded),
		T(test_address_space_limit), cmocka_unit_test(test_compact),
		U(test_cr3_flush_unshared), U(test_pcid), U(test_many_pcids), U(test_invlpg),
		U(test_invlpg_large), U(test_protect_aliases), U(test_high_bits),
		U(test_host_memory_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
