// SPDX-License-Identifier: Apache-2.0
/*
 * The instruction oracle: the host's processor says what each case must come to, an
 * engine has to agree in every register, flag, byte of memory and exception.
 *
 *   oracle [--seed S] [--cases N | --seconds T] [--engine soft|translator|windows|lockstep|kvm|host] [--form NAME]
 *   oracle --seed S --case N		shows one case
 *   oracle --list			counts how the cases end, per form
 *
 * --without NAME turns off one of the translator's optimizations (engine/translator_opt.def),
 * --without all every one.
 *
 * --engine host runs each case twice on the host: are the cases deterministic?
 * --beside-soft compares with the software engine instead, with the same model (--cpu), where KVM
 * emulates (emulated.h): what is explained there is counted as known.
 * --engine windows is the translator with user memory in windows (cpu/window.h), with more
 * runs, for those to fill.
 * --engine translator translates at once and runs each three times, so that the last run
 * goes through what the first has chained and cached.  --form block makes blocks of up to
 * 60 instructions out of the other forms.
 */
#undef _GNU_SOURCE		/* <signal.h> would take our REG_ names */
#define _DEFAULT_SOURCE
#include "case.h"
#include "compare.h"
#include "emulated.h"
#include "engine/engine.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH		256
#define REPORT_MAX	20

struct options {
	uint64_t seed, first, cases;
	double seconds;
	bool single, verbose, list, keep_going, compare;
	struct guest *beside;	/* what the engine has to agree with instead of the host, or NULL */
	const char *engine, *form, *cpu;
	uint32_t without;	/* of the translator's optimizations */
};

static const char *const translator_opts[] = {
#define OPT(id, name, sentence) name,
#include "engine/translator_opt.def"
#undef OPT
};

struct tally {
	uint64_t run, skipped, failed, known;
	uint64_t vectors[33];
	uint32_t *failed_by_form;
	uint32_t (*ends_by_form)[33];	/* --list */
};

/* What the watchdog says if an engine hangs. */
static volatile uint64_t current_case;
static uint64_t current_seed;

static void on_hang(int sig)
{
	(void)sig;
	printf("not ok: the engine hangs in --seed %llu --case %llu\n",
	       (unsigned long long)current_seed, (unsigned long long)current_case);
	_exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void report(const struct options *o, struct tally *t, const struct test_case *c,
		   const struct outcome *h, const struct outcome *g)
{
	uint32_t *count = &t->failed_by_form[c->form - forms];

	t->failed++;
	if ((*count)++ >= 2 || (t->failed > REPORT_MAX && !o->keep_going))
		return;
	printf("not ok: tests/insn/oracle --seed %llu --case %llu%s%s\n  ",
	       (unsigned long long)o->seed, (unsigned long long)c->number,
	       o->form ? " --form " : "", o->form ? o->form : "");
	case_print(stdout, c);
	case_compare(stdout, c, h, g);
}

/* Built with the address sanitizer, the host has memory where the guest has none. */
static bool sanitizers_memory(uint64_t at)
{
#ifdef __SANITIZE_ADDRESS__
	return at >= 0x7fff8000 && at < 0x10007fff8000;
#else
	(void)at;
	return false;
#endif
}

static void check_case(const struct options *o, struct tally *t, struct guest *guest,
		       unsigned int i, struct outcome *second)
{
	const struct test_case *c = host_case(i);
	const struct outcome *h = host_outcome(i);
	struct outcome *other = &second[BATCH];

	if (!h->valid) {
		t->skipped++;
		if (o->verbose || o->single) {
			printf("not run by the host (case %llu): ", (unsigned long long)c->number);
			case_print(stdout, c);
		}
		return;
	}
	t->run++;
	t->vectors[MIN(h->out.vector, 32U)]++;
	t->ends_by_form[c->form - forms][MIN(h->out.vector, 32U)]++;
	current_case = c->number;
	if (guest) {
		alarm(10);
		guest_run(guest, c, &second[0]);
		alarm(0);
	}
	if (o->beside) {
		guest_run(o->beside, c, other);
		h = other;
		emulated_adjust(h, &second[0]);
		if (case_compare(NULL, c, h, &second[0]) && emulated_otherwise(c, h, &second[0])) {
			t->known++;
			return;
		}
	}
	if (o->single) {
		case_print(stdout, c);
		case_dump(stdout, c, h);
	}
	/* AMD ignores reserved bits in VEX and EVEX for which Intel, and we, raise #UD. */
	if (guest && second->out.vector == EXC_UD && !strcmp(c->form->name, "any") &&
	    !case_decodes(c))
		return;
	if (guest && second->out.vector == EXC_PF && sanitizers_memory(second->out.cr2)) {
		t->skipped++;
		return;
	}
	if (case_compare(NULL, c, h, guest ? &second[0] : &second[i]))
		report(o, t, c, h, guest ? &second[0] : &second[i]);
}

static int run_batch(const struct options *o, struct tally *t, struct guest *guest,
		     struct outcome *second, uint64_t first, unsigned int n)
{
	unsigned int i;
	int r;

	for (i = 0; i < n; i++)
		case_make(host_case(i), o->seed, first + i, o->form);
	r = host_run(n);
	if (r)
		return r;
	if (!guest) {
		for (i = 0; i < n; i++)
			second[i] = *host_outcome(i);
		r = host_run(n);
	}
	for (i = 0; i < n && !r; i++)
		check_case(o, t, guest, i, second);
	return r;
}

static int run_all(const struct options *o, struct tally *t, struct guest *guest)
{
	struct outcome *second = aligned_alloc(64, sizeof(*second) * (BATCH + 1));
	double end = now() + o->seconds;
	uint64_t n = o->first, last = o->first + o->cases;
	int r = 0;

	if (!second)
		return -ENOMEM;
	while (!r && (o->seconds ? now() < end : n < last)) {
		unsigned int batch = o->seconds ? BATCH : MIN(last - n, (uint64_t)BATCH);

		r = run_batch(o, t, guest, second, n, batch);
		n += batch;
	}
	free(second);
	return r;
}

static void summary(const struct options *o, const struct tally *t, double seconds)
{
	unsigned int i;

	printf("seed %llu: %llu cases of %u forms in %.1f s, %llu failed, %llu not run by the host\n",
	       (unsigned long long)o->seed, (unsigned long long)t->run, form_count, seconds,
	       (unsigned long long)t->failed, (unsigned long long)t->skipped);
	if (o->beside)
		printf("%llu as known of a KVM that emulates\n", (unsigned long long)t->known);
	printf("ended by vector:");
	for (i = 0; i < ARRAY_SIZE(t->vectors); i++)
		if (t->vectors[i])
			printf(" %u:%llu", i, (unsigned long long)t->vectors[i]);
	printf("\n");
	for (i = 0; i < form_count; i++)
		if (t->failed_by_form[i])
			printf("failed %u: %s %s\n", t->failed_by_form[i], forms[i].name,
			       forms[i].encoding);
}

static void list_forms(const struct tally *t)
{
	unsigned int i, j;

	for (i = 0; i < form_count; i++) {
		printf("%-12s %-20s", forms[i].name, forms[i].encoding);
		for (j = 0; j < 33; j++)
			if (t->ends_by_form[i][j])
				printf(" %u:%u", j, t->ends_by_form[i][j]);
		printf("\n");
	}
}

static int usage(void)
{
	fprintf(stderr, "usage: oracle [--seed S] [--cases N | --seconds T | --case N] "
		"[--engine soft|translator|windows|lockstep|kvm|host] [--cpu MODEL] [--beside-soft] [--form NAME] [--without NAME] [--all] [--list] [--verbose]\n");
	return 2;
}

static bool without(struct options *o, const char *name)
{
	for (unsigned int i = 0; i < TRANSLATOR_OPTS; i++)
		if (!strcmp(name, translator_opts[i]) || !strcmp(name, "all"))
			o->without |= BIT(i);
	return o->without;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {
		{ "seed", 1, NULL, 's' }, { "cases", 1, NULL, 'n' }, { "case", 1, NULL, 'c' },
		{ "seconds", 1, NULL, 't' }, { "engine", 1, NULL, 'e' }, { "form", 1, NULL, 'f' },
		{ "verbose", 0, NULL, 'v' }, { "all", 0, NULL, 'a' },
		{ "list", 0, NULL, 'l' }, { "without", 1, NULL, 'w' },
		{ "cpu", 1, NULL, 'm' }, { "beside-soft", 0, NULL, 'b' }, { 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		switch (opt) {
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'n': o->cases = strtoull(optarg, NULL, 0); break;
		case 'c': o->first = strtoull(optarg, NULL, 0); o->single = true; break;
		case 't': o->seconds = strtod(optarg, NULL); break;
		case 'e': o->engine = optarg; break;
		case 'f': o->form = optarg; break;
		case 'm': o->cpu = optarg; break;
		case 'b': o->compare = true; break;
		case 'v': o->verbose = true; break;
		case 'a': o->keep_going = true; break;
		case 'l': o->list = true; break;
		case 'w':
			if (!without(o, optarg))
				return usage();
			break;
		default: return usage();
		}
	}
	if (o->single)
		o->cases = 1;
	return optind < argc ? usage() : 0;
}

static int open_engine(const struct options *o, struct guest **guest)
{
	struct engine_config config = { 0 };

	if (!strcmp(o->engine, "host"))
		return 0;
	if (!strcmp(o->engine, "kvm")) {
		config.kvm_apics = KVM_APICS_MACHINE;	/* the vCPU here has none */
		return guest_open(guest, &engine_kvm, &config, o->cpu, 1);
	}
	if (!strcmp(o->engine, "soft"))
		return guest_open(guest, &engine_soft, &config, o->cpu, 1);
	config.translate = true;
	config.translate_at = 1;
	config.translator_no = o->without;
	config.lockstep = !strcmp(o->engine, "lockstep");
	config.windows = !strcmp(o->engine, "windows") ? WINDOWS_ALWAYS : WINDOWS_OFF;
	if (!strcmp(o->engine, "translator") || config.lockstep)
		return guest_open(guest, &engine_soft, &config, o->cpu, 3);
	if (config.windows)
		return guest_open(guest, &engine_soft, &config, o->cpu, 5);
	fprintf(stderr, "no engine is called %s here\n", o->engine);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct options o = { .seed = time(NULL), .cases = 100000, .engine = "soft", .cpu = "host" };
	struct tally t = { 0 };
	struct guest *guest = NULL;
	double start = now();
	int r = parse(argc, argv, &o);

	if (r)
		return r;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGALRM, on_hang);
	t.failed_by_form = calloc(form_count, sizeof(*t.failed_by_form));
	current_seed = o.seed;
	t.ends_by_form = calloc(form_count, sizeof(*t.ends_by_form));
	if (!t.failed_by_form || !t.ends_by_form)
		return 2;
	r = host_open(BATCH);
	if (r) {
		printf("the host's processor cannot be asked: %s\n", strerror(-r));
		return 77;
	}
	r = open_engine(&o, &guest);
	if (!r && o.compare)
		r = guest_open(&o.beside, &engine_soft, &(struct engine_config){ 0 }, o.cpu, 1);
	if (r)
		return 2;
	r = run_all(&o, &t, guest);
	summary(&o, &t, now() - start);
	if (o.list)
		list_forms(&t);
	if (guest)
		guest_close(guest);
	if (o.beside)
		guest_close(o.beside);
	free(t.failed_by_form);
	free(t.ends_by_form);
	return r ? 2 : t.failed != 0;
}
