/* SPDX-License-Identifier: Apache-2.0 */
/* What can be chosen of an engine; apart from engine.h, which brings in the processor. */
#ifndef VIREO_ENGINE_CONFIG_H
#define VIREO_ENGINE_CONFIG_H

#include "base/types.h"

/* AUTO: where the host has what the translator needs; ON: that or an error. */
enum translator_choice { TRANSLATOR_OFF, TRANSLATOR_ON, TRANSLATOR_AUTO };

struct kvm_sys;

/* Where the local APICs are: in KVM where it can do what ours do, else the machine's. */
enum kvm_apics { KVM_APICS_AUTO, KVM_APICS_MACHINE, KVM_APICS_KERNEL };

/*
 * Windows of the host's own page tables (cpu/window.h).  AUTO: for user code that runs long
 * enough; ALWAYS: for all user code, which shows what they are worth and what they cost.
 */
enum window_choice { WINDOWS_AUTO, WINDOWS_OFF, WINDOWS_ALWAYS };

/*
 * User code on the processor itself, in processes of its own (cpu/cell.h).  AUTO: what runs long
 * enough, where the host allows it; ALWAYS: all of it.
 */
enum direct_choice { DIRECT_AUTO, DIRECT_OFF, DIRECT_ALWAYS };

/* What is run by interpreter and translator both, and compared: all 64-bit code, or CPL 3's. */
enum lockstep_choice { LOCKSTEP_OFF, LOCKSTEP_ALL, LOCKSTEP_USER };

/* Optimizations of the translator, each with a switch; translator_opt.def says what they are. */
enum translator_opt {
#define OPT(id, name, sentence) TRANSLATOR_OPT_##id,
#include "engine/translator_opt.def"
#undef OPT
	TRANSLATOR_OPTS
};

struct engine_trace;

struct engine_config {
	uint64_t cache_bytes;		/* code cache of all vCPUs, 0: 64 MiB, 128 MiB for several */
	enum translator_choice translate; /* soft: translate hot code? */
	uint32_t translator_no;		/* soft: bit n: without enum translator_opt n */
	unsigned int translate_at;	/* ... for blocks that ran so often, 0: the default (8) */
	enum window_choice windows;	/* soft: user memory through the host's page tables? */
	enum direct_choice direct;	/* soft: user code on the processor itself? */
	bool perf_map;			/* soft: name translated code in /tmp/perf-PID.map */
	enum lockstep_choice lockstep;	/* soft: compare interpreter and translator */
	const struct engine_trace *trace; /* soft: who is told of translations, or NULL */
	const char *kvm_device;		/* kvm: NULL: /dev/kvm */
	const struct kvm_sys *kvm_sys;	/* kvm: another way to the kernel (engine/kvm/sys.h), or NULL */
	enum kvm_apics kvm_apics;	/* kvm */
	bool dirty_ring;		/* kvm: watch writes with rings instead of bitmaps */
};

#endif
