// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo trace`: what the translator makes of one place in a guest.  The guest boots as under
 * `vireo run`, its console leads nowhere, and when the block with the address is translated
 * guest code and host code are printed side by side.
 */
#include "engine/trace.h"
#include "machine/vm.h"
#include "mgmt/command.h"
#include "mgmt/run_options.h"
#include "mgmt/run_priv.h"
#include "mgmt/status.h"
#include "mgmt/symbols.h"

#include <Zydis/Zydis.h>

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEFT_WIDTH	54
#define TIMES_MAX	1000

struct trace_options {
	struct run_options run;		/* first: its set functions are used */
	const char *at, *symbols;
	unsigned int times;
	bool json;
};

struct trace {
	struct trace_options options;
	struct symbols *symbols;	/* or NULL */
	struct engine_trace hook;
	struct vm *vm;
	unsigned int shown;
	ZydisDecoder decoder, decoder32;
	ZydisFormatter formatter;
};

/* --- printing, on the vCPU's thread --- */

/* The next line of the host's column, or "" when there is none. */
static const char *host_line(struct trace *t, const uint8_t **code, unsigned int *left,
			     char *text, size_t size)
{
	ZydisDecodedInstruction i;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	int n;

	if (!*left)
		return "";
	n = snprintf(text, size, "%05x  ", (unsigned int)((uintptr_t)*code & 0xfffff));
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&t->decoder, *code, *left, &i, ops)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&t->formatter, &i, ops,
							  i.operand_count_visible, text + n,
							  size - n, (uintptr_t)*code, NULL))) {
		snprintf(text + n, size - n, "db 0x%02x", **code);
		i.length = 1;
	}
	*code += i.length;
	*left -= i.length;
	return text;
}

static void guest_line(struct trace *t, const struct trace_insn *g, char *text, size_t size)
{
	ZydisDecodedInstruction i;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	int n = snprintf(text, size, "%016" PRIx64 "  ", g->gva);
	const ZydisDecoder *d = g->code32 ? &t->decoder32 : &t->decoder;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(d, g->bytes, g->len, &i, ops)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&t->formatter, &i, ops,
							  i.operand_count_visible, text + n,
							  size - n, g->gva, NULL)))
		snprintf(text + n, size - n, "?");
}

static void print_row(const char *left, const char *right)
{
	if (*right)
		printf("%-*s| %s\n", LEFT_WIDTH, left, right);
	else
		printf("%-*s|\n", LEFT_WIDTH, left);
}

/* Guest instruction and what became of it, beside its host code. */
static void print_insn(struct trace *t, const struct trace_insn *g)
{
	const uint8_t *code = g->code;
	unsigned int left = g->code_len;
	char guest[128], host[128], why[160];
	const char *at = why;

	guest_line(t, g, guest, sizeof(guest));
	print_row(guest, host_line(t, &code, &left, host, sizeof(host)));
	snprintf(why, sizeof(why), "%s: %s", g->insn_class, g->why ? g->why : "not reached");
	while (*at || left) {
		char part[LEFT_WIDTH] = "    ";
		size_t n = strlen(at), fits = LEFT_WIDTH - 6;

		if (n > fits)
			for (n = fits; n > 1 && at[n] != ' '; n--)
				;
		memcpy(part + 4, at, n);
		part[4 + n] = '\0';
		at += n;
		at += *at == ' ';
		print_row(part[4] ? part : "", host_line(t, &code, &left, host, sizeof(host)));
	}
}

static void print_place(const struct trace *t, gva_t gva)
{
	uint64_t off;
	const char *name = symbols_name(t->symbols, gva, &off);

	if (name)
		printf(" <%s+0x%" PRIx64 ">", name, off);
}

/* A list of the host's instructions in @code. */
static json_t *host_json(struct trace *t, const uint8_t *code, unsigned int left)
{
	json_t *list = json_array();
	char text[128];

	while (left)
		json_array_append_new(list, json_string(host_line(t, &code, &left, text, sizeof(text))));
	return list;
}

/* One line, an object; addresses are texts, as not every reader of JSON has 64-bit numbers. */
static void print_json(struct trace *t, const struct trace_block *b)
{
	json_t *insns = json_array(), *block;
	const char *name;
	char text[128];
	uint64_t off;

	for (unsigned int n = 0; n < b->count; n++) {
		guest_line(t, &b->insn[n], text, sizeof(text));
		json_array_append_new(insns, json_pack(
			"{s:s,s:s,s:s,s:o}", "guest", text, "class", b->insn[n].insn_class, "why",
			b->insn[n].why ? b->insn[n].why : "not reached", "host",
			host_json(t, b->insn[n].code, b->insn[n].code_len)));
	}
	snprintf(text, sizeof(text), "0x%" PRIx64, b->gva);
	block = json_pack("{s:s,s:b,s:o,s:o,s:o}", "address", text, "user", b->user, "instructions",
			  insns, "behind", host_json(t, b->rest, b->rest_len),
			  "cold", host_json(t, b->cold, b->cold_len));
	snprintf(text, sizeof(text), "0x%" PRIx64, b->gpa);
	json_object_set_new(block, "guest-physical", json_string(text));
	name = symbols_name(t->symbols, b->gva, &off);
	if (name) {
		snprintf(text, sizeof(text), "%.100s+0x%" PRIx64, name, off);
		json_object_set_new(block, "symbol", json_string(text));
	}
	json_dumpf(block, stdout, JSON_COMPACT);
	printf("\n");
	json_decref(block);
}

static void print_code(struct trace *t, const char *title, const uint8_t *code,
		       unsigned int len)
{
	char host[128];

	print_row(title, "");
	while (len)
		print_row("", host_line(t, &code, &len, host, sizeof(host)));
}

static void print_text(struct trace *t, const struct trace_block *b)
{
	unsigned int guest = 0;

	for (unsigned int n = 0; n < b->count; n++)
		guest += b->insn[n].len;
	printf("block at 0x%" PRIx64, b->gva);
	print_place(t, b->gva);
	printf(", %s, guest-physical 0x%" PRIx64 "\n%u instructions, %u bytes; %u bytes of host code\n\n",
	       b->user ? "user" : "kernel", b->gpa, b->count, guest,
	       (unsigned int)(b->rest - b->insn[0].code) + b->rest_len + b->cold_len);
	for (unsigned int n = 0; n < b->count; n++)
		print_insn(t, &b->insn[n]);
	print_code(t, "behind the block: ways out", b->rest, b->rest_len);
	print_code(t, "elsewhere: what hardly runs", b->cold, b->cold_len);
	printf("\n");
}

static void show_block(void *arg, const struct trace_block *b)
{
	struct trace *t = arg;

	if (t->shown == t->options.times)
		return;
	(t->options.json ? print_json : print_text)(t, b);
	fflush(stdout);
	if (++t->shown == t->options.times)
		vm_stop(t->vm);
}

/* --- the command --- */

static int set_at(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct trace_options *)dest)->at = value;
	return 0;
}

static int set_symbols(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct trace_options *)dest)->symbols = value;
	return 0;
}

static int set_times(void *dest, const char *value, struct err *e)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || !n || n > TIMES_MAX)
		return err_set(e, EINVAL, "'%s' is no value for --times: give a number from 1 to %d",
			       value, TIMES_MAX);
	((struct trace_options *)dest)->times = n;
	return 0;
}

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct trace_options *)dest)->json = !strcmp(value, "json");
	return 0;
}

static const struct option_def option_defs[] = {
	{ "at", "PLACE", "the instruction to show: an address (0x...), or a symbol or SYMBOL+0xN\n"
	  "of --symbols", set_at },
	{ "symbols", "FILE", "the guest kernel's symbols: System.map, a copy of /proc/kallsyms, or\n"
	  "vmlinux; 'nokaslr' is added to --cmdline, so that they are right", set_symbols },
	{ "format", "text|json", "text (default), or json: an object a block, each in a line", set_format },
	{ "times", "N", "end after N translations of it (default 1)", set_times },
};

/* "0x...", SYMBOL, SYMBOL+0xN */
static int find_place(struct trace *t, struct err *e)
{
	const char *at = t->options.at, *plus = strrchr(at, '+');
	char name[256], *end;
	uint64_t off = 0;

	if (at[0] == '0' && (at[1] | 0x20) == 'x') {
		t->hook.at = strtoull(at, &end, 16);
		return *end ? err_set(e, EINVAL, "'%s' is no address for --at", at) : 0;
	}
	if (!t->symbols)
		return err_set(e, EINVAL, "'%s' is no address (0x...), and without --symbols FILE no "
			       "symbol is known", at);
	snprintf(name, sizeof(name), "%s", at);
	if (plus && (size_t)(plus - at) < sizeof(name)) {
		off = strtoull(plus + 1, &end, 0);
		name[plus - at] = '\0';
	}
	if (!symbols_find(t->symbols, name, &t->hook.at))
		return err_set(e, ENOENT, "%s has no symbol '%s'", t->options.symbols, name);
	t->hook.at += off;
	return 0;
}

static int trace_prepare(struct trace *t, char *cmdline, size_t size, struct err *e)
{
	struct trace_options *o = &t->options;
	int rc;

	if (!o->at)
		return err_set(e, EINVAL, "nothing to show is named: vireo trace --at PLACE "
			       "('vireo trace --help' shows an example)");
	if (o->run.translate == TRANSLATOR_OFF || o->run.engine == ENGINE_KVM)
		return err_set(e, EINVAL, "vireo trace shows what the translator does: use it "
			       "without --translator off and --engine kvm");
	rc = o->symbols ? symbols_read(&t->symbols, o->symbols, e) : 0;
	if (!rc)
		rc = find_place(t, e);
	if (rc || !o->symbols)
		return rc;
	if (snprintf(cmdline, size, "%s nokaslr", o->run.cmdline ? o->run.cmdline : "") >= (int)size)
		return err_set(e, EINVAL, "the command line is too long");
	o->run.cmdline = cmdline;
	return 0;
}

static int trace_main(const struct command *c, int argc, char **argv)
{
	struct trace t = { .options.times = 1 };
	char cmdline[4096];
	struct err e = { 0 };
	int rc, status;

	run_options_init(&t.options.run);
	t.options.run.log_level = LOG_ERROR;
	t.options.run.engine = ENGINE_SOFT;
	rc = options_parse(c, argc, argv, &t.options, NULL, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc)
		rc = trace_prepare(&t, cmdline, sizeof(cmdline), &e);
	if (rc) {
		symbols_free(t.symbols);
		return command_fail(&e, STATUS_USAGE);
	}
	ZydisDecoderInit(&t.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&t.decoder32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisFormatterInit(&t.formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	t.hook.block = show_block;
	t.hook.arg = &t;
	t.options.run.trace = &t.hook;
	t.options.run.vm = &t.vm;
	status = run_vm(&t.options.run);
	symbols_free(t.symbols);
	if (t.shown == t.options.times)
		return STATUS_OK;
	if (status != STATUS_USAGE && status != STATUS_HOST)
		command_note("%s: the guest ended after %u translations of it, not %u", t.options.at,
			     t.shown, t.options.times);
	return status == STATUS_OK ? STATUS_USAGE : status;
}

const struct command command_trace = {
	.name = "trace",
	.summary = "show what the translator makes of a place in a guest",
	.about =
	"Boots a kernel as 'vireo run' does, without a console.  When the block of guest code with\n"
	"the given instruction is translated (it has then run 8 times; with --translator-opt\n"
	"no-heat once), prints it on stdout, and ends: each guest instruction, its class and what\n"
	"was done with it and why, beside the host code that it became.\n"
	"\n"
	"Example:\n"
	"  vireo trace --kernel vmlinuz --symbols System.map --at memset\n",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.more = &command_run,
	.exits = "0 shown, 2 wrong usage or input, or the guest ended before; else that of 'vireo run'.",
	.run = trace_main,
};
