// SPDX-License-Identifier: Apache-2.0
/*
 * Control and debug registers, CLTS, LMSW, INVLPG, INVPCID and HLT.
 *
 * With PAE paging outside long mode the four PDPTEs are checked when CR3 is loaded, and
 * read again at each walk instead of being kept.
 *
 * Source: Intel SDM volume 3, "Control Registers", "Debug Registers", "Initializing IA-32e
 * Mode"; volume 2, each instruction.
 */
#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/system_priv.h"

#define CR0_DEFINED	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | \
			 CR0_NW | CR0_CD | CR0_PG)
#define CR0_FLUSHES	(CR0_PE | CR0_WP | CR0_PG)
#define CR4_FLUSHES	(CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)
#define GPA_MASK	(BIT(GPA_BITS) - 1)

#define PDPTE_RESERVED	(0x1e6ULL | ~GPA_MASK)	/* bits 1-2, 5-8 and above the width */
#define DR6_WRITABLE	0xe00fULL
#define DR7_WRITABLE	0xffff23ffULL
#define DR7_ENABLES	0xffULL

static enum exec_status need_cpl0(struct vcpu *v)
{
	return v->cpl ? raise_gp(v, 0) : EXEC_OK;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

static bool pdptes_good(struct vcpu *v, uint64_t cr3)
{
	const uint64_t *table = gpa_to_hva(v->space, cr3 & 0xffffffe0, 32);
	uint64_t pdpte;

	/* Outside memory nothing answers: all ones, which are reserved bits as well. */
	if (!table)
		return false;
	/* Not gpa_read(): its memcpy() may use registers that hold the guest's (fpu.h). */
	for (unsigned int i = 0; i < 4; i++) {
		pdpte = __atomic_load_n(&table[i], __ATOMIC_RELAXED);
		if (pdpte & PTE_P && pdpte & PDPTE_RESERVED)
			return false;
	}
	return true;
}

/* --- CR0 --- */

/* May paging be switched on or off? */
static bool paging_change_good(struct vcpu *v, bool on)
{
	bool in_64 = v->seg[SEG_CS].attr & SEG_L;
	unsigned int tss = desc_type(&v->tr) & ~DESC_BUSY;

	if (!on)
		return !(v->cr4 & CR4_PCIDE) && !(in_long_mode(v) && in_64);
	if (!(v->efer & EFER_LME))
		return !(v->cr4 & CR4_PAE) || pdptes_good(v, v->cr3);
	return v->cr4 & CR4_PAE && !in_64 && tss != DESC_TSS16;
}

static enum exec_status set_cr0(struct vcpu *v, uint64_t value)
{
	uint64_t changed;

	if (value >> 32 || (value & CR0_PG && !(value & CR0_PE)) ||
	    (value & CR0_NW && !(value & CR0_CD)))
		return raise_gp(v, 0);
	value = (value & CR0_DEFINED) | CR0_ET;
	changed = v->cr0 ^ value;
	if (changed & CR0_PG && !paging_change_good(v, value & CR0_PG))
		return raise_gp(v, 0);

	v->cr0 = value;
	if (changed & CR0_PG) {
		v->efer &= ~EFER_LMA;
		if (value & CR0_PG && v->efer & EFER_LME)
			v->efer |= EFER_LMA;
	}
	if (changed & CR0_FLUSHES) {
		tlb_flush_all(v);
		vcpu_update_mode(v);
	} else if (changed & CR0_AM) {
		vcpu_update_mode(v);
	}
	return EXEC_OK;
}

/* --- CR3 --- */

void cr3_commit(struct vcpu *v, uint64_t cr3, bool keep)
{
	v->cr3 = cr3;
	tlb_switch_space(v, keep);
}

static enum exec_status set_cr3(struct vcpu *v, uint64_t value)
{
	bool keep = v->cr4 & CR4_PCIDE && value & CR3_NOFLUSH;

	if (keep)
		value &= ~CR3_NOFLUSH;
	if (in_long_mode(v) ? value & ~GPA_MASK : value >> 32)
		return raise_gp(v, 0);
	if (pae_paging(v->cr0, v->cr4, v->efer) && !pdptes_good(v, value))
		return raise_gp(v, 0);
	cr3_commit(v, value, keep);
	return EXEC_OK;
}

/* --- CR4 --- */

static uint64_t cr4_allowed(const struct cpu_model *m)
{
	static const struct {
		uint32_t bits;
		enum feature feature;
	} rows[] = {
		{ CR4_TSD, FEAT_TSC }, { CR4_DE, FEAT_DE }, { CR4_PSE, FEAT_PSE },
		{ CR4_PAE, FEAT_PAE }, { CR4_MCE, FEAT_MCE }, { CR4_PGE, FEAT_PGE },
		{ CR4_OSFXSR, FEAT_FXSR }, { CR4_OSXMMEXCPT, FEAT_SSE },
		{ CR4_UMIP, FEAT_UMIP }, { CR4_FSGSBASE, FEAT_FSGSBASE },
		{ CR4_PCIDE, FEAT_PCID }, { CR4_OSXSAVE, FEAT_XSAVE },
		{ CR4_SMEP, FEAT_SMEP }, { CR4_SMAP, FEAT_SMAP },
	};
	uint64_t allowed = CR4_PCE;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		if (model_has(m, rows[i].feature))
			allowed |= rows[i].bits;
	return allowed;
}

static bool cr4_good(struct vcpu *v, uint64_t value)
{
	uint64_t changed = v->cr4 ^ value;

	if (value & ~cr4_allowed(v->model))
		return false;
	if (in_long_mode(v) && !(value & CR4_PAE))
		return false;
	if (changed & value & CR4_PCIDE && (!in_long_mode(v) || v->cr3 & CR3_PCID))
		return false;
	if (changed & (CR4_PAE | CR4_PSE | CR4_PGE) && pae_paging(v->cr0, value, v->efer))
		return pdptes_good(v, v->cr3);
	return true;
}

static enum exec_status set_cr4(struct vcpu *v, uint64_t value)
{
	uint64_t changed = v->cr4 ^ value;

	if (!cr4_good(v, value))
		return raise_gp(v, 0);
	v->cr4 = value;
	if (changed & (CR4_FLUSHES | CR4_PCIDE))
		tlb_flush_all(v);
	if (changed)
		vcpu_update_mode(v);
	return EXEC_OK;
}

/* --- CR8 --- */

static enum exec_status set_cr8(struct vcpu *v, uint64_t value)
{
	if (value >> 4)
		return raise_gp(v, 0);
	fpu_put(v);
	v->intc_ops->set_tpr(v->intc, value << 4);
	return EXEC_OK;
}

enum exec_status sys_mov_to_cr(struct vcpu *v, unsigned int cr, uint64_t value)
{
	enum exec_status rc = need_cpl0(v);

	if (cr != 0 && cr != 2 && cr != 3 && cr != 4 && cr != 8)
		return raise_ud(v);
	if (rc != EXEC_OK)
		return rc;
	switch (cr) {
	case 0:
		return set_cr0(v, value);
	case 3:
		return set_cr3(v, value);
	case 4:
		return set_cr4(v, value);
	case 8:
		return set_cr8(v, value);
	default:
		v->cr2 = value;
		return EXEC_OK;
	}
}

enum exec_status sys_mov_from_cr(struct vcpu *v, unsigned int cr, uint64_t *value)
{
	enum exec_status rc = need_cpl0(v);

	if (cr != 0 && cr != 2 && cr != 3 && cr != 4 && cr != 8)
		return raise_ud(v);
	if (rc != EXEC_OK)
		return rc;
	switch (cr) {
	case 0:
		*value = v->cr0;
		break;
	case 2:
		*value = v->cr2;
		break;
	case 3:
		*value = v->cr3;
		break;
	case 4:
		*value = v->cr4;
		break;
	default:
		fpu_put(v);
		*value = v->intc_ops->get_tpr(v->intc) >> 4;
	}
	return EXEC_OK;
}

enum exec_status sys_clts(struct vcpu *v)
{
	enum exec_status rc = need_cpl0(v);

	if (rc == EXEC_OK)
		v->cr0 &= ~CR0_TS;
	return rc;
}

enum exec_status sys_lmsw(struct vcpu *v, uint16_t value)
{
	uint64_t mask = CR0_MP | CR0_EM | CR0_TS;
	enum exec_status rc = need_cpl0(v);

	if (rc != EXEC_OK)
		return rc;
	/* PE can be set this way, never cleared. */
	return set_cr0(v, (v->cr0 & ~mask) | (value & (mask | CR0_PE)));
}

/* --- debug registers --- */

/* Resolves @dr's alias; the checks come in the order that the processor makes them. */
static enum exec_status check_dr(struct vcpu *v, unsigned int *dr)
{
	if (*dr > 7 || (v->cr4 & CR4_DE && (*dr == 4 || *dr == 5)))
		return raise_ud(v);
	if (v->cpl)
		return raise_gp(v, 0);
	if (v->dr[7] & DR7_GD)
		return raise_db(v, DR6_BD);
	if (*dr == 4 || *dr == 5)
		*dr += 2;
	return EXEC_OK;
}

enum exec_status sys_mov_to_dr(struct vcpu *v, unsigned int dr, uint64_t value)
{
	enum exec_status rc = check_dr(v, &dr);
	uint64_t armed = v->dr[7];

	if (rc != EXEC_OK)
		return rc;
	if (dr >= 6 && value >> 32)
		return raise_gp(v, 0);
	if (dr == 6) {
		v->dr[6] = (value & DR6_WRITABLE) | DR6_FIXED;
		return EXEC_OK;
	}
	v->dr[dr] = dr == 7 ? (value & DR7_WRITABLE) | DR7_FIXED : value;
	/* Pages under a data breakpoint are kept out of the TLB. */
	if ((armed | v->dr[7]) & DR7_ENABLES)
		tlb_flush_all(v);
	return EXEC_OK;
}

enum exec_status sys_mov_from_dr(struct vcpu *v, unsigned int dr, uint64_t *value)
{
	enum exec_status rc = check_dr(v, &dr);

	if (rc == EXEC_OK)
		*value = v->dr[dr];
	return rc;
}

/* --- TLB and HLT --- */

enum exec_status sys_invlpg(struct vcpu *v, gva_t gva)
{
	enum exec_status rc = need_cpl0(v);

	if (rc == EXEC_OK && gva_canonical(gva))
		tlb_flush_page(v, gva);
	return rc;
}

enum exec_status sys_invpcid(struct vcpu *v, uint64_t type, uint64_t pcid, uint64_t gva)
{
	bool names_pcid = type <= 1;

	if (v->cpl || type > 3 || pcid & ~CR3_PCID)
		return raise_gp(v, 0);
	if (names_pcid && pcid && !(v->cr4 & CR4_PCIDE))
		return raise_gp(v, 0);
	if (type == 0 && !gva_canonical(gva))
		return raise_gp(v, 0);
	tlb_invpcid(v, type, pcid, gva);
	return EXEC_OK;
}

enum exec_status sys_hlt(struct vcpu *v)
{
	enum exec_status rc = need_cpl0(v);

	if (rc != EXEC_OK)
		return rc;
	stat_add(&v->stats.halts, 1);
	if (v->kicked) {
		v->kicked = false;
		return EXEC_OK;
	}
	v->halted = true;
	return EXEC_EXIT;
}
