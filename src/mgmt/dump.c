// SPDX-License-Identifier: Apache-2.0
/*
 * The core file of a guest; see dump.h.  Headers, a note for each processor, then the memory,
 * in which pages that were never touched are holes of the file.
 *
 * Sources: System V ABI, "Program Header" and "Note Section"; the layout of the notes named QEMU
 * as crash reads it (struct qemuCPUState).
 */
#include "mgmt/dump.h"
#include "mgmt/dump_map.h"
#include "cpu/vcpu.h"
#include "machine/vm.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <unistd.h>

#define QEMU_NOTE_VERSION	1
#define CHUNK			(1U << 20)

struct qemu_segment {
	uint32_t selector, limit, flags, pad;
	uint64_t base;
};

/* The body of a note named QEMU. */
struct qemu_cpu {
	uint32_t version, size;
	uint64_t gpr[16];	/* rax rbx rcx rdx rsi rdi rsp rbp r8-r15 */
	uint64_t rip, rflags;
	struct qemu_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
	uint64_t cr[5];
	uint64_t kernel_gs_base;
};

struct core_note {
	Elf64_Nhdr header;
	char name[8];		/* CORE */
	struct elf_prstatus status;
} __attribute__((packed));

struct qemu_note {
	Elf64_Nhdr header;
	char name[8];		/* QEMU */
	struct qemu_cpu cpu;
} __attribute__((packed));

_Static_assert(sizeof(struct qemu_cpu) == 440, "a packed structure");

/* --- notes --- */

static void fill_core(struct core_note *n, const struct vcpu *v)
{
	const uint64_t *r = v->gpr;
	const uint64_t regs[ELF_NGREG] = {
		r[REG_R15], r[REG_R14], r[REG_R13], r[REG_R12], r[REG_RBP], r[REG_RBX],
		r[REG_R11], r[REG_R10], r[REG_R9], r[REG_R8], r[REG_RAX], r[REG_RCX],
		r[REG_RDX], r[REG_RSI], r[REG_RDI], 0, v->rip, v->seg[SEG_CS].sel, v->rflags,
		r[REG_RSP], v->seg[SEG_SS].sel, v->seg[SEG_FS].base, v->seg[SEG_GS].base,
		v->seg[SEG_DS].sel, v->seg[SEG_ES].sel, v->seg[SEG_FS].sel, v->seg[SEG_GS].sel,
	};

	*n = (struct core_note){
		.header = { .n_namesz = sizeof("CORE"), .n_descsz = sizeof(n->status),
			    .n_type = NT_PRSTATUS },
		.name = "CORE",
		.status.pr_pid = v->index + 1,
	};
	memcpy(&n->status.pr_reg, regs, sizeof(regs));
}

static struct qemu_segment segment_of(const struct segment *s)
{
	return (struct qemu_segment){ .selector = s->sel, .limit = s->limit,
				      .flags = (uint32_t)s->attr << 8, .base = s->base };
}

static void fill_qemu(struct qemu_note *n, const struct vcpu *v)
{
	static const uint8_t order[16] = {
		REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RSP, REG_RBP,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
	};

	*n = (struct qemu_note){
		.header = { .n_namesz = sizeof("QEMU"), .n_descsz = sizeof(n->cpu) },
		.name = "QEMU",
		.cpu = {
			.version = QEMU_NOTE_VERSION, .size = sizeof(n->cpu),
			.rip = v->rip, .rflags = v->rflags,
			.cs = segment_of(&v->seg[SEG_CS]), .ds = segment_of(&v->seg[SEG_DS]),
			.es = segment_of(&v->seg[SEG_ES]), .fs = segment_of(&v->seg[SEG_FS]),
			.gs = segment_of(&v->seg[SEG_GS]), .ss = segment_of(&v->seg[SEG_SS]),
			.ldt = segment_of(&v->ldtr), .tr = segment_of(&v->tr),
			.gdt = { .limit = v->gdtr.limit, .base = v->gdtr.base },
			.idt = { .limit = v->idtr.limit, .base = v->idtr.base },
			.cr = { v->cr0, 0, v->cr2, v->cr3, v->cr4 },
			.kernel_gs_base = v->kernel_gs_base,
		},
	};
	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++)
		n->cpu.gpr[i] = v->gpr[order[i]];
}

/* --- the file --- */

static int write_all(int fd, const void *data, size_t len, uint64_t at, struct err *e)
{
	const uint8_t *p = data;

	while (len) {
		const ssize_t n = pwrite(fd, p, MIN(len, CHUNK), at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(e, n ? errno : ENOSPC, "could not write the dump");
		p += n;
		at += n;
		len -= n;
	}
	return 0;
}

static uint64_t notes_size(struct vm *vm)
{
	return vm_cpus(vm) * (sizeof(struct core_note) + sizeof(struct qemu_note));
}

/* gdb wants those of the first kind together, at the beginning. */
static int write_notes(struct vm *vm, int fd, uint64_t at, struct err *e)
{
	const unsigned int count = vm_cpus(vm);
	struct core_note core;
	struct qemu_note qemu;
	int rc = 0;

	for (unsigned int i = 0; i < count && !rc; i++, at += sizeof(core)) {
		fill_core(&core, vm_vcpu(vm, i));
		rc = write_all(fd, &core, sizeof(core), at, e);
	}
	for (unsigned int i = 0; i < count && !rc; i++, at += sizeof(qemu)) {
		fill_qemu(&qemu, vm_vcpu(vm, i));
		rc = write_all(fd, &qemu, sizeof(qemu), at, e);
	}
	return rc;
}

/* What of @x was ever touched. */
static int write_extent(const struct ram_extent *x, int fd, uint64_t at, struct err *e)
{
	off_t from = 0, to;
	int rc = 0;

	while (!rc && (from = lseek(x->fd, from, SEEK_DATA)) >= 0) {
		to = lseek(x->fd, from, SEEK_HOLE);
		if (to < 0)
			return err_errno(e, errno, "could not read the guest's memory");
		rc = write_all(fd, x->hva + from, to - from, at + from, e);
		from = to;
	}
	return rc;
}

static int write_headers(int fd, const struct dump_map *map, uint64_t notes, uint64_t notes_len,
			 struct err *e)
{
	const Elf64_Ehdr head = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_CORE, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
		.e_phoff = sizeof(head), .e_ehsize = sizeof(head),
		.e_phentsize = sizeof(Elf64_Phdr), .e_phnum = map->count + 1,
	};
	Elf64_Phdr *p = calloc(map->count + 1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(e, ENOMEM, "out of memory for the dump's headers");
	p[0] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = notes, .p_filesz = notes_len,
			     .p_memsz = notes_len, .p_align = 4 };
	for (unsigned int i = 0; i < map->count; i++) {
		const struct dump_piece *d = &map->piece[i];

		p[i + 1] = (Elf64_Phdr){
			.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X,
			.p_offset = d->offset, .p_vaddr = d->gva, .p_paddr = d->gpa,
			.p_filesz = d->size, .p_memsz = d->size,
		};
	}
	rc = write_all(fd, &head, sizeof(head), 0, e);
	if (!rc)
		rc = write_all(fd, p, (map->count + 1) * sizeof(*p), sizeof(head), e);
	free(p);
	return rc;
}

int dump_guest_memory(struct vm *vm, int fd, bool paging, struct err *e)
{
	struct gpa_space *s = vm_space(vm);
	uint64_t notes, memory, at;
	struct dump_map map;
	int rc;

	rc = dump_map_make(&map, s, paging ? vm_vcpu(vm, 0) : NULL, e);
	if (rc)
		return rc;
	notes = sizeof(Elf64_Ehdr) + (map.count + 1) * sizeof(Elf64_Phdr);
	memory = ALIGN_UP(notes + notes_size(vm), GUEST_PAGE_SIZE);
	dump_map_move(&map, memory);
	rc = write_headers(fd, &map, notes, notes_size(vm), e);
	if (!rc)
		rc = write_notes(vm, fd, notes, e);
	at = memory;
	for (unsigned int i = 0; i < s->ram_count && !rc; i++) {
		rc = write_extent(&s->ram[i], fd, at, e);
		at += s->ram[i].size;
	}
	if (!rc && ftruncate(fd, at))
		rc = err_errno(e, errno, "could not write the dump");
	dump_map_free(&map);
	return rc;
}
