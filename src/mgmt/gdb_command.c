// SPDX-License-Identifier: Apache-2.0
/*
 * What gdb asks: registers, memory, points, threads (a vCPU each, numbered from 1), going on.
 * A single step is done at once, with the other vCPUs standing still and interrupts waiting.
 *
 * Source: GDB's manual, "GDB Remote Serial Protocol".
 */
#include "mgmt/gdb_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vcpu *current(struct gdb *g)
{
	return vm_vcpu(g->vm, g->thread);
}

/* --- stopping and going on --- */

static void tell_points(struct gdb *g)
{
	vm_set_debugger(g->vm, &g->points, &g->hit_work);
}

/* The stop reply; a vCPU that has hit something becomes the current one. */
static void tell_stop(struct gdb *g, int signal)
{
	static const char *const names[] = {
		[DEBUG_WRITE] = "watch", [DEBUG_READ] = "rwatch", [DEBUG_ACCESS] = "awatch",
	};
	struct debug_hit hit = { .kind = DEBUG_NONE };

	for (unsigned int i = 0; i < vm_vcpu_count(g->vm) && !hit.kind; i++) {
		hit = vm_vcpu(g->vm, i)->debug_hit;
		if (hit.kind)
			g->thread = g->step_thread = i;
	}
	tell_points(g);		/* those that others hit are hit again, when they come to run */
	gdb_reply(g, "T%02xthread:%x;", hit.kind ? 5 : signal, g->thread + 1);
	if (hit.kind > DEBUG_BREAK)
		gdb_reply(g, "%s:%llx;", names[hit.kind], (unsigned long long)hit.addr);
}

void gdb_stop(struct gdb *g, int signal)
{
	vm_freeze(g->vm);
	loop_unpost(vm_loop(g->vm), &g->hit_work);
	g->running = false;
	tell_stop(g, signal);
	gdb_send(g);
}

static void go(struct gdb *g)
{
	g->running = true;
	tell_points(g);
	vm_thaw(g->vm);
}

void gdb_release(struct gdb *g)
{
	vm_freeze(g->vm);
	loop_unpost(vm_loop(g->vm), &g->hit_work);
	g->points.break_count = g->points.watch_count = 0;
	g->running = false;
	tell_points(g);
	vm_thaw(g->vm);
}

static void step(struct gdb *g, unsigned int vcpu)
{
	g->thread = vcpu;
	tell_points(g);
	vm_step(g->vm, vcpu);
	tell_stop(g, GDB_TRAP);
	gdb_send(g);
}

/* "ID" or "pPID.ID"; 0 and -1 are @any.  False: there is no such thread. */
static bool parse_thread(struct gdb *g, const char *text, unsigned int any, unsigned int *out)
{
	const char *dot = strchr(text, '.');
	const long n = strtol(dot ? dot + 1 : text, NULL, 16);

	*out = n <= 0 ? any : (unsigned int)n - 1;
	return n <= (long)vm_vcpu_count(g->vm);
}

/* s or c, with an address that nobody sends. */
static void old_resume(struct gdb *g, char *p, unsigned int len)
{
	if (len > 1) {
		gdb_reply(g, "E22");
		gdb_send(g);
	} else if (p[0] == 's') {
		step(g, g->step_thread);
	} else {
		go(g);
	}
}

/* vCont;ACTION[:THREAD]...: the first step decides; else all go on. */
static void resume(struct gdb *g, char *p)
{
	char *action = strchr(p, ';'), *next;
	bool any = false;

	for (; action; action = next) {
		char *thread = strchr(++action, ':');
		unsigned int vcpu = g->thread;

		next = strchr(action, ';');
		if (thread && next && thread > next)
			thread = NULL;
		if (thread && !parse_thread(g, thread + 1, g->thread, &vcpu))
			break;
		if (action[0] == 's' || action[0] == 'S') {
			step(g, vcpu);
			return;
		}
		any |= action[0] == 'c' || action[0] == 'C';
	}
	if (any) {
		go(g);
		return;
	}
	gdb_reply(g, "E22");
	gdb_send(g);
}

/* --- registers and memory --- */

static void read_registers(struct gdb *g)
{
	uint8_t buf[16];

	for (unsigned int n = 0; n < gdb_reg_count(); n++)
		gdb_reply_hex(g, buf, gdb_reg_read(current(g), n, buf));
}

/* What cannot be changed is left as it is. */
static void write_registers(struct gdb *g, const char *hex)
{
	uint8_t buf[16];

	for (unsigned int n = 0; n < gdb_reg_count(); n++) {
		const unsigned int size = gdb_reg_size(n);

		if (!gdb_unhex(buf, hex, size))
			break;
		gdb_reg_write(current(g), n, buf);
		hex += 2 * size;
	}
	gdb_reply(g, "OK");
}

static void one_register(struct gdb *g, const char *p)
{
	char *end;
	const unsigned long n = strtoul(p + 1, &end, 16);
	const unsigned int size = n < gdb_reg_count() ? gdb_reg_size(n) : 0;
	uint8_t buf[16];

	if (!size || (p[0] == 'P' && (*end != '=' || !gdb_unhex(buf, end + 1, size))))
		gdb_reply(g, "E22");
	else if (p[0] == 'p')
		gdb_reply_hex(g, buf, gdb_reg_read(current(g), n, buf));
	else
		gdb_reply(g, gdb_reg_write(current(g), n, buf) ? "OK" : "E22");
}

/* mADDR,LEN and MADDR,LEN:HEX */
static void memory(struct gdb *g, const char *p)
{
	uint8_t buf[GDB_PACKET_MAX / 2 - 1];
	char *end;
	const uint64_t addr = strtoull(p + 1, &end, 16);
	const uint64_t len = *end == ',' ? strtoull(end + 1, &end, 16) : UINT64_MAX;

	if (len > sizeof(buf) || (p[0] == 'M' && (*end != ':' || !gdb_unhex(buf, end + 1, len))))
		gdb_reply(g, "E22");
	else if (p[0] == 'M')
		gdb_reply(g, gdb_memory_write(g, addr, buf, len) ? "OK" : "E14");
	else if (gdb_memory_read(g, addr, buf, len))
		gdb_reply_hex(g, buf, len);
	else
		gdb_reply(g, "E14");
}

/* --- points --- */

static bool change_break(struct debugger *d, bool add, gva_t addr)
{
	unsigned int i = 0;

	while (i < d->break_count && d->brk[i] != addr)
		i++;
	if (add && i == d->break_count) {
		if (i == DEBUG_BREAKS_MAX)
			return false;
		d->brk[d->break_count++] = addr;
	} else if (!add && i < d->break_count) {
		d->brk[i] = d->brk[--d->break_count];
	}
	return true;
}

static bool change_watch(struct debugger *d, bool add, const struct debug_watch *w)
{
	unsigned int i = 0;

	if (!w->len || w->len > DEBUG_WATCH_LEN_MAX || w->first + (w->len - 1) < w->first)
		return false;
	while (i < d->watch_count && (d->watch[i].kind != w->kind ||
				      d->watch[i].first != w->first || d->watch[i].len != w->len))
		i++;
	if (add && i == d->watch_count) {
		if (i == DEBUG_WATCHES_MAX)
			return false;
		d->watch[d->watch_count++] = *w;
	} else if (!add && i < d->watch_count) {
		d->watch[i] = d->watch[--d->watch_count];
	}
	return true;
}

/* Z and z: TYPE,ADDR,LEN */
static void point(struct gdb *g, const char *p)
{
	static const enum debug_point kinds[] = {
		DEBUG_BREAK, DEBUG_BREAK, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS,
	};
	const unsigned int type = (unsigned int)(p[1] - '0');
	struct debug_watch w = { .kind = DEBUG_NONE };
	uint64_t len;
	char *end;
	bool ok;

	if (type >= ARRAY_SIZE(kinds) || p[2] != ',')
		return;		/* an empty reply: not supported */
	w.kind = kinds[type];
	w.first = strtoull(p + 3, &end, 16);
	len = *end == ',' ? strtoull(end + 1, NULL, 16) : 0;
	w.len = MIN(len, (uint64_t)UINT32_MAX);
	if (w.kind == DEBUG_BREAK)
		ok = change_break(&g->points, p[0] == 'Z', w.first);
	else
		ok = change_watch(&g->points, p[0] == 'Z', &w);
	gdb_reply(g, ok ? "OK" : "E28");
}

/* --- queries --- */

/* qXfer:features:read:target.xml:OFFSET,LENGTH */
static void description(struct gdb *g, const char *range)
{
	char *end, *xml = gdb_reg_xml();
	const uint64_t offset = strtoull(range, &end, 16);
	const uint64_t want = *end == ',' ? strtoull(end + 1, NULL, 16) : 0;
	const size_t size = xml ? strlen(xml) : 0;
	const uint64_t n = MIN(want, GDB_PACKET_MAX - 16);

	if (!xml || offset > size)
		gdb_reply(g, "E22");
	else	/* nothing in it is to be escaped */
		gdb_reply(g, "%c%.*s", size - offset > n ? 'm' : 'l', (int)n, xml + offset);
	free(xml);
}

static void list_threads(struct gdb *g, bool from_start)
{
	const unsigned int count = vm_vcpu_count(g->vm);

	if (!from_start) {
		gdb_reply(g, "l");
		return;
	}
	for (unsigned int i = 0; i < count; i++)
		gdb_reply(g, "%c%x", i ? ',' : 'm', i + 1);
}

static void name_thread(struct gdb *g, const char *text)
{
	char name[64];
	unsigned int n;

	if (!parse_thread(g, text, 0, &n)) {
		gdb_reply(g, "E22");
		return;
	}
	snprintf(name, sizeof(name), "processor %u%s, CPL %u", n,
		 vm_vcpu(g->vm, n)->halted ? " (halted)" : "", vm_vcpu(g->vm, n)->cpl);
	gdb_reply_hex(g, name, strlen(name));
}

static bool starts(const char *p, const char *with)
{
	return !strncmp(p, with, strlen(with));
}

/* q and Q; what is not known gets an empty reply. */
static void query(struct gdb *g, const char *p)
{
	static const char xml[] = "qXfer:features:read:target.xml:";

	if (starts(p, "qSupported"))
		gdb_reply(g, "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
			  "hwbreak-;swbreak-", GDB_PACKET_MAX - 1);
	else if (starts(p, xml))
		description(g, p + sizeof(xml) - 1);
	else if (!strcmp(p, "qfThreadInfo") || !strcmp(p, "qsThreadInfo"))
		list_threads(g, p[1] == 'f');
	else if (starts(p, "qThreadExtraInfo,"))
		name_thread(g, p + strlen("qThreadExtraInfo,"));
	else if (!strcmp(p, "qC"))
		gdb_reply(g, "QC%x", g->thread + 1);
	else if (starts(p, "qAttached"))
		gdb_reply(g, "1");
	else if (starts(p, "qqemu.PhyMemMode"))
		gdb_reply(g, "%u", g->physical);
	else if (starts(p, "Qqemu.PhyMemMode:")) {
		g->physical = p[strlen("Qqemu.PhyMemMode:")] == '1';
		gdb_reply(g, "OK");
	} else if (!strcmp(p, "QStartNoAckMode")) {
		g->no_ack = true;
		gdb_reply(g, "OK");
	}
}

/* --- all of them --- */

static void select_thread(struct gdb *g, const char *p)
{
	unsigned int n;

	if ((p[1] != 'g' && p[1] != 'c') || !parse_thread(g, p + 2, g->thread, &n)) {
		gdb_reply(g, "E22");
		return;
	}
	*(p[1] == 'g' ? &g->thread : &g->step_thread) = n;
	gdb_reply(g, "OK");
}

/* D and k; a client that goes away leaves the guest as it was. */
static void leave(struct gdb *g, const char *p)
{
	if (p[0] == 'D') {
		gdb_reply(g, "OK");
		gdb_send(g);
		gdb_drop(g);
	} else {
		vm_stop(g->vm);
		gdb_drop(g);
	}
}

void gdb_command(struct gdb *g, char *p, unsigned int len)
{
	unsigned int n;

	if (g->running)		/* only an interrupt means anything now */
		return;
	g->reply_len = 0;
	switch (p[0]) {
	case 's': case 'c':
		old_resume(g, p, len);
		return;
	case 'D': case 'k':
		leave(g, p);
		return;
	case 'v':
		if (starts(p, "vCont;")) {
			resume(g, p);
			return;
		}
		if (!strcmp(p, "vCont?"))
			gdb_reply(g, "vCont;c;C;s;S");
		break;
	case '?': tell_stop(g, GDB_TRAP); break;
	case 'g': read_registers(g); break;
	case 'G': write_registers(g, p + 1); break;
	case 'p': case 'P': one_register(g, p); break;
	case 'm': case 'M': memory(g, p); break;
	case 'Z': case 'z': point(g, p); break;
	case 'H': select_thread(g, p); break;
	case 'T':
		gdb_reply(g, parse_thread(g, p + 1, 0, &n) ? "OK" : "E22");
		break;
	case 'q': case 'Q': query(g, p); break;
	}
	gdb_send(g);
}
