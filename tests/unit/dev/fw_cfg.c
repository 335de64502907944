// SPDX-License-Identifier: Apache-2.0
/*
 * fw_cfg as firmware uses it: signature, directory, files by port and by DMA; DMA with
 * addresses and lengths that a hostile guest would choose.
 */
#include "dev_rig.h"

#include "dev/fw_cfg.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define BASE	0x510
#define RAM	0x10000
#define RQ	0x100	/* where requests stand */

struct bench {
	struct rig rig;
	struct device *fw;
};

static void init(struct bench *b)
{
	*b = (struct bench){ 0 };
	rig_init(&b->rig);
	assert_int_equal(gpa_space_add_ram(&b->rig.space, 0, RAM, NULL), 0);
	assert_int_equal(fw_cfg_create(&b->fw, &b->rig.space, BASE, NULL), 0);
	assert_int_equal(fw_cfg_add_file(b->fw, "etc/one", "first", 5, NULL), 0);
	assert_int_equal(fw_cfg_add_file(b->fw, "etc/two", "second!", 7, NULL), 0);
}

static void done(struct bench *b)
{
	rig_destroy(&b->rig, b->fw);
}

static void select_key(struct bench *b, uint16_t key)
{
	pio_write(&b->rig.space, BASE, 2, key);
}

static void read_bytes(struct bench *b, void *buf, unsigned int len)
{
	for (unsigned int i = 0; i < len; i++)
		((uint8_t *)buf)[i] = inb(&b->rig, BASE + 1);
}

static uint32_t dma(struct bench *b, uint32_t control, uint32_t length, uint64_t address)
{
	struct { uint32_t control, length; uint64_t address; } rq = {
		htobe32(control), htobe32(length), htobe64(address),
	};

	assert_true(gpa_write(&b->rig.space, RQ, &rq, sizeof(rq)) == MEM_OK);
	pio_write(&b->rig.space, BASE + 4, 4, 0);
	pio_write(&b->rig.space, BASE + 8, 4, htobe32(RQ));
	assert_true(gpa_read(&b->rig.space, RQ, &rq, sizeof(rq)) == MEM_OK);
	return be32toh(rq.control);
}

static void test_ports(void **state)
{
	uint8_t buf[8];
	struct bench b;

	(void)state;
	init(&b);
	select_key(&b, 0);
	read_bytes(&b, buf, 4);
	assert_memory_equal(buf, "QEMU", 4);
	select_key(&b, 1);
	read_bytes(&b, buf, 4);
	assert_int_equal(buf[0], 3);
	/* Behind the end are zeros, for ever. */
	select_key(&b, 0x20);
	read_bytes(&b, buf, 8);
	assert_memory_equal(buf, "first\0\0\0", 8);
	select_key(&b, 0x1234);
	read_bytes(&b, buf, 1);
	assert_int_equal(buf[0], 0);
	assert_int_equal(pio_read(&b.rig.space, BASE + 4, 4), htobe32(0x51454d55));
	assert_int_equal(pio_read(&b.rig.space, BASE + 8, 4), htobe32(0x20434647));
	done(&b);
}

static void test_directory(void **state)
{
	struct { uint32_t size; uint16_t key, reserved; char name[56]; } f;
	uint32_t count;
	struct bench b;

	(void)state;
	init(&b);
	select_key(&b, 0x19);
	read_bytes(&b, &count, 4);
	assert_int_equal(be32toh(count), 2);
	read_bytes(&b, &f, sizeof(f));
	assert_int_equal(be32toh(f.size), 5);
	assert_int_equal(be16toh(f.key), 0x20);
	assert_string_equal(f.name, "etc/one");
	read_bytes(&b, &f, sizeof(f));
	assert_int_equal(be32toh(f.size), 7);
	assert_int_equal(be16toh(f.key), 0x21);
	assert_string_equal(f.name, "etc/two");
	done(&b);
}

static void test_dma(void **state)
{
	uint8_t buf[8];
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(dma(&b, 0x21U << 16 | 0x08 | 0x02, 3, 0x2000), 0);
	gpa_read(&b.rig.space, 0x2000, buf, 4);
	assert_memory_equal(buf, "sec\0", 4);
	assert_int_equal(dma(&b, 0x04, 2, 0), 0);	/* skip */
	assert_int_equal(dma(&b, 0x02, 4, 0x2000), 0);
	gpa_read(&b.rig.space, 0x2000, buf, 4);
	assert_memory_equal(buf, "d!\0\0", 4);
	/* Nothing may be written. */
	assert_int_equal(dma(&b, 0x20U << 16 | 0x08 | 0x10, 3, 0x2000), 1);
	done(&b);
}

static void test_hostile_dma(void **state)
{
	struct bench b;
	uint8_t byte;

	(void)state;
	init(&b);
	assert_int_equal(dma(&b, 0x20U << 16 | 0x0a, 5, RAM - 2), 1);
	assert_int_equal(dma(&b, 0x20U << 16 | 0x0a, 5, UINT64_MAX - 1), 1);
	assert_int_equal(dma(&b, 0x20U << 16 | 0x0a, UINT32_MAX, 0x8000), 1);
	assert_int_equal(dma(&b, 0x20U << 16 | 0x0c, UINT32_MAX, 0), 0);
	assert_int_equal(dma(&b, 0x04, UINT32_MAX, 0), 0);
	assert_int_equal(dma(&b, 0x02, 1, 0x2000), 0);
	gpa_read(&b.rig.space, 0x2000, &byte, 1);
	assert_int_equal(byte, 0);
	/* A request that is not there, and one that overwrites itself. */
	pio_write(&b.rig.space, BASE + 4, 4, UINT32_MAX);
	pio_write(&b.rig.space, BASE + 8, 4, UINT32_MAX);
	assert_int_equal(dma(&b, 0x20U << 16 | 0x0a, 16, RQ), 0);
	done(&b);
}

static void test_refused(void **state)
{
	char name[64] = "";
	struct bench b;
	int rc = 0;

	(void)state;
	init(&b);
	assert_int_equal(fw_cfg_add_file(b.fw, "etc/one", "", 0, NULL), -EEXIST);
	assert_int_equal(fw_cfg_add_item(b.fw, 0x0000, "", 0, NULL), -EEXIST);
	memset(name, 'n', 56);
	assert_int_equal(fw_cfg_add_file(b.fw, name, "", 0, NULL), -ENAMETOOLONG);
	for (int i = 0; i < 100 && !rc; i++) {
		name[0] = 'a' + i % 26;
		name[1] = 'a' + i / 26;
		name[2] = '\0';
		rc = fw_cfg_add_file(b.fw, name, "x", 1, NULL);
	}
	assert_int_equal(rc, -ENOSPC);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_dma),
		cmocka_unit_test(test_hostile_dma),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
