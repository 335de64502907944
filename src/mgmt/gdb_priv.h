/* SPDX-License-Identifier: Apache-2.0 */
/* The gdb server's parts: gdb.c (connection), gdb_command.c, gdb_regs.c, gdb_memory.c. */
#ifndef VIREO_MGMT_GDB_PRIV_H
#define VIREO_MGMT_GDB_PRIV_H

#include "base/loop.h"
#include "cpu/debugger.h"
#include "cpu/vcpu.h"
#include "machine/vm.h"
#include "mgmt/gdb.h"

#define GDB_PACKET_MAX	4096U	/* bytes between $ and # */
#define GDB_OUT_MAX	(2 * GDB_PACKET_MAX + 64)

/* Signals, by the protocol's own numbers. */
enum { GDB_INT = 2, GDB_TRAP = 5 };

/* All on the loop's thread. */
struct gdb {
	struct vm *vm;
	char *path;			/* of a unix socket, or NULL */
	int listener, client;		/* -1: none */
	int spare;			/* see unix_accept() */
	struct loop_work hit_work;	/* a vCPU has stopped */
	struct debugger points;
	bool running;			/* the client waits for a stop */
	bool no_ack;
	bool physical;			/* memory addresses are guest-physical */
	unsigned int thread;		/* vCPU that registers and memory are of */
	unsigned int step_thread;	/* ... and that s steps */
	char in[GDB_PACKET_MAX + 4];	/* a packet that is not complete, or what follows */
	unsigned int in_len;
	char out[GDB_OUT_MAX];		/* what the client has not taken yet */
	unsigned int out_len, out_sent;
	unsigned int list_next;		/* qsThreadInfo */
	char reply[GDB_PACKET_MAX];	/* of the packet that is looked at */
	unsigned int reply_len;
};

/* gdb_command.c */

/* Does what the packet of @len bytes says; it ends in a NUL. */
void gdb_command(struct gdb *g, char *packet, unsigned int len);
/* Freezes the VM and tells why: @signal where no vCPU has hit anything. */
void gdb_stop(struct gdb *g, int signal);
/* Forgets all points and lets the VM go. */
void gdb_release(struct gdb *g);

/* gdb.c */

void gdb_reply(struct gdb *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gdb_reply_hex(struct gdb *g, const void *data, unsigned int len);
/* Sends what gdb_reply() gathered as a packet. */
void gdb_send(struct gdb *g);
/* Hangs up. */
void gdb_drop(struct gdb *g);

/* Two digits a byte; false: not @len bytes of them. */
bool gdb_unhex(void *data, const char *hex, unsigned int len);

/* gdb_regs.c */

unsigned int gdb_reg_count(void);
/* Up to 16 bytes of register @n into @buf; returns how many. */
unsigned int gdb_reg_read(struct vcpu *v, unsigned int n, uint8_t *buf);
unsigned int gdb_reg_size(unsigned int n);
/* False: it cannot be changed, or not to that. */
bool gdb_reg_write(struct vcpu *v, unsigned int n, const uint8_t *buf);
/* The target description, made anew; free() it.  NULL: no memory. */
char *gdb_reg_xml(void);

/* gdb_memory.c: false: nothing is mapped at some of it. */

bool gdb_memory_read(struct gdb *g, uint64_t addr, uint8_t *buf, unsigned int len);
bool gdb_memory_write(struct gdb *g, uint64_t addr, const uint8_t *buf, unsigned int len);

#endif
