// SPDX-License-Identifier: Apache-2.0
/*
 * Runs a guest image while its VM is moved from KVM to the software engine and back:
 *
 *	move IMAGE CPUS MILLISECONDS auto|machine|kernel [COMMAND-LINE]
 *
 * The fourth is where KVM's local APICs are.  Ends with the status that the guest left
 * through its debug-exit port; 77: KVM here cannot have any model, 70: something failed.
 */
#include "base/char_fd.h"
#include "boot/boot.h"
#include "cpu/cpuid.h"
#include "engine/engine.h"
#include "machine/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SKIPPED	77
#define FAILED	70

struct mover {
	struct vm *vm;
	struct boot_file kernel;
	struct boot_plan *plan;
	struct cpu_model model;
	struct engine_config kvm;
	struct log log;
	struct timer timer;
	uint64_t every;			/* ns */
	const char *cmdline;
	unsigned int moves;
	struct err err;
};

static int load(void *arg, struct vm *vm, struct err *e)
{
	struct mover *m = arg;

	return boot_enter(m->plan, vm_space(vm), vm_vcpu(vm, 0), e);
}

/* On the loop's thread. */
static void move(void *arg)
{
	static const struct engine_config soft = { .translate = TRANSLATOR_AUTO };
	struct mover *m = arg;
	const bool to_soft = m->moves++ % 2 == 0;

	if (vm_set_engine(m->vm, to_soft ? &engine_soft : &engine_kvm, to_soft ? &soft : &m->kvm,
			  &m->err))
		vm_stop(m->vm);
	else
		timer_set(&m->timer, clock_now(vm_clock(m->vm)) + m->every);
}

static int create(struct mover *m, const char *model, unsigned int cpus)
{
	const struct vm_config c = {
		.memory = 64 << 20, .vcpus = cpus, .model = &m->model, .engine = &engine_kvm,
		.engine_config = &m->kvm, .log = &m->log, .debug_exit = true,
		.load = load, .load_arg = m,
	};
	int rc = cpu_model_init(&m->model, model, &m->err);

	m->model.cpus = cpus;
	return rc ? rc : vm_create(&m->vm, &c, &m->err);
}

/* The first model that KVM here can give a guest. */
static int create_some(struct mover *m, unsigned int cpus)
{
	int rc = create(m, "vireo-v1", cpus);

	return rc == -ENOTSUP ? create(m, "vireo-v0", cpus) : rc;
}

static int start(struct mover *m, const char *image)
{
	const struct char_fd_config console = { .in = -1, .out = STDOUT_FILENO };
	struct boot_request rq = { .rsdp = vm_rsdp(m->vm), .map = vm_memory_map(m->vm) };
	struct char_backend *b;
	int rc;

	rc = boot_file_read(&m->kernel, image, "image", &m->err);
	rq.kernel = m->kernel;
	rq.cmdline = m->cmdline;
	if (!rc)
		rc = boot_prepare(&m->plan, &rq, &m->err);
	if (!rc)
		rc = char_fd_create(&b, vm_loop(m->vm), &console, &m->err);
	if (!rc)
		vm_attach_serial(m->vm, 0, b);
	return rc;
}

static int run(struct mover *m)
{
	struct vm_result result;

	timer_init(&m->timer, vm_clock(m->vm), move, m);
	timer_set(&m->timer, m->every);
	if (vm_run(m->vm, &result, &m->err))
		return FAILED;
	vm_destroy(m->vm);	/* prints what is left */
	printf("# %u moves\n", m->moves);
	return result.exit == VM_EXIT_DEBUG ? (int)result.status : FAILED;
}

int main(int argc, char **argv)
{
	static const char *const apics[] = { "auto", "machine", "kernel" };
	struct mover m = { .every = 0 };
	int status;

	if (argc != 5 && argc != 6)
		return FAILED;
	log_init(&m.log, LOG_ERROR, stderr);
	m.cmdline = argv[5];	/* or NULL */
	m.every = strtoull(argv[3], NULL, 0) * 1000000;
	for (unsigned int i = 0; i < ARRAY_SIZE(apics); i++)
		if (!strcmp(argv[4], apics[i]))
			m.kvm.kvm_apics = i;
	if (create_some(&m, atoi(argv[2]))) {
		fprintf(stderr, "%s\n", m.err.text);
		return SKIPPED;
	}
	if (start(&m, argv[1])) {
		fprintf(stderr, "%s\n", m.err.text);
		return FAILED;
	}
	status = run(&m);
	boot_plan_free(m.plan);
	boot_file_free(&m.kernel);
	if (status == FAILED)
		fprintf(stderr, "%s\n", m.err.text);
	return status;
}
