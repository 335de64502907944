// SPDX-License-Identifier: Apache-2.0
/* What disks and network cards have done; see io_json.h. */
#include "mgmt/io_json.h"
#include "mgmt/run_devices.h"

#include <stdio.h>

static json_int_t requests(const struct run_disk_info *disk, enum block_op op)
{
	return disk->count[op].requests;
}

static json_int_t bytes(const struct run_disk_info *disk, enum block_op op)
{
	return disk->count[op].bytes;
}

/* Zeroes that the guest has written by a command of their own are writes. */
static void tell_disk(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	(void)info;
	json_object_set_new(arg, disk->id, json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}",
		"reads", requests(disk, BLOCK_READ), "read-bytes", bytes(disk, BLOCK_READ),
		"writes", requests(disk, BLOCK_WRITE) + requests(disk, BLOCK_WRITE_ZEROES),
		"written-bytes", bytes(disk, BLOCK_WRITE) + bytes(disk, BLOCK_WRITE_ZEROES),
		"discards", requests(disk, BLOCK_DISCARD), "flushes", requests(disk, BLOCK_FLUSH)));
}

json_t *io_json_disks(const struct vm_access *at)
{
	json_t *all = json_object();

	run_disks_list(at->disks, tell_disk, all);
	return all;
}

static void tell_net(void *arg, const struct run_net_info *net)
{
	json_object_set_new(arg, net->id, json_pack("{s:I,s:I,s:I,s:I}",
		"received-frames", (json_int_t)net->counts.received_frames,
		"received-bytes", (json_int_t)net->counts.received_bytes,
		"sent-frames", (json_int_t)net->counts.sent_frames,
		"sent-bytes", (json_int_t)net->counts.sent_bytes));
}

json_t *io_json_nets(const struct vm_access *at)
{
	json_t *all = json_object();

	run_nets_list(at->nets, tell_net, all);
	return all;
}

static void flatten(json_t *counters, const char *kind, json_t *devices)
{
	const char *id, *what;
	json_t *device, *n;
	char name[128];

	json_object_foreach(devices, id, device)
		json_object_foreach(device, what, n) {
			snprintf(name, sizeof(name), "%s %.64s: %s", kind, id, what);
			json_object_set(counters, name, n);
		}
	json_decref(devices);
}

void io_json_flatten(json_t *counters, const struct vm_access *at)
{
	flatten(counters, "disk", io_json_disks(at));
	flatten(counters, "net", io_json_nets(at));
}

static void tell_blockstats(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	const char *node = disk->node[0] ? disk->node : disk->id;

	(void)info;
	json_array_append_new(arg, json_pack("{s:s,s:s,s:s,s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I}}",
		"device", node, "node-name", node, "qdev", disk->id, "stats",
		"rd_bytes", bytes(disk, BLOCK_READ), "rd_operations", requests(disk, BLOCK_READ),
		"wr_bytes", bytes(disk, BLOCK_WRITE) + bytes(disk, BLOCK_WRITE_ZEROES),
		"wr_operations", requests(disk, BLOCK_WRITE) + requests(disk, BLOCK_WRITE_ZEROES),
		"unmap_bytes", bytes(disk, BLOCK_DISCARD), "unmap_operations", requests(disk, BLOCK_DISCARD),
		"flush_operations", requests(disk, BLOCK_FLUSH)));
}

json_t *io_json_blockstats(const struct vm_access *at)
{
	json_t *list = json_array();

	run_disks_list(at->disks, tell_blockstats, list);
	return list;
}
