// SPDX-License-Identifier: Apache-2.0
/* -cpu and -accel: which of our processor models, and which engine. */
#include "cpu/cpuid.h"
#include "mgmt/kvm_probe.h"
#include "mgmt/qemu_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct { const char *name, *ours; } models[] = {
	{ "qemu64", "vireo-v1" }, { "kvm64", "vireo-v1" }, { "max", "host" }, { "host", "host" },
	{ "vireo-v1", "vireo-v1" }, { "vireo-v0", "vireo-v0" },
};

void qemu_print_cpus(void)
{
	printf("Available CPUs:\n");
	for (unsigned int i = 0; i < ARRAY_SIZE(models); i++)
		printf("x86 %-20s vireo's %s\n", models[i].name, models[i].ours);
}

/* --- features --- */

/* "sse4.1" and "SSE4_1" are one name. */
static bool same_name(const char *a, const char *b)
{
	for (; *a && *b; a++, b++)
		if (toupper((unsigned char)*a) != toupper((unsigned char)*b) &&
		    !(strchr("._-", *a) && strchr("._-", *b)))
			return false;
	return *a == *b;
}

/* The model's bit of that name: 1, 0; -1: we know of none. */
static int feature_of(const struct cpu_model *m, const char *name)
{
	static const char *const names[] = {
#define FEATURE(name, leaf, subleaf, reg, bit, kind) #name,
#include "cpu/features.def"
#undef FEATURE
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		if (same_name(names[i], name))
			return model_has(m, i);
	return -1;
}

/* "+sse4.2", "-avx", "avx2=on", "la57=off": what the model says anyway. */
static int check_feature(const struct cpu_model *m, char *item, struct err *e)
{
	char *value = strchr(item, '=');
	const char *name = item;
	bool on = true;
	int has;

	if (value)
		*value++ = '\0';
	else if (item[0] == '+' || item[0] == '-')
		name++;
	if (value)
		on = strcmp(value, "off") && strcmp(value, "false");
	else
		on = item[0] != '-';
	has = feature_of(m, name);
	if (has < 0)
		return qemu_check_harmless("cpu", name, value ? value : on ? "on" : "off", e);
	if (has == on)
		return 0;
	return err_set(e, EINVAL, "-cpu: the model %s %s '%s': a model's features are as they are", m->name,
		       has ? "has" : "lacks", name);
}

static int check_features(const char *ours, const char *text, struct err *e)
{
	char copy[1024], *rest = copy, *item;
	struct cpu_model m;
	int rc;

	if (strlen(text) >= sizeof(copy))
		return err_set(e, ENAMETOOLONG, "-cpu: the text is too long");
	strcpy(copy, text);
	rc = cpu_model_init(&m, ours, e);
	while (!rc && (item = strsep(&rest, ",")))
		if (item[0])
			rc = check_feature(&m, item, e);
	return rc;
}

/* --- model and engine --- */

int qemu_choose_cpu(struct qemu *q, struct err *e)
{
	const char *text = q->cpu ? q->cpu : "qemu64", *ours = NULL;
	const size_t n = strcspn(text, ",");
	int rc;

	for (unsigned int i = 0; i < ARRAY_SIZE(models); i++)
		if (strlen(models[i].name) == n && !strncmp(models[i].name, text, n))
			ours = models[i].ours;
	if (!ours)
		return err_set(e, EINVAL, "unable to find CPU model '%.*s'; there are qemu64, max, host, "
			       "vireo-v1, vireo-v0", (int)MIN(n, (size_t)100), text);
	if (n == 4 && !strncmp(text, "host", 4) && !q->kvm && !getenv("VIREO_ENGINE"))
		return err_set(e, EINVAL, "CPU model 'host' requires KVM or HVF");
	rc = check_features(ours, text + n, e);
	if (rc || (!q->cpu || !strncmp(text, "qemu64", n) || !strncmp(text, "kvm64", n)))
		return rc;
	return qemu_push(q, e, "--cpu", "%s", ours);
}

/* KVM where it was asked for and works; VIREO_ENGINE is for who wants ours under that name. */
int qemu_choose_engine(struct qemu *q, struct err *e)
{
	const char *engine = getenv("VIREO_ENGINE");
	struct kvm_probe probe;

	if (engine && engine[0])
		return qemu_push(q, e, "--engine", "%s", engine);
	if (!q->kvm)
		return q->tcg ? qemu_push(q, e, "--engine", "soft") : 0;
	if (q->tcg)
		return 0;
	kvm_probe(&probe);
	if (probe.state == KVM_ABSENT || probe.state == KVM_DENIED) {
		const int why = probe.state == KVM_ABSENT ? ENOENT : EACCES;

		/* The two lines that QEMU's users know. */
		fprintf(stderr, "Could not access KVM kernel module: %s\n", strerror(why));
		return err_errno(e, why, "failed to initialize kvm");
	}
	if (probe.state != KVM_WORKS)
		return err_set(e, ENODEV, "failed to initialize kvm: /dev/kvm does not run guests at the "
			       "processor's speed; VIREO_ENGINE=soft in the environment runs the guest "
			       "without");
	return qemu_push(q, e, "--engine", "kvm");
}
