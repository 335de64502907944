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

/* The next item of @text into @out, cut if it is too long (*whole says so). */
static const char *next_item(const char *text, char *out, size_t size, bool *whole)
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

		text = next_item(text, item, sizeof(item), &whole);
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

static bool is_word(const char *list, const char *word)
{
	const size_t n = strlen(word);

	while (*list) {
		const size_t w = strcspn(list, " ");

		if (w == n && !strncmp(list, word, n))
			return true;
		list += w + (list[w] == ' ');
	}
	return false;
}

int qemu_check_keys(const char *option, const char *text, const char *keys, struct err *e)
{
	char item[QEMU_TEXT_MAX];
	bool first = true, whole;

	while (*text) {
		text = next_item(text, item, sizeof(item), &whole);
		if (first && !strchr(item, '=')) {
			first = false;
			continue;
		}
		first = false;
		item[strcspn(item, "=")] = '\0';
		if (!is_word(keys, item))
			return err_set(e, EINVAL, "%s: Invalid parameter '%.100s'", option, item);
	}
	return 0;
}
