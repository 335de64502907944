/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.json: what a machine is made of.  Its keys are the options of `vireo run`, and their values
 * what those take: text, or numbers; true for options without a value, lists for those that
 * may be given several times.  Relative paths are meant from the machine's directory.
 * So there is one table of options, and one machine that comes of them.
 */
#ifndef VIREO_MGMT_VM_CONFIG_H
#define VIREO_MGMT_VM_CONFIG_H

#include "mgmt/command.h"
#include "mgmt/run_options.h"

#include <jansson.h>

#define VM_CONFIG_SIZE_MAX	(1U << 20)

struct vm_config_file {
	struct run_options options;	/* its texts live in @root and @numbers */
	json_t *root;
	char **numbers;			/* numbers as text */
	unsigned int number_count;
};

/*
 * Reads @len bytes of @text into @c, and checks them; @what names the file in errors, each of
 * which has the line and, where there is one, the key.  vm_config_free() also after errors.
 */
int vm_config_parse(struct vm_config_file *c, const char *text, size_t len, const char *what,
		    struct err *e);
/* The same from the file vm.json in the directory @dir. */
int vm_config_read(struct vm_config_file *c, int dir, const char *what, struct err *e);
void vm_config_free(struct vm_config_file *c);

/*
 * Adds option @o of `vireo run` with @value to @root, as vm.json has it; a relative path in it
 * is meant from @folder.
 */
int vm_config_add(json_t *root, const struct option_def *o, const char *value,
		  const char *folder, struct err *e);
/* A JSON schema of vm.json. */
json_t *vm_config_schema(void);

#endif
