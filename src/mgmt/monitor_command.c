// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor's commands; see monitor_command.h.  Their answers are for people; scripts that
 * read them know QEMU's form of the first line, which is kept where there is one.
 */
#include "mgmt/monitor_command.h"
#include "backend/block.h"
#include "cpu/vcpu.h"
#include "machine/vm.h"
#include "mgmt/qemu_priv.h"
#include "mgmt/qmp_priv.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_END	"\r\n"

struct monitor {
	struct vm_access *at;
	FILE *out;
};

/* --- info --- */

static void info_status(struct monitor *m)
{
	struct vm *vm = m->at->vm;

	fprintf(m->out, "VM status: %s" LINE_END, vm_is_off(vm) ? "paused (shutdown)" :
		vm_is_paused(vm) ? "paused" : "running");
}

static void info_version(struct monitor *m)
{
	fprintf(m->out, "%d.%d.%d (Vireo " VIREO_VERSION ")" LINE_END, QMP_MAJOR, QMP_MINOR, QMP_MICRO);
}

static void info_kvm(struct monitor *m)
{
	fprintf(m->out, "kvm support: %s" LINE_END,
		strcmp(vm_engine_name(m->at->vm), "kvm") ? "disabled" : "enabled");
}

static void info_name(struct monitor *m)
{
	const struct run_options *o = m->at->options;

	if (o->label || o->name)
		fprintf(m->out, "%s" LINE_END, o->label ? o->label : o->name);
}

static void info_uuid(struct monitor *m)
{
	const struct run_options *o = m->at->options;

	fprintf(m->out, "%s" LINE_END, o->uuid ? o->uuid : "00000000-0000-0000-0000-000000000000");
}

static void info_cpus(struct monitor *m)
{
	for (unsigned int i = 0; i < vm_cpus(m->at->vm); i++)
		fprintf(m->out, "%c CPU #%u: thread_id=%d" LINE_END, i ? ' ' : '*', i,
			vm_vcpu_thread(m->at->vm, i));
}

static void tell_disk(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	struct monitor *m = arg;

	fprintf(m->out, "%s: %s (%s%s)" LINE_END "    %llu bytes, PCI slot %u", disk->id, info->path,
		info->format, info->read_only ? ", read-only" : "", (unsigned long long)info->size,
		disk->slot);
	if (disk->target >= 0)
		fprintf(m->out, ", SCSI target %d", disk->target);
	fprintf(m->out, LINE_END);
}

static void info_block(struct monitor *m)
{
	run_disks_list(m->at->disks, tell_disk, m);
}

static void tell_net(void *arg, const struct run_net_info *net)
{
	struct monitor *m = arg;

	fprintf(m->out, "%s: type=%s%s%s" LINE_END "    PCI slot %u" LINE_END, net->id, net->kind,
		net->netdev[0] ? ",netdev=" : "", net->netdev, net->slot);
}

static void info_network(struct monitor *m)
{
	run_nets_list(m->at->nets, tell_net, m);
}

static void tell_counts(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	struct monitor *m = arg;
	const struct block_count *n = disk->count;

	(void)info;
	fprintf(m->out, "%s: rd_bytes=%llu wr_bytes=%llu rd_operations=%llu wr_operations=%llu "
		"flush_operations=%llu" LINE_END, disk->id, (unsigned long long)n[BLOCK_READ].bytes,
		(unsigned long long)(n[BLOCK_WRITE].bytes + n[BLOCK_WRITE_ZEROES].bytes),
		(unsigned long long)n[BLOCK_READ].requests,
		(unsigned long long)(n[BLOCK_WRITE].requests + n[BLOCK_WRITE_ZEROES].requests),
		(unsigned long long)n[BLOCK_FLUSH].requests);
}

static void info_blockstats(struct monitor *m)
{
	run_disks_list(m->at->disks, tell_counts, m);
}

static void info_chardev(struct monitor *m)
{
	const struct run_options *o = m->at->options;

	fprintf(m->out, "serial0: filename=%s" LINE_END, o->serial_count ? o->serial[0] : "stdio");
	if (o->serial_count > 1)
		fprintf(m->out, "serial1: filename=%s" LINE_END, o->serial[1]);
	for (unsigned int i = 0; i < o->console_count; i++)
		fprintf(m->out, "console%u: filename=%s" LINE_END, i, o->console[i]);
}

static void print_segment(FILE *out, const char *name, const struct segment *s)
{
	fprintf(out, "%-3s=%04x %016llx %08x %08x" LINE_END, name, s->sel,
		(unsigned long long)s->base, s->limit, (uint32_t)s->attr << 8);
}

static void print_vcpu(FILE *out, const struct vcpu *v)
{
	static const char *const regs[16] = {
		"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
		"R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15",
	};
	static const uint8_t order[16] = { 0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15 };
	static const char *const segments[6] = { "ES", "CS", "SS", "DS", "FS", "GS" };

	fprintf(out, LINE_END "CPU#%u" LINE_END, v->index);
	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++)
		fprintf(out, "%s=%016llx%s", regs[order[i]], (unsigned long long)v->gpr[order[i]],
			i % 4 == 3 ? LINE_END : " ");
	fprintf(out, "RIP=%016llx RFL=%08llx CPL=%u HLT=%u" LINE_END, (unsigned long long)v->rip,
		(unsigned long long)v->rflags, v->cpl, v->halted);
	for (unsigned int i = 0; i < ARRAY_SIZE(segments); i++)
		print_segment(out, segments[i], &v->seg[i]);
	print_segment(out, "LDT", &v->ldtr);
	print_segment(out, "TR", &v->tr);
	fprintf(out, "GDT=     %016llx %08x" LINE_END "IDT=     %016llx %08x" LINE_END,
		(unsigned long long)v->gdtr.base, v->gdtr.limit, (unsigned long long)v->idtr.base,
		v->idtr.limit);
	fprintf(out, "CR0=%08llx CR2=%016llx CR3=%016llx CR4=%08llx" LINE_END "EFER=%016llx" LINE_END,
		(unsigned long long)v->cr0, (unsigned long long)v->cr2, (unsigned long long)v->cr3,
		(unsigned long long)v->cr4, (unsigned long long)v->efer);
}

/* Of all processors, at one moment. */
static void info_registers(struct monitor *m)
{
	const bool ran = vm_still(m->at->vm);

	for (unsigned int i = 0; i < vm_cpus(m->at->vm); i++)
		print_vcpu(m->out, vm_vcpu(m->at->vm, i));
	vm_go_on(m->at->vm, ran);
}

static const struct {
	const char *name, *help;
	void (*show)(struct monitor *m);
} infos[] = {
	{ "block", "the disks", info_block },
	{ "blockstats", "what the disks have done", info_blockstats },
	{ "chardev", "where serial ports and consoles lead", info_chardev },
	{ "cpus", "the processors and their threads", info_cpus },
	{ "kvm", "is KVM the engine?", info_kvm },
	{ "name", "the VM's name", info_name },
	{ "network", "the network cards", info_network },
	{ "registers", "of all processors", info_registers },
	{ "status", "does it run?", info_status },
	{ "uuid", "the VM's UUID", info_uuid },
	{ "version", "of what is spoken, and of Vireo", info_version },
};

static void info(struct monitor *m, const char *what)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(infos); i++) {
		if (!strcmp(what, infos[i].name)) {
			infos[i].show(m);
			return;
		}
		if (!what[0])
			fprintf(m->out, "info %-10s -- %s" LINE_END, infos[i].name, infos[i].help);
	}
	if (what[0])
		fprintf(m->out, "unknown command: 'info %.100s'" LINE_END, what);
}

/* --- the others --- */

static void tell_refusal(struct monitor *m, json_t *reply)
{
	const char *desc = json_string_value(json_object_get(json_object_get(reply, "error"), "desc"));

	if (desc)
		fprintf(m->out, "Error: %s" LINE_END, desc);
	json_decref(reply);
}

/* Those of QMP that need no arguments. */
static void same_in_qmp(struct monitor *m, const char *name)
{
	json_t *request = json_pack("{s:s}", "execute", name);

	tell_refusal(m, json_command_answer(&vm_commands, m->at, request));
	json_decref(request);
}

static void no_snapshots(struct monitor *m, const char *unused)
{
	(void)unused;
	fprintf(m->out, "Error: snapshots of a running VM are not there: its devices' state cannot be "
		"saved; a disk's can: 'vireo run --disk FILE,snapshot=on'" LINE_END);
}

/* The value of "key=" among the items of @text into @out, its commas twice; false: it is not there. */
static bool value_of(const char *text, const char *key, char *out, size_t size)
{
	const size_t n = strlen(key);
	size_t len;

	while (*text) {
		for (len = strcspn(text, ","); text[len] && text[len + 1] == ','; len += 2 + strcspn(text + len + 2, ","))
			;
		if (len > n && !strncmp(text, key, n) && text[n] == '=')
			return snprintf(out, size, "%.*s", (int)(len - n - 1), text + n + 1) < (int)size;
		text += len + (text[len] == ',');
	}
	return false;
}

/* drive_add 0 if=none,file=PATH,id=NAME[,format=raw|qcow2][,readonly=on] */
static void drive_add(struct monitor *m, const char *rest)
{
	char file[1024], id[64], format[16] = "", only[8] = "off", serial[24] = "", text[1300];
	const char *options = strchr(rest, ' ');
	struct err e = { 0 };

	if (!options || !value_of(options + 1, "file", file, sizeof(file)) ||
	    !value_of(options + 1, "id", id, sizeof(id))) {
		fprintf(m->out, "usage: drive_add 0 if=none,file=PATH,id=NAME,format=raw" LINE_END);
		return;
	}
	value_of(options + 1, "format", format, sizeof(format));
	value_of(options + 1, "readonly", only, sizeof(only));
	value_of(options + 1, "serial", serial, sizeof(serial));
	snprintf(text, sizeof(text), "%s%s%s%s%s%s", file, strcmp(only, "on") ? "" : ",readonly=on",
		 format[0] ? ",format=" : "", format, serial[0] ? ",serial=" : "", serial);
	if (run_node_add(m->at->disks, id, text, &e))
		fprintf(m->out, "Error: %s" LINE_END, e.text);
	else
		fprintf(m->out, "OK" LINE_END);
}

/* "first,key=value,...", as QEMU's command line has it, as an object; @first is the key of its first word. */
static json_t *object_of(const char *text, const char *first)
{
	char item[QEMU_TEXT_MAX], *value;
	json_t *all = json_object(), *list;
	bool whole = true;

	for (const char *key = first; *text && whole; key = NULL) {
		text = qemu_next_item(text, item, sizeof(item), &whole);
		value = strchr(item, '=');
		if (value)
			*value++ = '\0';
		else if (key)
			value = item;
		if (value != item)
			key = item;
		list = json_object_get(all, key);
		if (!list) {
			json_object_set_new(all, key, json_string(value ? value : "on"));
			continue;
		}
		/* Given more than once: a list, as QMP has hostfwd. */
		if (json_is_string(list)) {
			json_object_set_new(all, key, json_pack("[{s:O}]", "str", list));
			list = json_object_get(all, key);
		}
		json_array_append_new(list, json_pack("{s:s}", "str", value ? value : "on"));
	}
	return all;
}

/* device_add DRIVER,drive=NAME[,id=ID][,serial=TEXT], DRIVER,netdev=NAME[,id=ID][,mac=ADDRESS] */
static void device_add(struct monitor *m, const char *rest)
{
	json_t *arguments = object_of(rest, "driver");

	tell_refusal(m, vm_device_add(m->at, arguments));
	json_decref(arguments);
}

static void netdev_add(struct monitor *m, const char *rest)
{
	json_t *arguments = object_of(rest, "type");

	tell_refusal(m, vm_netdev_add(m->at, arguments));
	json_decref(arguments);
}

static void netdev_del(struct monitor *m, const char *rest)
{
	tell_refusal(m, vm_netdev_del(m->at, rest));
}

static void device_del(struct monitor *m, const char *rest)
{
	tell_refusal(m, vm_device_del(m->at, rest));
}

static void help(struct monitor *m, const char *unused);

static const struct monitor_row {
	const char *name, *other, *usage;
	void (*run)(struct monitor *m, const char *rest);
	const char *qmp;	/* NULL: @rest is what follows */
} rows[] = {
	{ "cont", "c", "let a stopped VM go on", same_in_qmp, "cont" },
	{ "delvm", NULL, "not here: says why", no_snapshots, NULL },
	{ "device_add", NULL, "virtio-blk-pci|scsi-hd,drive=NAME,id=ID: a disk of what drive_add named; "
	  "virtio-net-pci,netdev=NAME,id=ID: a network card", device_add, NULL },
	{ "device_del", NULL, "ID: ask the guest to let go of a device", device_del, NULL },
	{ "drive_add", NULL, "0 if=none,file=PATH,id=NAME: name a file for device_add", drive_add, NULL },
	{ "help", "?", "this list", help, NULL },
	{ "info", NULL, "show something of the VM; alone: what there is", info, NULL },
	{ "loadvm", NULL, "not here: says why", no_snapshots, NULL },
	{ "netdev_add", NULL, "user|socket,id=NAME,...: open a network for device_add", netdev_add, NULL },
	{ "netdev_del", NULL, "NAME: close it", netdev_del, NULL },
	{ "quit", "q", "end the VM", same_in_qmp, "quit" },
	{ "savevm", NULL, "not here: says why", no_snapshots, NULL },
	{ "stop", "s", "stop the VM and its time", same_in_qmp, "stop" },
	{ "system_powerdown", NULL, "press the power button", same_in_qmp, "system_powerdown" },
	{ "system_reset", NULL, "press the reset button", same_in_qmp, "system_reset" },
};

static void help(struct monitor *m, const char *unused)
{
	(void)unused;
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		fprintf(m->out, "%s%s%s -- %s" LINE_END, rows[i].name, rows[i].other ? "|" : "",
			rows[i].other ? rows[i].other : "", rows[i].usage);
}

static void run_line(struct monitor *m, char *line)
{
	char *name, *rest;

	line += strspn(line, " \t");
	line[strcspn(line, "\r\n")] = '\0';
	name = strsep(&line, " \t");
	rest = line ? line + strspn(line, " \t") : name + strlen(name);
	for (char *end = rest + strlen(rest); end > rest && end[-1] == ' ';)
		*--end = '\0';
	if (!name[0])
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct monitor_row *r = &rows[i];

		if (strcmp(name, r->name) && (!r->other || strcmp(name, r->other)))
			continue;
		r->run(m, r->qmp ? r->qmp : rest);
		return;
	}
	fprintf(m->out, "unknown command: '%.100s'" LINE_END, name);
}

char *monitor_command(struct vm_access *at, const char *line)
{
	char *copy = strdup(line), *text = NULL;
	struct monitor m = { .at = at };
	size_t size;

	m.out = copy ? open_memstream(&text, &size) : NULL;
	if (m.out) {
		run_line(&m, copy);
		fclose(m.out);
	}
	free(copy);
	return text;
}
