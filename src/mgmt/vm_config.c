// SPDX-License-Identifier: Apache-2.0
/* vm.json; see vm_config.h. */
#include "mgmt/vm_config.h"
#include "backend/block.h"
#include "machine/vm.h"
#include "mgmt/cpu_limits.h"
#include "mgmt/json_place.h"
#include "mgmt/machine.h"
#include "mgmt/net_spec.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION		1
#define KEYS_MAX	128

static int check_disk(const char *text, struct err *e)
{
	struct block_options o;

	return block_options_parse(&o, text, e);
}

static int check_net(const char *text, struct err *e)
{
	struct net_spec s;

	return net_spec_parse(&s, text, e);
}

static int check_vcpu(const char *text, struct err *e)
{
	struct cpu_limits l[VM_CPUS_MAX];

	return vcpu_limits_parse(l, VM_CPUS_MAX, text, e);
}

/*
 * What the table of options does not say of a key.  @paths: where paths are in its text: "" at its
 * beginning, else behind each of these words.
 */
static const struct trait {
	const char *name;
	bool many, number, no_key;
	const char *paths[4];
	int (*check)(const char *text, struct err *e);
} traits[] = {
	{ .name = "name", .no_key = true },	/* is the directory's */
	{ .name = "v", .no_key = true },	/* "share" is the same */
	{ .name = "rm", .no_key = true },	/* what is kept is kept */
	{ .name = "kernel", .paths = { "" } },
	{ .name = "root", .paths = { "" } },
	{ .name = "initrd", .paths = { "" } },
	{ .name = "memory", .number = true },
	{ .name = "cpus", .number = true },
	{ .name = "max-cpus", .number = true },
	{ .name = "balloon", .number = true },
	{ .name = "cpu-weight", .number = true },
	{ .name = "vcpu", .many = true, .check = check_vcpu },
	{ .name = "disk", .many = true, .paths = { "" }, .check = check_disk },
	{ .name = "share", .many = true, .paths = { "" }, .check = run_share_check },
	{ .name = "console", .many = true, .paths = { "out=", "in=", "socket=" },
	  .check = run_console_check },
	{ .name = "net", .many = true, .check = check_net },
	{ .name = "publish", .many = true },
	{ .name = "serial", .many = true, .paths = { "file:", "socket:", "unix:" } },
	{ .name = "printer", .paths = { "out=" } },
	{ .name = "vsock", .paths = { "" } },
	{ .name = "gdb", .paths = { "unix:" } },
	{ .name = "qmp", .many = true, .paths = { "unix:" } },
	{ .name = "monitor", .many = true, .paths = { "unix:" } },
	{ .name = "mux", .no_key = true },
	{ .name = "spare-disk", .no_key = true },
	{ .name = "spare-net", .no_key = true },
};

static const struct trait *trait_of(const char *name)
{
	static const struct trait none;

	for (size_t i = 0; i < ARRAY_SIZE(traits); i++)
		if (!strcmp(traits[i].name, name))
			return &traits[i];
	return &none;
}

static const struct option_def *key_option(const char *name)
{
	for (unsigned int i = 0; i < command_run.option_count; i++)
		if (!strcmp(command_run.options[i].name, name) && !trait_of(name)->no_key)
			return &command_run.options[i];
	return NULL;
}

/* --- reading --- */

/* One key while it is read. */
struct at {
	struct vm_config_file *c;
	const char *text, *what, *key;
	size_t len;
};

/* Puts the place before the sentence in @e. */
static int place(const struct at *a, int item, struct err *e)
{
	char where[32] = "";

	if (item >= 0)
		snprintf(where, sizeof(where), "[%d]", item);
	return err_prefix(e, "%.200s, line %u, \"%.60s\"%s", a->what,
			  json_line_of(a->text, a->len, a->key, item), a->key, where);
}

static int unknown_key(const struct at *a, struct err *e)
{
	const char *names[KEYS_MAX], *near;
	unsigned int n = 0;

	for (unsigned int i = 0; i < command_run.option_count && n < KEYS_MAX; i++)
		if (key_option(command_run.options[i].name))
			names[n++] = command_run.options[i].name;
	near = nearest_word(a->key, names, n);
	if (near)
		err_set(e, EINVAL, "there is no such key; did you mean \"%s\"?", near);
	else
		err_set(e, EINVAL, "there is no such key; 'vireo inspect --schema' lists them");
	return place(a, -1, e);
}

/* @value as the option's text, which lives as long as the configuration; NULL: it is none. */
static const char *value_text(struct vm_config_file *c, const json_t *value, bool number)
{
	char **numbers, *text;

	if (json_is_string(value))
		return json_string_value(value);
	if (!number || !json_is_integer(value))
		return NULL;
	numbers = realloc(c->numbers, (c->number_count + 1) * sizeof(*numbers));
	if (!numbers)
		return NULL;
	c->numbers = numbers;
	if (asprintf(&text, "%lld", (long long)json_integer_value(value)) < 0)
		return NULL;
	numbers[c->number_count++] = text;
	return text;
}

/* An option's own help is no answer here. */
static int set_option(struct vm_config_file *c, const struct option_def *o, const char *text,
		      struct err *e)
{
	const struct trait *t = trait_of(o->name);
	int rc = 0;

	if (text && !strcmp(text, "help"))
		return err_set(e, EINVAL, "'help' is no value");
	if (t->check)
		rc = t->check(text, e);
	return rc ? rc : o->set(&c->options, text, e);
}

static int take_text(const struct at *a, const struct option_def *o, const json_t *value,
		     int item, struct err *e)
{
	const bool number = trait_of(o->name)->number;
	const char *text = value_text(a->c, value, number);

	if (!text)
		err_set(e, EINVAL, "this is to be %s", number ? "a string or a number" : "a string");
	else if (!set_option(a->c, o, text, e))
		return 0;
	return place(a, item, e);
}

static int take_flag(const struct at *a, const struct option_def *o, const json_t *value,
		     struct err *e)
{
	if (!json_is_boolean(value)) {
		err_set(e, EINVAL, "this is to be true or false");
		return place(a, -1, e);
	}
	return json_is_true(value) ? set_option(a->c, o, NULL, e) : 0;
}

static int take_list(const struct at *a, const struct option_def *o, const json_t *list,
		     struct err *e)
{
	if (!json_is_array(list)) {
		err_set(e, EINVAL, "this is to be a list of strings");
		return place(a, -1, e);
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const int rc = take_text(a, o, json_array_get(list, i), i, e);

		if (rc)
			return rc;
	}
	return 0;
}

static int take_key(const struct at *a, const json_t *value, struct err *e)
{
	const struct option_def *o = key_option(a->key);

	if (!strcmp(a->key, "version")) {
		if (json_is_integer(value) && json_integer_value(value) == VERSION)
			return 0;
		err_set(e, EINVAL, "this vireo knows version %d", VERSION);
		return place(a, -1, e);
	}
	if (!strcmp(a->key, "description")) {
		if (json_is_string(value))
			return 0;
		err_set(e, EINVAL, "this is to be a string");
		return place(a, -1, e);
	}
	if (!o)
		return unknown_key(a, e);
	if (!o->value)
		return take_flag(a, o, value, e);
	return trait_of(o->name)->many ? take_list(a, o, value, e) : take_text(a, o, value, -1, e);
}

int vm_config_parse(struct vm_config_file *c, const char *text, size_t len, const char *what,
		    struct err *e)
{
	struct at a = { .c = c, .text = text, .len = len, .what = what };
	json_error_t where;
	json_t *value;
	int rc;

	*c = (struct vm_config_file){ 0 };
	run_options_init(&c->options);
	c->root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	if (!c->root)
		return err_set(e, EINVAL, "%.200s, line %d, column %d: %s", what, where.line,
			       where.column, where.text);
	if (!json_is_object(c->root))
		return err_set(e, EINVAL, "%.200s, line 1: this is to be an object: "
			       "{ \"kernel\": \"vmlinuz\" }", what);
	json_object_foreach(c->root, a.key, value) {
		rc = take_key(&a, value, e);
		if (rc)
			return rc;
	}
	return 0;
}

int vm_config_read(struct vm_config_file *c, int dir, const char *what, struct err *e)
{
	const int fd = openat(dir, MACHINE_CONFIG, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t n = -1;
	char *text;
	int rc;

	*c = (struct vm_config_file){ 0 };
	if (fd < 0)
		return err_errno(e, errno, "could not open %.200s", what);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > VM_CONFIG_SIZE_MAX) {
		close(fd);
		return err_set(e, EINVAL, "%.200s is no file of at most %u bytes", what,
			       VM_CONFIG_SIZE_MAX);
	}
	text = malloc(st.st_size + 1);
	if (text)
		n = read(fd, text, st.st_size);
	if (n < 0)
		rc = err_errno(e, text ? errno : ENOMEM, "could not read %.200s", what);
	else
		rc = vm_config_parse(c, text, n, what, e);
	free(text);
	close(fd);
	return rc;
}

void vm_config_free(struct vm_config_file *c)
{
	while (c->number_count)
		free(c->numbers[--c->number_count]);
	free(c->numbers);
	json_decref(c->root);
	*c = (struct vm_config_file){ 0 };
}

/* --- writing --- */

/* Is there a relative path at @at, and not a word that only stands in a path's place? */
static bool is_relative(const char *at)
{
	return *at && *at != '/' && *at != ',';
}

/* @value with @folder before each relative path; commas in the folder of a disk are doubled. */
static char *rebase(const struct trait *t, const char *value, const char *folder)
{
	const bool doubled = t->check == check_disk;
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);
	bool start = true;

	if (!f)
		return NULL;
	for (const char *at = value; *at; start = *at == ',', at++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(t->paths) && t->paths[i]; i++) {
			const size_t n = strlen(t->paths[i]);

			if (n ? !start || strncmp(at, t->paths[i], n) : at != value)
				continue;
			fwrite(at, 1, n, f);
			at += n;
			for (const char *p = is_relative(at) ? folder : ""; *p; p++)
				fprintf(f, doubled && *p == ',' ? ",," : "%c", *p);
			if (is_relative(at))
				fputc('/', f);
			break;
		}
		if (*at)
			fputc(*at, f);
		else
			break;
	}
	return fclose(f) ? NULL : out;
}

int vm_config_add(json_t *root, const struct option_def *o, const char *value,
		  const char *folder, struct err *e)
{
	/* -v is --share in short. */
	const bool is_short = !strcmp(o->name, "v");
	const char *key = is_short ? "share" : o->name;
	const struct trait *t = trait_of(key);
	char *text, *end;
	json_t *v;

	if (t->no_key)
		return err_set(e, EINVAL, "--%s is for machines that are not kept", o->name);
	text = o->value ? rebase(t, value, folder) : NULL;
	if (o->value && !text)
		return err_set(e, ENOMEM, "out of memory");
	if (is_short) {
		char *long_text = run_share_long(text);

		free(text);
		text = long_text;
		if (!text)
			return err_set(e, EINVAL, "-v %.200s is not DIR:TAG or DIR:TAG:ro", value);
	}
	v = o->value ? json_string(text) : json_true();
	if (t->number && *text && !text[strspn(text, "0123456789")]) {
		json_decref(v);
		v = json_integer(strtoll(text, &end, 10));
	}
	free(text);
	if (!v)
		return err_set(e, EINVAL, "the value of --%s is not UTF-8, which vm.json is", o->name);
	if (!t->many)
		return json_object_set_new(root, key, v);
	if (!json_object_get(root, key))
		json_object_set_new(root, key, json_array());
	return json_array_append_new(json_object_get(root, key), v);
}

/* --- the schema --- */

static json_t *schema_of(const struct option_def *o)
{
	const struct trait *t = trait_of(o->name);
	json_t *s;

	if (!o->value)
		s = json_pack("{s:s}", "type", "boolean");
	else if (t->many)
		s = json_pack("{s:s,s:{s:s}}", "type", "array", "items", "type", "string");
	else if (t->number)
		s = json_pack("{s:[s,s]}", "type", "string", "integer");
	else
		s = json_pack("{s:s}", "type", "string");
	json_object_set_new(s, "description", json_string(o->help));
	return s;
}

json_t *vm_config_schema(void)
{
	json_t *keys = json_pack("{s:{s:i,s:s},s:{s:s,s:s}}",
				 "version", "const", VERSION, "description", "of this format",
				 "description", "type", "string", "description", "words for people");

	for (unsigned int i = 0; i < command_run.option_count; i++)
		if (key_option(command_run.options[i].name))
			json_object_set_new(keys, command_run.options[i].name,
					    schema_of(&command_run.options[i]));
	return json_pack("{s:s,s:s,s:s,s:s,s:b,s:o}",
			 "$schema", "https://json-schema.org/draft/2020-12/schema",
			 "title", "vm.json",
			 "description", "A virtual machine of Vireo.  Each key is the option of 'vireo "
			 "run' with its name; relative paths are meant from this file's directory.",
			 "type", "object", "additionalProperties", 0, "properties", keys);
}
