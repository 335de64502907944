// SPDX-License-Identifier: Apache-2.0
/* All commands, in the order in which the help lists them. */
#include "mgmt/command.h"

const struct command *const all_commands[] = {
	&command_run, &command_kernel, &command_create, &command_start, &command_stop,
	&command_kill, &command_pause, &command_resume, &command_reset, &command_exec,
	&command_cp, &command_console, &command_ls, &command_ps, &command_top, &command_inspect,
	&command_logs, &command_edit, &command_rm, &command_stats, &command_set, &command_trace,
	&command_image, &command_appliance, &command_switch, &command_spool, &command_doctor,
	&command_audit,
	&command_completion, &command_net_user, &command_machine, &command_errand,
};

const unsigned int command_count = ARRAY_SIZE(all_commands);

_Static_assert(ARRAY_SIZE(all_commands) < COMMAND_NAMES_MAX, "main.c has room for fewer");
