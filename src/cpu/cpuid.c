// SPDX-License-Identifier: Apache-2.0
/*
 * CPU models: which features a model has (features.def) and what its CPUID answers.
 *
 * The host's CPUID is read only when a model is made: the instruction traps where we run
 * as a guest ourselves.  A model never asks the engine.
 *
 * A model calls itself an Intel processor.  Its signature is that of a real processor with
 * no instruction set that the model lacks: programs choose code by family and model, and do
 * not look at each feature bit.  With what ARCH_CAPABILITIES says (msr.c) the model asks for
 * no page-table isolation, retpolines or buffer clearing.
 *
 * Source: Intel SDM volume 2, "CPUID".
 */
#include "cpu/cpuid.h"

#include "cpu/pv.h"
#include "mem/space.h"
#include "x86/regs.h"

#include <cpuid.h>
#include <errno.h>

#define VENDOR_EBX	0x756e6547	/* "GenuineIntel" in EBX, EDX, ECX */
#define VENDOR_EDX	0x49656e69
#define VENDOR_ECX	0x6c65746e
#define MEROM		0x000006fb	/* family 6, model 0Fh: 64-bit, before SSE4 */
#define NEHALEM		0x000106a5	/* family 6, model 1Ah: x86-64-v2 */
#define MAX_BASIC	0x1f
#define MAX_EXTENDED	0x80000008
#define CLFLUSH_BYTES	64
#define XSAVE_LEGACY	576		/* legacy part and header */
#define OSXSAVE_BIT	BIT(27)
#define HTT_BIT		BIT(28)

enum { KIND_V0, KIND_V1, KIND_USER };
enum { EAX, EBX, ECX, EDX };

struct feature_row {
	uint32_t leaf;
	uint8_t subleaf, reg, bit, kind;
};

static const struct feature_row rows[FEAT_COUNT] = {
#define FEATURE(name, leaf, subleaf, reg, bit, kind) \
	[FEAT_##name] = { leaf, subleaf, reg, bit, KIND_##kind },
#include "cpu/features.def"
#undef FEATURE
};

const struct cpu_model_name cpu_model_names[] = {
	{ "vireo-v0", "x86-64-v1, the least that systems run on and any KVM can give a guest" },
	{ "vireo-v1", "x86-64-v2 and what is emulated; the same on every host" },
	{ "host", "vireo-v1 and every instruction set that this host's user mode can run" },
	{ NULL, NULL },
};

static void text_copy(char *to, const char *from, unsigned int size)
{
	unsigned int i;

	for (i = 0; i + 1 < size && from[i]; i++)
		to[i] = from[i];
	for (; i < size; i++)
		to[i] = 0;
}

static bool text_equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void set_feature(struct cpu_model *m, enum feature f)
{
	m->features[f / 64] |= BIT(f % 64);
}

/* --- the host's part --- */

/* Needs the feature register state that the host's system does not provide? */
static bool needs_missing_state(enum feature f, uint64_t xcr0)
{
	const uint64_t avx = XCR0_X87 | XCR0_SSE | XCR0_AVX;

	switch (f) {
	case FEAT_AVX: case FEAT_AVX2: case FEAT_FMA: case FEAT_F16C: case FEAT_VAES:
	case FEAT_VPCLMULQDQ: case FEAT_AVX_VNNI:
		return (xcr0 & avx) != avx;
	case FEAT_AVX512F: case FEAT_AVX512DQ: case FEAT_AVX512_IFMA: case FEAT_AVX512CD:
	case FEAT_AVX512BW: case FEAT_AVX512VL: case FEAT_AVX512_VBMI: case FEAT_AVX512_VBMI2:
	case FEAT_AVX512_VNNI: case FEAT_AVX512_BITALG: case FEAT_AVX512_VPOPCNTDQ:
	case FEAT_AVX512_VP2INTERSECT: case FEAT_AVX512_FP16: case FEAT_AVX512_BF16:
		return (xcr0 & (avx | XCR0_AVX512)) != (avx | XCR0_AVX512);
	default:
		return false;
	}
}

static void add_host_state(struct cpu_model *m)
{
	uint32_t a, b, c, d;

	if (model_has(m, FEAT_AVX))
		m->xcr0_max |= XCR0_AVX;
	if (model_has(m, FEAT_AVX512F))
		m->xcr0_max |= XCR0_AVX512;
	for (unsigned int i = 2; i < 8; i++) {
		if (!(m->xcr0_max >> i & 1) || !__get_cpuid_count(0xd, i, &a, &b, &c, &d))
			continue;
		m->xsave_size[i] = a;
		m->xsave_offset[i] = b;
	}
}

static void add_host_features(struct cpu_model *m)
{
	uint64_t xcr0 = host_xcr0();

	for (enum feature f = 1; f < FEAT_COUNT; f++) {
		const struct feature_row *r = &rows[f];
		uint32_t out[4];

		if (r->kind != KIND_USER || needs_missing_state(f, xcr0) ||
		    !__get_cpuid_count(r->leaf, r->subleaf, &out[0], &out[1], &out[2], &out[3]))
			continue;
		if (out[r->reg] >> r->bit & 1)
			set_feature(m, f);
	}
	add_host_state(m);
}

/* The host's own signature; one without AVX where another maker's processor is the host. */
static uint32_t host_signature(void)
{
	uint32_t a, b, c, d;

	__cpuid(0, a, b, c, d);
	if (b != VENDOR_EBX || c != VENDOR_ECX || d != VENDOR_EDX)
		return NEHALEM;
	__cpuid(1, a, b, c, d);
	return a;
}

int cpu_model_init(struct cpu_model *m, const char *name, struct err *e)
{
	static const char *const brands[] = {
		"Vireo Virtual Processor v0", "Vireo Virtual Processor v1",
		"Vireo Virtual Processor, host instructions",
	};
	unsigned int which = 0;

	while (cpu_model_names[which].name && !text_equal(name, cpu_model_names[which].name))
		which++;
	if (!cpu_model_names[which].name)
		return err_set(e, ENOENT, "there is no CPU model '%s'; known are vireo-v0, vireo-v1 and "
			       "host", name);
	*m = (struct cpu_model){ .cpus = 1, .xcr0_max = XCR0_X87 | XCR0_SSE };
	m->name = cpu_model_names[which].name;
	text_copy(m->brand, brands[which], sizeof(m->brand));
	/* The models' order is that of the kinds: each has what those before it have. */
	for (enum feature f = 1; f < FEAT_COUNT; f++)
		if (rows[f].kind <= which && rows[f].kind != KIND_USER)
			set_feature(m, f);
	m->signature = which == KIND_V0 ? MEROM : NEHALEM;
	if (which == KIND_USER) {
		add_host_features(m);
		m->signature = host_signature();
	}
	m->tsc_khz = (host_tsc_hz() + 500) / 1000;
	return 0;
}

/* --- answers --- */

static void out_set(uint32_t out[4], uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	out[EAX] = a;
	out[EBX] = b;
	out[ECX] = c;
	out[EDX] = d;
}

/* Bits of an APIC ID that tell the processors of the package apart. */
static unsigned int topology_shift(const struct cpu_model *m)
{
	unsigned int shift = 0;

	while (BIT(shift) < m->cpus)
		shift++;
	return shift;
}

static void leaf_1(const struct cpu_model *m, uint32_t apic_id, uint64_t cr4, uint32_t out[4])
{
	out[EAX] |= m->signature;
	out[EBX] |= apic_id << 24 | (uint32_t)BIT(topology_shift(m)) << 16 | CLFLUSH_BYTES / 8 << 8;
	if (cr4 & CR4_OSXSAVE)
		out[ECX] |= OSXSAVE_BIT;
	if (m->cpus > 1)
		out[EDX] |= HTT_BIT;
}

/* Deterministic cache parameters: 32 KiB L1, 1 MiB L2 a processor, 16 MiB L3 for all. */
static void leaf_4(const struct cpu_model *m, uint32_t subleaf, uint32_t out[4])
{
	static const struct { uint8_t type, level, ways; uint32_t sets; } cache[] = {
		{ 1, 1, 8, 64 }, { 2, 1, 8, 64 }, { 3, 2, 16, 1024 }, { 3, 3, 16, 16384 },
	};
	uint32_t cores = BIT(topology_shift(m)), sharing;

	if (subleaf >= ARRAY_SIZE(cache))
		return;
	sharing = cache[subleaf].level == 3 ? cores - 1 : 0;
	out_set(out, cache[subleaf].type | cache[subleaf].level << 5 | BIT(8) | sharing << 14 |
		     (cores - 1) << 26,
		(cache[subleaf].ways - 1) << 22 | (CLFLUSH_BYTES - 1), cache[subleaf].sets - 1, 0);
}

/* Extended topology: one thread a core, all cores in one package. */
static void leaf_topology(const struct cpu_model *m, uint32_t subleaf, uint32_t apic_id,
			  uint32_t out[4])
{
	out_set(out, 0, 0, subleaf & 0xff, apic_id);
	if (subleaf == 0)
		out_set(out, 0, 1, 1 << 8, apic_id);
	else if (subleaf == 1)
		out_set(out, topology_shift(m), m->cpus, 2 << 8 | 1, apic_id);
}

/* Bytes of the standard-format XSAVE area for @xcr0. */
static uint32_t xsave_bytes(const struct cpu_model *m, uint64_t xcr0)
{
	uint32_t bytes = XSAVE_LEGACY;

	for (int i = 2; i < 64; i++)
		if (xcr0 >> i & 1)
			bytes = MAX(bytes, m->xsave_offset[i] + m->xsave_size[i]);
	return bytes;
}

static void leaf_d(const struct cpu_model *m, uint32_t subleaf, uint64_t xcr0, uint32_t out[4])
{
	if (!model_has(m, FEAT_XSAVE))
		return;
	if (subleaf == 0)
		out_set(out, m->xcr0_max, xsave_bytes(m, xcr0), xsave_bytes(m, m->xcr0_max),
			m->xcr0_max >> 32);
	else if (subleaf >= 2 && subleaf < 64)
		out_set(out, m->xsave_size[subleaf], m->xsave_offset[subleaf], 0, 0);
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t r = a % b;

		a = b;
		b = r;
	}
	return a;
}

/*
 * TSC frequency = crystal * EBX / EAX.  Systems compute crystal in kHz times EBX in 32
 * bits, so EBX must be small: the fraction is the best with EBX within that, found by
 * the convergents of the exact one.  It errs by at most 2.9 millionths (crystal in kHz
 * / 2^33, where the exact one is close to a whole number).
 */
static void leaf_15(const struct cpu_model *m, uint32_t out[4])
{
	uint32_t crystal_khz = CRYSTAL_HZ / 1000, limit = UINT32_MAX / crystal_khz;
	uint32_t g = gcd(m->tsc_khz, crystal_khz);
	uint32_t n = m->tsc_khz / g, d = crystal_khz / g;
	uint64_t p0 = 0, q0 = 1, p1 = 1, q1 = 0;

	while (d) {
		uint32_t a = n / d, r = n % d;
		uint64_t p = a * p1 + p0, q = a * q1 + q0;

		if (p > limit) {
			/* The last semiconvergent that fits; it is better than p1/q1 if a is. */
			uint64_t k = (limit - p0) / p1;

			if (2 * k > a) {
				p1 = k * p1 + p0;
				q1 = k * q1 + q0;
			}
			break;
		}
		p0 = p1, q0 = q1, p1 = p, q1 = q;
		n = d;
		d = r;
	}
	out_set(out, q1, p1, CRYSTAL_HZ, 0);
}

static void leaf_brand(const struct cpu_model *m, uint32_t leaf, uint32_t out[4])
{
	const char *s = m->brand + (leaf - 0x80000002) * 16;

	for (int i = 0; i < 16; i++)
		out[i / 4] |= (uint32_t)(uint8_t)s[i] << (i % 4 * 8);
}

static void basic(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf, uint32_t apic_id,
		  uint64_t cr4, uint64_t xcr0, uint32_t out[4])
{
	uint32_t mhz = m->tsc_khz / 1000;

	switch (leaf) {
	case 0:
		out_set(out, MAX_BASIC, VENDOR_EBX, VENDOR_ECX, VENDOR_EDX);
		break;
	case 1:
		leaf_1(m, apic_id, cr4, out);
		break;
	case 2:		/* caches: leaf 4 describes them */
		out_set(out, 0x0000ff01, 0, 0, 0);
		break;
	case 4:
		leaf_4(m, subleaf, out);
		break;
	case 7:		/* subleaf 0 in EAX: the last subleaf */
		if (subleaf == 0)
			out[EAX] = 2;
		break;
	case 0xb:
	case 0x1f:
		leaf_topology(m, subleaf, apic_id, out);
		break;
	case 0xd:
		leaf_d(m, subleaf, xcr0, out);
		break;
	case 0x15:
		leaf_15(m, out);
		break;
	case 0x16:
		out_set(out, mhz, mhz, 100, 0);
		break;
	}
}

/*
 * The leaves that belong to hypervisors: the interface is that of KVM's guests, as far as
 * pv.c has it, and so is the name by which systems know it.
 */
static void hypervisor(uint32_t leaf, uint32_t out[4])
{
	static const char name[12] = "KVMKVMKVM";

	out_set(out, 0, 0, 0, 0);
	if (leaf == 0x40000001)
		out[EAX] = PV_FEATURES;
	if (leaf != 0x40000000)
		return;
	out[EAX] = 0x40000001;
	for (int i = 0; i < 12; i++)
		out[EBX + i / 4] |= (uint32_t)(uint8_t)name[i] << (i % 4 * 8);
}

static void extended(const struct cpu_model *m, uint32_t leaf, uint32_t out[4])
{
	switch (leaf) {
	case 0x80000000:
		out_set(out, MAX_EXTENDED, 0, 0, 0);
		break;
	case 0x80000002 ... 0x80000004:
		leaf_brand(m, leaf, out);
		break;
	case 0x80000006:	/* 1 MiB L2, 16 ways, 64-byte lines */
		out_set(out, 0, 0, 1024 << 16 | 8 << 12 | CLFLUSH_BYTES, 0);
		break;
	case 0x80000008:
		out_set(out, GPA_BITS | 48 << 8, 0, 0, 0);
		break;
	}
}

static void add_features(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf,
			 uint32_t out[4])
{
	for (enum feature f = 1; f < FEAT_COUNT; f++)
		if (rows[f].leaf == leaf && model_has(m, f) &&
		    (rows[f].subleaf == subleaf || leaf == 1 || leaf == 6 || leaf >> 31))
			out[rows[f].reg] |= 1U << rows[f].bit;
}

void cpu_model_cpuid(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf,
		     uint32_t apic_id, uint64_t cr4, uint64_t xcr0, uint32_t out[4])
{
	if (leaf >> 28 == 4) {
		hypervisor(leaf, out);
		return;
	}
	/* Beyond the last leaf, Intel's processors answer as for the last basic one. */
	if (leaf >> 31 ? leaf > MAX_EXTENDED : leaf > MAX_BASIC)
		leaf = MAX_BASIC;
	out_set(out, 0, 0, 0, 0);
	add_features(m, leaf, subleaf, out);
	if (leaf >> 31)
		extended(m, leaf, out);
	else
		basic(m, leaf, subleaf, apic_id, cr4, xcr0, out);
}
