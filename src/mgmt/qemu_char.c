// SPDX-License-Identifier: Apache-2.0
/*
 * Character devices of QEMU's command line: -chardev, and what -serial, -monitor and -qmp have
 * in its place, as places (char_place.h); what several share becomes a --mux.
 */
#include "mgmt/qemu_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACE_MAX	512

static int too_long(const char *option, struct err *e)
{
	return err_set(e, ENAMETOOLONG, "%s: the text is too long", option);
}

/* Standard input and output have one user, unless they are shared. */
static int take_stdio(struct qemu *q, const char *place, struct err *e)
{
	if (strcmp(place, "stdio"))
		return 0;
	if (q->stdio)
		return err_set(e, EBUSY, "cannot use stdio by multiple character devices");
	q->stdio = true;
	return 0;
}

/* --- texts like "unix:/path,server,nowait" --- */

static int socket_item(const char *option, const char *item, bool *server, bool *wait, struct err *e)
{
	const char *value = strchr(item, '=');
	char key[64];

	snprintf(key, sizeof(key), "%.*s", (int)strcspn(item, "="), item);
	value = value ? value + 1 : "on";
	if (!strcmp(key, "server"))
		*server = strcmp(value, "off");
	else if (!strcmp(key, "wait"))
		*wait = strcmp(value, "off");
	else if (!strcmp(item, "nowait"))
		*wait = false;
	else if (strcmp(item, "nodelay") && qemu_check_harmless("chardev", key, value, e))
		return err_prefix(e, "%s", option);
	return 0;
}

static int write_socket(char *out, size_t size, const char *name, bool server, bool wait,
			const char *option, struct err *e)
{
	const int n = snprintf(out, size, "%s%s", name, !server ? ",server=off" :
			       wait ? ",wait=on" : "");

	if (strchr(name, ','))
		return err_set(e, EINVAL, "%s: a socket's name has no comma", option);
	return n < (int)size ? 0 : too_long(option, e);
}

static int short_socket(const char *option, const char *spec, char *out, size_t size, struct err *e)
{
	char copy[PLACE_MAX], *rest = copy, *name, *item;
	bool server = false, wait = true;
	int rc = 0;

	if (strlen(spec) >= sizeof(copy))
		return too_long(option, e);
	strcpy(copy, spec);
	name = strsep(&rest, ",");
	while (!rc && (item = strsep(&rest, ",")))
		rc = socket_item(option, item, &server, &wait, e);
	return rc ? rc : write_socket(out, size, name, server, wait, option, e);
}

/* What -serial, -monitor and -qmp say, but for chardev:ID and mon:. */
static int short_place(struct qemu *q, const char *option, const char *spec, char *out, size_t size,
		       struct err *e)
{
	const char *file = !strncmp(spec, "file:", 5) ? ",truncate=on" : "";

	if (!strncmp(spec, "unix:", 5) || !strncmp(spec, "tcp:", 4))
		return short_socket(option, spec, out, size, e);
	if (!strcmp(spec, "null") || !strcmp(spec, "none") || !strncmp(spec, "vc", 2))
		return snprintf(out, size, "none"), 0;
	if (!strcmp(spec, "stdio")) {
		q->signals = !q->nographic;
		if (take_stdio(q, spec, e))
			return -EBUSY;
	} else if (strcmp(spec, "pty") && !file[0] && strncmp(spec, "pipe:", 5) && spec[0] != '/') {
		return err_set(e, EINVAL, "%s: '%s' is not there; there are stdio, mon:stdio, null, none, vc, "
			       "pty, file:PATH, pipe:PATH, unix:PATH, tcp:HOST:PORT, /dev/NAME and chardev:ID "
			       "of these", option, spec);
	}
	return snprintf(out, size, "%s%s", spec, file) < (int)size ? 0 : too_long(option, e);
}

/* --- -chardev --- */

static int chardev_socket(const char *text, char *out, size_t size, struct err *e)
{
	char path[256], port[32] = "", name[300];
	const bool server = qemu_on(text, "server", false);
	int rc;

	rc = qemu_check_keys("chardev", text, "id mux path host port fd server wait", e);
	if (rc)
		return rc;
	if (qemu_value(text, "fd", path, sizeof(path)))
		return snprintf(out, size, "fd:%s", path), 0;
	if (qemu_value(text, "path", path, sizeof(path))) {
		snprintf(name, sizeof(name), "unix:%s", path);
	} else if (qemu_value(text, "port", port, sizeof(port))) {
		if (!qemu_value(text, "host", path, sizeof(path)))
			path[0] = '\0';
		snprintf(name, sizeof(name), strchr(path, ':') ? "tcp:[%s]:%s" : "tcp:%s:%s", path, port);
	} else {
		return err_set(e, EINVAL, "-chardev %s: a socket has a path=, a port= or an fd=", text);
	}
	return write_socket(out, size, name, server, server && qemu_on(text, "wait", true), "-chardev", e);
}

/* A place that is nothing but a word and the path. */
static int chardev_path(const char *text, const char *word, const char *behind, char *out,
			size_t size, struct err *e)
{
	char path[PLACE_MAX];
	int rc;

	rc = qemu_check_keys("chardev", text, behind ? "id mux path append" : "id mux path", e);
	if (!rc && !qemu_value(text, "path", path, sizeof(path)))
		rc = err_set(e, EINVAL, "-chardev %s: path= is missing", text);
	if (rc)
		return rc;
	return snprintf(out, size, "%s%s%s", word, path, behind && !qemu_on(text, "append", false) ?
			behind : "") < (int)size ? 0 : too_long("-chardev", e);
}

static int chardev_text(struct qemu *q, const char *text, char *out, size_t size, struct err *e)
{
	char kind[64] = "";
	int rc;

	qemu_value(text, "", kind, sizeof(kind));
	if (!strcmp(kind, "socket"))
		return chardev_socket(text, out, size, e);
	if (!strcmp(kind, "file"))
		return chardev_path(text, "file:", ",truncate=on", out, size, e);
	if (!strcmp(kind, "pipe"))
		return chardev_path(text, "pipe:", NULL, out, size, e);
	if (!strcmp(kind, "serial") || !strcmp(kind, "tty"))
		return chardev_path(text, "", NULL, out, size, e);
	rc = qemu_check_keys("chardev", text, "id mux signal", e);
	if (rc)
		return rc;
	if (!strcmp(kind, "stdio"))
		q->signals = qemu_on(text, "signal", !q->nographic);
	else if (!strcmp(kind, "null") || !strcmp(kind, "vc"))
		strcpy(kind, "none");
	else if (strcmp(kind, "pty"))
		return err_set(e, EINVAL, "-chardev %s: there is no '%s' here; there are socket, file, pipe, "
			       "stdio, pty, null, serial", text, kind);
	return snprintf(out, size, "%s", kind), 0;
}

int qemu_chardev_place(struct qemu *q, const char *option, const char *id, char *out, size_t size,
		       struct err *e)
{
	const char *text = qemu_with_id(&q->chardevs, id);
	char place[PLACE_MAX];
	unsigned int i;
	int rc;

	if (!text)
		return err_set(e, EINVAL, "%s: there is no chardev '%s'", option, id);
	i = qemu_place_among(&q->chardevs, text);
	rc = chardev_text(q, text, place, sizeof(place), e);
	if (rc)
		return rc;
	if (!qemu_on(text, "mux", false) || !strcmp(place, "none")) {
		if (q->chardevs_used & BIT(i))
			return err_set(e, EBUSY, "%s: the chardev '%s' is in use: mux=on lets several have it",
				       option, id);
		q->chardevs_used |= BIT(i);
		if (take_stdio(q, place, e))
			return -EBUSY;
		return snprintf(out, size, "%s", place) < (int)size ? 0 : too_long(option, e);
	}
	if (!(q->chardevs_shared & BIT(i)))
		rc = take_stdio(q, place, e);
	if (!rc && !(q->chardevs_shared & BIT(i)))
		rc = qemu_push(q, e, "--mux", "%s=%s", id, place);
	q->chardevs_shared |= BIT(i);
	snprintf(out, size, "mux:%s", id);
	return rc;
}

int qemu_check_chardevs(struct qemu *q, struct err *e)
{
	const bool signals = q->signals;
	char place[PLACE_MAX];
	int rc = 0;

	for (unsigned int i = 0; i < q->chardevs.count && !rc; i++)
		if (!((q->chardevs_used | q->chardevs_shared) & BIT(i)))
			rc = chardev_text(q, q->chardevs.text[i], place, sizeof(place), e);
	q->signals = signals;
	return rc;
}

/* --- who uses them --- */

static int place_of(struct qemu *q, const char *option, const char *spec, char *out, size_t size,
		    struct err *e)
{
	if (!strncmp(spec, "chardev:", 8))
		return qemu_chardev_place(q, option, spec + 8, out, size, e);
	return short_place(q, option, spec, out, size, e);
}

/* "mon:WHERE": the port and a monitor share it. */
static int add_with_monitor(struct qemu *q, const char *spec, struct err *e)
{
	char place[PLACE_MAX];
	int rc;

	rc = place_of(q, "-serial", spec, place, sizeof(place), e);
	if (rc || !strcmp(place, "none"))
		return rc ? rc : qemu_push(q, e, "--serial", "none");
	q->signals = false;
	rc = qemu_push(q, e, "--mux", "mon%u=%s", q->muxes, place);
	if (!rc)
		rc = qemu_push(q, e, "--serial", "mux:mon%u", q->muxes);
	return rc ? rc : qemu_push(q, e, "--monitor", "mux:mon%u", q->muxes++);
}

/* -device isa-serial,chardev=ID comes behind those of -serial. */
static int gather_isa_serials(struct qemu *q, struct err *e)
{
	unsigned int n = 0;
	int rc = 0;

	for (unsigned int i = 0; i < q->devices.count && !rc; i++) {
		char name[64] = "", id[64];

		qemu_value(q->devices.text[i], "", name, sizeof(name));
		if (strcmp(name, "isa-serial"))
			continue;
		if (!qemu_value(q->devices.text[i], "chardev", id, sizeof(id)))
			return err_set(e, EINVAL, "-device isa-serial: chardev= is missing");
		if (n == ARRAY_SIZE(q->isa_text))
			return err_set(e, E2BIG, "-device isa-serial: there are too many of them");
		snprintf(q->isa_text[n], sizeof(q->isa_text[n]), "chardev:%s", id);
		rc = qemu_keep(&q->serials, "-serial", q->isa_text[n++], e);
	}
	return rc;
}

static int add_serials(struct qemu *q, struct err *e)
{
	char place[PLACE_MAX];
	int rc = 0;

	for (unsigned int i = 0; i < q->serials.count && !rc; i++) {
		const char *spec = q->serials.text[i];

		if (!strncmp(spec, "mon:", 4)) {
			rc = add_with_monitor(q, spec + 4, e);
			continue;
		}
		rc = place_of(q, "-serial", spec, place, sizeof(place), e);
		if (!rc)
			rc = qemu_push(q, e, "--serial", "%s", place);
	}
	return rc;
}

static int add_servers(struct qemu *q, const char *option, const char *ours,
		       const struct qemu_items *items, struct err *e)
{
	char place[PLACE_MAX];
	int rc = 0;

	for (unsigned int i = 0; i < items->count && !rc; i++) {
		const char *spec = items->text[i] + (!strncmp(items->text[i], "mon:", 4) ? 4 : 0);

		rc = place_of(q, option, spec, place, sizeof(place), e);
		if (!rc && strcmp(place, "none"))
			rc = qemu_push(q, e, ours, "%s", place);
	}
	return rc;
}

/* -mon [chardev=]ID,mode=readline|control */
static int add_mon(struct qemu *q, const char *text, struct err *e)
{
	char id[64], mode[32] = "readline", place[PLACE_MAX];
	int rc;

	rc = qemu_check_keys("mon", text, "chardev mode", e);
	if (rc)
		return rc;
	qemu_value(text, "mode", mode, sizeof(mode));
	if (strcmp(mode, "readline") && strcmp(mode, "control"))
		return err_set(e, EINVAL, "-mon: mode is readline or control, not '%s'", mode);
	if (!qemu_value(text, "chardev", id, sizeof(id)) && !qemu_value(text, "", id, sizeof(id)))
		return err_set(e, EINVAL, "-mon %s: chardev= is missing", text);
	rc = qemu_chardev_place(q, "-mon", id, place, sizeof(place), e);
	if (rc || !strcmp(place, "none"))
		return rc;
	return qemu_push(q, e, strcmp(mode, "control") ? "--monitor" : "--qmp", "%s", place);
}

/* What -nographic brings where nothing else is said. */
static int add_defaults(struct qemu *q, struct err *e)
{
	const bool serial = !q->serials.count;
	const bool monitor = !q->monitors.count && !q->qmps.count && !q->mons.count;
	int rc = 0;

	if (q->nographic && !q->no_defaults) {
		if (serial)
			rc = qemu_keep(&q->serials, "-serial", monitor ? "mon:stdio" : "stdio", e);
		else if (monitor)
			rc = qemu_keep(&q->monitors, "-monitor", "stdio", e);
	}
	if (!rc && !q->serials.count)
		rc = qemu_keep(&q->serials, "-serial", "none", e);
	return rc;
}

/* Is stdin taken by somebody who asked for it? */
static bool uses_stdio(const struct qemu *q)
{
	for (unsigned int i = 0; i < q->serials.count; i++)
		if (strstr(q->serials.text[i], "stdio"))
			return true;
	for (unsigned int i = 0; i < q->chardevs.count; i++)
		if (!strncmp(q->chardevs.text[i], "stdio", 5))
			return true;
	return false;
}

int qemu_add_chars(struct qemu *q, struct err *e)
{
	int rc = gather_isa_serials(q, e);

	if (!rc && !(q->nographic && q->serials.count && !q->monitors.count && uses_stdio(q)))
		rc = add_defaults(q, e);
	if (!rc)
		rc = add_serials(q, e);
	if (!rc)
		rc = add_servers(q, "-monitor", "--monitor", &q->monitors, e);
	if (!rc)
		rc = add_servers(q, "-qmp", "--qmp", &q->qmps, e);
	for (unsigned int i = 0; i < q->mons.count && !rc; i++)
		rc = add_mon(q, q->mons.text[i], e);
	return rc ? rc : qemu_push(q, e, "--console-escape", "none");
}
