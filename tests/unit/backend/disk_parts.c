// SPDX-License-Identifier: Apache-2.0
/*
 * Parts of a disk: MBR and GPT partitions, offset and size, maps of extents.  What is outside
 * cannot be reached, and does not change.
 */
#include "disk_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <zlib.h>

static void put(const char *path, uint64_t off, const void *data, size_t len)
{
	const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, off), len);
	close(fd);
}

/* The disk in @text shows what lies at the given offsets, and nothing else can be reached. */
static void check_window(const char *path, const char *what, uint64_t offset, uint64_t size)
{
	struct block *d = open_text("%s,format=raw,%s", path, what);
	uint8_t *whole = malloc(8 * MIB), *after = malloc(8 * MIB), buf[512];
	struct block_info info;
	FILE *f = fopen(path, "r");

	assert_int_equal(fread(whole, 1, 8 * MIB, f), 8 * MIB);
	fclose(f);
	block_info(d, &info);
	assert_int_equal(info.size, size);
	assert_int_equal(block_rw(d, BLOCK_READ, size - 512, buf, 512), 0);
	assert_memory_equal(buf, whole + offset + size - 512, 512);
	assert_int_equal(block_rw(d, BLOCK_READ, size, buf, 512), -EINVAL);
	assert_int_equal(block_rw(d, BLOCK_WRITE, size - 256, buf, 512), -EINVAL);
	assert_int_equal(block_rw(d, BLOCK_WRITE, (uint64_t)-512, buf, 512), -EINVAL);
	assert_int_equal(block_rw(d, BLOCK_WRITE_ZEROES, 0, NULL, size), 0);
	assert_int_equal(block_rw(d, BLOCK_DISCARD, 0, NULL, size), 0);
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(block_rw(d, BLOCK_WRITE, 0, buf, 512), 0);
	assert_int_equal(block_close(d), 0);
	f = fopen(path, "r");
	assert_int_equal(fread(after, 1, 8 * MIB, f), 8 * MIB);
	fclose(f);
	assert_memory_equal(after, whole, offset);
	assert_memory_equal(after + offset + size, whole + offset + size, 8 * MIB - offset - size);
	assert_int_equal(after[offset], 0xee);
	put(path, offset, whole + offset, size);
	free(whole);
	free(after);
}

static void fill_disk(const char *path)
{
	uint8_t *data = malloc(8 * MIB);

	for (unsigned int i = 0; i < 8 * MIB; i++)
		data[i] = i >> 9 ^ i >> 17;
	put(path, 0, data, 8 * MIB);
	free(data);
}

static void make_mbr(const char *path)
{
	uint8_t s[512] = { 0 };
	/* One primary at 1 MiB of 1 MiB, an extended one at 4 MiB with two logical ones. */
	static const uint8_t primary[16] = { [4] = 0x83, [9] = 8, [13] = 8 };
	static const uint8_t extended[16] = { [4] = 0x05, [9] = 32, [13] = 32 };
	static const uint8_t first[16] = { [4] = 0x83, [8] = 1, [13] = 4 };
	static const uint8_t next[16] = { [4] = 0x05, [9] = 16, [13] = 8 };

	memcpy(s + 446, primary, 16);
	memcpy(s + 462, extended, 16);
	s[510] = 0x55;
	s[511] = 0xaa;
	put(path, 0, s, 512);
	memcpy(s + 446, first, 16);
	memcpy(s + 462, next, 16);
	put(path, 4 * MIB, s, 512);
	memset(s + 462, 0, 16);
	put(path, 6 * MIB, s, 512);
}

static void test_mbr(void **state)
{
	struct bench *b = *state;
	struct err e;
	uint8_t loop[16] = { [4] = 0x05, [13] = 8 };

	fill_disk(b->path);
	make_mbr(b->path);
	check_window(b->path, "part=1", MIB, MIB);
	check_window(b->path, "part=5", 4 * MIB + 512, MIB / 2);
	check_window(b->path, "part=6", 6 * MIB + 512, MIB / 2);
	assert_int_equal(try_open(&e, "%s,format=raw,part=2", b->path), -ENOENT);
	assert_int_equal(try_open(&e, "%s,format=raw,part=3", b->path), -ENOENT);
	assert_int_equal(try_open(&e, "%s,format=raw,part=7", b->path), -ENOENT);
	/* A chain of logical partitions that bites its tail. */
	put(b->path, 4 * MIB + 462, loop, 16);
	assert_int_equal(try_open(&e, "%s,format=raw,part=1000", b->path), -ENOENT);
	/* A partition that is not within the disk. */
	put(b->path, 446 + 12, "\xff\xff\xff\x7f", 4);
	assert_int_equal(try_open(&e, "%s,format=raw,part=1", b->path), -EINVAL);
	put(b->path, 510, "\0\0", 2);
	assert_int_equal(try_open(&e, "%s,format=raw,part=1", b->path), -EINVAL);
	assert_non_null(strstr(e.text, "no partition table"));
}

static void put64(uint8_t *at, uint64_t v)
{
	memcpy(at, &v, 8);
}

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, 4);
}

static void make_gpt(const char *path, uint64_t lba)
{
	static uint8_t list[128 * 128];
	uint8_t h[512] = "EFI PART";

	memset(list, 0, sizeof(list));
	memset(list + 128, 0xab, 32);		/* the second entry: 2 MiB to 3 MiB */
	put64(list + 128 + 32, 4096);
	put64(list + 128 + 40, 6143);
	put32(h + 8, 0x10000);
	put32(h + 12, 92);
	put64(h + 24, lba);
	put64(h + 72, 2);
	put32(h + 80, 128);
	put32(h + 84, 128);
	put32(h + 88, crc32(0, list, sizeof(list)));
	put32(h + 16, crc32(0, h, 92));
	put(path, lba * 512, h, 512);
	put(path, 1024, list, sizeof(list));
}

static void test_gpt(void **state)
{
	struct bench *b = *state;
	struct err e;

	unlink(b->path);
	fill_disk(b->path);
	make_gpt(b->path, 1);
	check_window(b->path, "part=2", 2 * MIB, MIB);
	assert_int_equal(try_open(&e, "%s,format=raw,part=1", b->path), -ENOENT);
	assert_int_equal(try_open(&e, "%s,format=raw,part=129", b->path), -ENOENT);
	put(b->path, 1024 + 128 + 40, "\xff\xff\xff\xff", 4);	/* breaks the list's checksum */
	assert_int_equal(try_open(&e, "%s,format=raw,part=2", b->path), -EIO);
	assert_non_null(strstr(e.text, "damaged"));
	/* The first header is gone, the second is there. */
	put(b->path, 512, "XXXX", 4);
	make_gpt(b->path, 8 * MIB / 512 - 1);
	check_window(b->path, "part=2", 2 * MIB, MIB);
}

static void test_extents(void **state)
{
	struct bench *b = *state;
	uint8_t buf[3072];
	struct block *d;
	struct err e;

	unlink(b->path);
	fill_disk(b->path);
	check_window(b->path, "offset=1M,size=512", MIB, 512);
	check_window(b->path, "offset=5M", 5 * MIB, 3 * MIB);
	check_window(b->path, "size=1M", 0, MIB);
	assert_int_equal(try_open(&e, "%s,offset=8M", b->path), -EINVAL);
	assert_int_equal(try_open(&e, "%s,offset=7M,size=2M", b->path), -EINVAL);
	assert_int_equal(try_open(&e, "%s,offset=100", b->path), -EINVAL);
	assert_int_equal(try_open(&e, "%s,map=1M+1M:1536K+1M", b->path), -EINVAL);
	assert_non_null(strstr(e.text, "overlap"));
	/* Across the seams. */
	d = open_text("%s,map=4M+1K:1M+1K:2M+4K", b->path);
	memset(buf, 0xd1, sizeof(buf));
	assert_int_equal(block_rw(d, BLOCK_WRITE, 512, buf, sizeof(buf)), 0);
	assert_int_equal(block_close(d), 0);
	d = open_text("%s", b->path);
	assert_int_equal(block_rw(d, BLOCK_READ, 4 * MIB, buf, 2048), 0);
	assert_true(buf[511] != 0xd1 && buf[512] == 0xd1 && buf[1023] == 0xd1 && buf[1024] != 0xd1);
	assert_int_equal(block_rw(d, BLOCK_READ, MIB, buf, 2048), 0);
	assert_true(buf[0] == 0xd1 && buf[1023] == 0xd1 && buf[1024] != 0xd1);
	assert_int_equal(block_rw(d, BLOCK_READ, 2 * MIB, buf, 3072), 0);
	assert_true(buf[0] == 0xd1 && buf[1535] == 0xd1 && buf[1536] != 0xd1);
	assert_int_equal(block_close(d), 0);
}

/* Each VM its part; nobody all of it meanwhile, and nobody another's. */
static void test_shared(void **state)
{
	struct bench *b = *state;
	struct block *one, *two, *reader;
	struct err e;

	unlink(b->path);
	fill_disk(b->path);
	one = open_text("%s,format=raw,offset=1M,size=1M", b->path);
	two = open_text("%s,format=raw,map=2M+1M:512K+512K", b->path);
	reader = open_text("%s,format=raw,offset=4M,readonly=on", b->path);
	assert_int_equal(try_open(&e, "%s,format=raw,offset=4M,size=512,readonly=on", b->path), 0);
	assert_int_equal(try_open(&e, "%s,format=raw,offset=5M,size=512", b->path), -EBUSY);
	assert_int_equal(try_open(&e, "%s,format=raw,offset=1M,size=512", b->path), -EBUSY);
	assert_non_null(strstr(e.text, "part of disk"));
	assert_int_equal(try_open(&e, "%s,format=raw,offset=1535K,size=1K,readonly=on", b->path), -EBUSY);
	assert_int_equal(try_open(&e, "%s,format=raw,offset=3M,size=1M", b->path), 0);
	assert_int_equal(try_open(&e, "%s,format=raw", b->path), -EBUSY);
	assert_int_equal(try_open(&e, "%s,format=raw,readonly=on", b->path), -EBUSY);
	assert_int_equal(block_close(one), 0);
	assert_int_equal(block_close(two), 0);
	assert_int_equal(try_open(&e, "%s,format=raw", b->path), -EBUSY);
	assert_int_equal(try_open(&e, "%s,format=raw,readonly=on", b->path), 0);
	assert_int_equal(block_close(reader), 0);
	one = open_text("%s,format=raw", b->path);
	assert_int_equal(try_open(&e, "%s,format=raw,offset=1M,size=1M", b->path), -EBUSY);
	assert_int_equal(try_open(&e, "%s,format=raw,offset=1M,size=1M,readonly=on", b->path), -EBUSY);
	assert_int_equal(block_close(one), 0);
	make_disk(b->path, MIB, true);
	one = open_text("%s,size=512K", b->path);
	assert_int_equal(try_open(&e, "%s,offset=512K", b->path), -EBUSY);
	assert_int_equal(block_close(one), 0);
}

/* A device of the host, handed to one VM; not one that is mounted. */
static void test_device(void **state)
{
	struct bench *b = *state;
	char line[512], loop[64] = "";
	struct block_info info;
	struct block *d;
	struct err e;
	FILE *f;

	unlink(b->path);
	snprintf(line, sizeof(line), "truncate -s 8M %s && PATH=$PATH:/sbin:/usr/sbin && "
		 "mke2fs -q %s && losetup -f --show %s 2>/dev/null", b->path, b->path, b->path);
	f = popen(line, "r");
	if (!fgets(loop, sizeof(loop), f))
		loop[0] = '\0';
	pclose(f);
	loop[strcspn(loop, "\n")] = '\0';
	if (!loop[0]) {
		print_message("no loop device can be made here\n");
		skip();
	}
	d = open_text("%s,format=raw", loop);
	block_info(d, &info);
	assert_int_equal(info.size, 8 * MIB);
	assert_int_equal(try_open(&e, "%s,format=raw", loop), -EBUSY);
	assert_int_equal(block_rw(d, BLOCK_WRITE_ZEROES, 4 * MIB, NULL, MIB), 0);
	assert_int_equal(block_rw(d, BLOCK_DISCARD, 5 * MIB, NULL, MIB), 0);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 8 * MIB - 512, line, 512), 0);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 8 * MIB, line, 512), -EINVAL);
	assert_int_equal(block_rw(d, BLOCK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(block_resize(d, 16 * MIB, &e), -ENOTSUP);
	assert_int_equal(block_close(d), 0);
	snprintf(line, sizeof(line), "%s.mnt", b->path);
	mkdir(line, 0700);
	if (!mount(loop, line, "ext2", MS_RDONLY, "") || !mount(loop, line, "ext4", MS_RDONLY, "")) {
		assert_int_equal(try_open(&e, "%s,format=raw", loop), -EBUSY);
		assert_int_equal(umount(line), 0);
	}
	snprintf(line, sizeof(line), "PATH=$PATH:/sbin:/usr/sbin losetup -d %s", loop);
	assert_int_equal(system(line), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mbr),
		cmocka_unit_test(test_gpt),
		cmocka_unit_test(test_extents),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_device),
	};

	return cmocka_run_group_tests_name("disk_parts", tests, setup, teardown);
}
