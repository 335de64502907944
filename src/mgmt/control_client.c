// SPDX-License-Identifier: Apache-2.0
/* The client of a VM's control socket; see control_client.h. */
#include "mgmt/control_client.h"
#include "base/named_socket.h"
#include "mgmt/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_S	5	/* a VM's loop answers at once; this is for one that is stopped */

int control_connect(FILE **out, const char *name, struct err *e)
{
	const struct timeval limit = { .tv_sec = ANSWER_S };
	struct machine m;
	int fd, rc;

	rc = machine_open(&m, name, e);
	if (!rc) {
		fd = machine_connect(&m, MACHINE_CONTROL, e);
		machine_close(&m);
	} else if (rc == -ENOENT && !strchr(name, '/')) {
		*e = (struct err){ 0 };
		fd = named_socket_connect(name, e);
		if (fd == -ENOENT)
			err_set(e, ENOENT, "no VM with the name '%s' runs here: 'vireo ls' lists those "
				"that there are", name);
	} else {
		return rc;
	}
	if (fd < 0)
		return fd;
	named_socket_limit(fd, &limit);
	*out = fdopen(fd, "r");
	if (*out)
		return 0;
	close(fd);
	return err_set(e, ENOMEM, "out of memory");
}

pid_t control_pid(FILE *vm)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fileno(vm), SOL_SOCKET, SO_PEERCRED, &peer, &size) ? 0 : peer.pid;
}

static int send_request(FILE *vm, const char *command, json_t *arguments, struct err *e)
{
	json_t *q = json_pack("{s:s,s:o*}", "execute", command, "arguments", arguments);
	char *text = json_dumps(q, JSON_COMPACT), *line = NULL;
	int rc = 0;

	json_decref(q);
	if (!text || asprintf(&line, "%s\n", text) < 0)
		rc = err_set(e, ENOMEM, "out of memory");
	/* The socket's end alone: nothing is ever buffered on the way out. */
	else if (send(fileno(vm), line, strlen(line), MSG_NOSIGNAL) < 0)
		rc = errno == EAGAIN ?
		     err_set(e, ETIMEDOUT, "the VM does not answer: is its process stopped?") :
		     err_set(e, EPIPE, "the VM has gone");
	free(text);
	free(line);
	return rc;
}

static json_t *judge(json_t *reply, struct err *e)
{
	const char *desc = json_string_value(json_object_get(json_object_get(reply, "error"), "desc"));
	json_t *value = json_object_get(reply, "return");

	if (desc)
		err_set(e, EINVAL, "%s", desc);
	else if (!value)
		err_set(e, EPROTO, "the VM's answer is not understood: it is of another version");
	json_incref(value);
	json_decref(reply);
	return value;
}

json_t *control_ask(FILE *vm, const char *command, json_t *arguments, struct err *e)
{
	char *line = NULL;
	size_t room = 0;
	json_t *reply;

	if (send_request(vm, command, arguments, e))
		return NULL;
	errno = 0;
	if (getline(&line, &room, vm) < 0) {
		if (errno == EAGAIN)
			err_set(e, ETIMEDOUT, "the VM does not answer: is its process stopped?");
		else
			err_set(e, EPIPE, "the VM has gone");
		free(line);
		return NULL;
	}
	reply = json_loads(line, JSON_DECODE_ANY, NULL);
	free(line);
	return judge(reply, e);
}

int control_tell(const char *name, const char *command, struct err *e)
{
	json_t *answer;
	FILE *vm;
	int rc = control_connect(&vm, name, e);

	if (rc)
		return rc;
	answer = control_ask(vm, command, NULL, e);
	rc = answer ? 0 : e->code;
	json_decref(answer);
	fclose(vm);
	return rc;
}
