/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named CPU models.  A model is a fixed, versioned table of CPUID answers, never
 * dependent on the engine.  "vireo-v1" is x86-64-v2 and what is emulated; "vireo-v0" is
 * x86-64-v1 and no more than any KVM can give a guest; "host" is vireo-v1 and every
 * instruction set that the host's user mode can run.
 */
#ifndef VIREO_CPU_CPUID_H
#define VIREO_CPU_CPUID_H

#include "base/err.h"
#include "base/types.h"

/*
 * The core crystal clock of every model: CPUID leaf 15h reports it, and the local APIC's
 * timer counts it.  Its smallness keeps leaf 15h exact (cpuid.c); a whole number of ns.
 */
#define CRYSTAL_HZ	25000000U

/* Instruction-set features an instruction may need: FEAT_* rows of features.def. */
enum feature {
	FEAT_NONE,
#define FEATURE(name, leaf, subleaf, reg, bit, kind) FEAT_##name,
#include "cpu/features.def"
#undef FEATURE
	FEAT_COUNT
};

struct cpu_model {
	const char *name;
	uint64_t features[(FEAT_COUNT + 63) / 64];
	uint64_t xcr0_max;		/* what XSETBV may set */
	uint32_t xsave_size[64];	/* by XCR0 bit: size and ... */
	uint32_t xsave_offset[64];	/* ... standard-format offset */
	uint32_t signature;		/* CPUID leaf 1 EAX: type, family, model, stepping */
	uint32_t tsc_khz;
	unsigned int cpus;		/* of the VM, for the topology leaves; 1 unless set */
	char brand[49];
};

static inline bool model_has(const struct cpu_model *m, enum feature f)
{
	return m->features[f / 64] >> (f % 64) & 1;
}

/* The names that cpu_model_init knows, each with a line on it; the last name is NULL. */
struct cpu_model_name {
	const char *name;
	const char *summary;
};
extern const struct cpu_model_name cpu_model_names[];

/* Fills @m for the model called @name (cpu_model_names); -ENOENT names those known. */
int cpu_model_init(struct cpu_model *m, const char *name, struct err *e);

/* The CPUID answer; @cr4, @xcr0 and @apic_id are the dynamic inputs. */
void cpu_model_cpuid(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf,
		     uint32_t apic_id, uint64_t cr4, uint64_t xcr0, uint32_t out[4]);

/* The host's TSC frequency in Hz: CPUID 15h where given, else measured over 20 ms once. */
uint64_t host_tsc_hz(void);

/* The host's XCR0; 0 if it has no XSAVE. */
uint64_t host_xcr0(void);

#endif
