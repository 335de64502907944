// SPDX-License-Identifier: Apache-2.0
/* QEMU's "a,key=value" texts, and words of ours; see qemu_priv.h. */
#include "mgmt/qemu_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int qemu_push(struct qemu *q, struct err *e, const char *option, const char *fmt, ...)
{
	va_list ap;
	int n = 0;

	if (q->words + 3 > QEMU_WORDS_MAX)
		return err_set(e, E2BIG, "there are too many options");
	q->word[q->words] = strdup(option);
	if (!q->word[q->words++])
		return err_set(e, ENOMEM, "out of memory for options");
	if (!fmt)
		return 0;
	va_start(ap, fmt);
	n = vasprintf(&q->word[q->words], fmt, ap);
	va_end(ap);
	if (n < 0)
		return err_set(e, ENOMEM, "out of memory for options");
	q->words++;
	return 0;
}

int qemu_keep(struct qemu_items *items, const char *what, const char *text, struct err *e)
{
	if (items->count == QEMU_ITEMS_MAX)
		return err_set(e, E2BIG, "there are more than %d of %s", QEMU_ITEMS_MAX, what);
	items->text[items->count++] = text;
	return 0;
}

const char *qemu_next_item(const char *text, char *out, size_t size, bool *whole)
{
	size_t n = 0;

	*whole = true;
	for (; *text; text++) {
		if (*text == ',' && *++text != ',')
			break;
		if (n + 1 < size)
			out[n++] = *text;
		else
			*whole = false;
	}
	out[n] = '\0';
	return text;
}

bool qemu_value(const char *text, const char *key, char *out, size_t size)
{
	char item[QEMU_TEXT_MAX];
	bool first = true, whole;

	while (*text) {
		char *value;

		text = qemu_next_item(text, item, sizeof(item), &whole);
		value = strchr(item, '=');
		if (first && !key[0])
			return !value && whole && snprintf(out, size, "%s", item) < (int)size;
		first = false;
		if (value)
			*value++ = '\0';
		if (!strcmp(item, key))
			return whole && snprintf(out, size, "%s", value ? value : "on") < (int)size;
	}
	return false;
}

bool qemu_on(const char *text, const char *key, bool otherwise)
{
	char value[16];

	if (!qemu_value(text, key, value, sizeof(value)))
		return otherwise;
	return !strcmp(value, "on") || !strcmp(value, "true") || !strcmp(value, "yes");
}

/* Is @word one of @list, which @between separates? */
static bool is_word(const char *list, const char *word, char between)
{
	const char stop[] = { between, '\0' };
	const size_t n = strlen(word);

	while (*list) {
		const size_t w = strcspn(list, stop);

		if (w == n && !strncmp(list, word, n))
			return true;
		list += w + (list[w] == between);
	}
	return false;
}

/* --- what makes no difference --- */

static const struct harmless {
	const char *option, *key, *values, *why;
} harmless[] = {
#define HARMLESS(option, key, values, why) { option, key, values, why },
#include "mgmt/qemu_keys.def"
#undef HARMLESS
};

void qemu_print_harmless(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(harmless); i++) {
		const struct harmless *h = &harmless[i];
		char text[96];

		snprintf(text, sizeof(text), "-%s %s%s%s", h->option, h->key, h->values[0] ? "=" : "", h->values);
		printf("  %-44s %s\n", text, h->why);
	}
}

int qemu_check_harmless(const char *option, const char *key, const char *value, struct err *e)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(harmless); i++) {
		const struct harmless *h = &harmless[i];

		if (strcmp(h->option, option) || strcmp(h->key, key))
			continue;
		if (!h->values[0] || is_word(h->values, value, '|'))
			return 0;
		return err_set(e, EINVAL, "-%s: Parameter '%.100s' expects %s here, not '%.100s'", option, key,
			       h->values, value);
	}
	return err_set(e, EINVAL, "-%s: Invalid parameter '%.100s'", option, key);
}

int qemu_check_keys(const char *option, const char *text, const char *keys, struct err *e)
{
	char item[QEMU_TEXT_MAX], *value;
	bool first = true, whole;
	int rc = 0;

	while (*text && !rc) {
		text = qemu_next_item(text, item, sizeof(item), &whole);
		value = strchr(item, '=');
		if (value)
			*value++ = '\0';
		if (!whole)
			return err_set(e, ENAMETOOLONG, "-%s: a parameter is too long", option);
		if (!(first && !value) && !is_word(keys, item, ' '))
			rc = qemu_check_harmless(option, item, value ? value : "on", e);
		first = false;
	}
	return rc;
}

unsigned int qemu_place_among(const struct qemu_items *items, const char *text)
{
	unsigned int i = 0;

	while (items->text[i] != text)
		i++;
	return i;
}

bool qemu_can_be_asked(const struct qemu *q)
{
	return q->qmps.count || q->monitors.count || q->mons.count || q->muxes;
}

const char *qemu_with_id(const struct qemu_items *items, const char *id)
{
	char found[256];

	for (unsigned int i = 0; i < items->count; i++)
		if ((qemu_value(items->text[i], "id", found, sizeof(found)) ||
		     qemu_value(items->text[i], "node-name", found, sizeof(found))) &&
		    !strcmp(found, id))
			return items->text[i];
	return NULL;
}

int qemu_named(const char **text, const struct qemu_items *items, const char *device,
	       const char *key, struct err *e)
{
	char id[256];

	if (!qemu_value(device, key, id, sizeof(id)))
		return err_set(e, EINVAL, "-device %s: %s= is missing", device, key);
	*text = qemu_with_id(items, id);
	return *text ? 0 : err_set(e, EINVAL, "-device %s: there is no %s '%s'", device, key, id);
}
