// SPDX-License-Identifier: GPL-2.0-only
/* Opening: each kind of wrong image or path is told apart, and none is changed. */
#include "disktest.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "diskfmt.h"

#define NR_SLOTS	10u

struct fixture {
	struct folder folder;
	struct pkvrt_disk_params params;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	folder_init(&f->folder);
	f->params = params_of(&f->folder, NR_SLOTS);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	folder_exit(&f->folder);
	free(f);
	return 0;
}

/* Size and checksum of what is at the path. */
static uint64_t print_of(const char *path)
{
	uint8_t buf[4096];
	uint64_t sum = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return 0;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		sum = sum * 31 + pkvrt_crc32c(buf, (size_t)n) + (uint64_t)n;
	close(fd);
	return sum + 1;
}

/* Opening fails with @want, a line that names the file and holds @cause, and no change. */
static void expect(struct fixture *f, int want, const char *cause)
{
	char why[PKVRT_DISK_WHY_MAX] = "";
	uint64_t before = print_of(f->params.path);
	struct pkvrt_disk *d;

	assert_int_equal(pkvrt_disk_open(&d, &f->params, why, sizeof(why)), want);
	assert_null(d);
	assert_int_equal(strncmp(why, f->params.path, strlen(f->params.path)), 0);
	if (!strstr(why, cause))
		print_error("%s: no \"%s\"\n", why, cause);
	assert_non_null(strstr(why, cause));
	assert_null(strchr(why, '\n'));
	assert_true(print_of(f->params.path) == before);
}

static void make_image(struct fixture *f)
{
	struct pkvrt_disk *d = disk_open(&f->params);
	struct pkvrt_disk_info info;

	pkvrt_disk_info(d, &info);
	assert_int_equal(info.created, 1);
	assert_int_equal(info.nr_slots, NR_SLOTS);
	pkvrt_disk_close(d, PATIENCE);
}

static void patch(struct fixture *f, long at, const void *bytes, size_t len)
{
	int fd = open(f->folder.path, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, at), len);
	close(fd);
}

static void test_create_then_open(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	struct pkvrt_disk *d;
	struct pkvrt_disk_info info;

	make_image(f);
	assert_int_equal(stat(f->folder.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	f->params.flags = 0;
	f->params.nr_slots = 0;
	f->params.pool_name = NULL;
	d = disk_open(&f->params);
	pkvrt_disk_info(d, &info);
	assert_int_equal(info.created, 0);
	assert_int_equal(info.nr_slots, NR_SLOTS);
	assert_string_equal(info.pool_name, "test");
	pkvrt_disk_close(d, PATIENCE);
}

static void test_empty_file_becomes_an_image(void **state)
{
	struct fixture *f = *state;

	close(open(f->folder.path, O_CREAT | O_WRONLY, 0600));
	f->params.flags = 0;
	expect(f, -EMEDIUMTYPE, "empty");
	f->params.flags = PKVRT_DISK_CREATE;
	make_image(f);
}

static void test_wrong_paths(void **state)
{
	struct fixture *f = *state;

	f->params.path = f->folder.dir;
	expect(f, -EISDIR, "directory");
	f->params.path = "/dev/null";
	expect(f, -ENOTBLK, "neither");
	f->params.path = "/nonexistent-folder/image";
	expect(f, -ENOENT, "cannot open");
	f->params.path = f->folder.path;
	f->params.flags = 0;
	expect(f, -ENOENT, "cannot open");
}

static void test_fifo(void **state)
{
	struct fixture *f = *state;
	char why[PKVRT_DISK_WHY_MAX];
	struct pkvrt_disk *d;

	assert_int_equal(mkfifo(f->folder.path, 0600), 0);
	assert_int_equal(pkvrt_disk_open(&d, &f->params, why, sizeof(why)), -ENOTBLK);
}

static void test_read_only_file(void **state)
{
	struct fixture *f = *state;
	pid_t pid;
	int status;

	make_image(f);
	assert_int_equal(chmod(f->folder.path, 0444), 0);
	assert_int_equal(chmod(f->folder.dir, 0755), 0);
	/* Root may write everything: be somebody else. */
	pid = fork();
	if (!pid) {
		char why[PKVRT_DISK_WHY_MAX];
		struct pkvrt_disk *d;

		if (!geteuid() && setuid(65534))
			_exit(2);
		_exit(pkvrt_disk_open(&d, &f->params, why, sizeof(why)) != -EACCES ||
		      !strstr(why, "Permission denied"));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_foreign_file(void **state)
{
	struct fixture *f = *state;
	static const char text[] = "A letter, somebody's only copy of it.\n";

	patch(f, 0, text, sizeof(text) - 1);
	expect(f, -EMEDIUMTYPE, "not a pagedkv disk image");
	/* Zeros are somebody's as well. */
	assert_int_equal(truncate(f->folder.path, 0), 0);
	assert_int_equal(truncate(f->folder.path, 1 << 20), 0);
	expect(f, -EMEDIUMTYPE, "not a pagedkv disk image");
}

static void test_other_version(void **state)
{
	struct fixture *f = *state;
	uint32_t version = 99;

	make_image(f);
	patch(f, 8, &version, sizeof(version));
	expect(f, -EPROTONOSUPPORT, "version 99");
}

static void test_damaged_superblock(void **state)
{
	struct fixture *f = *state;
	unsigned int at;

	for (at = 12; at < PKVRT_FMT_BLOCK; at += at < 256 ? 13 : 501) {
		uint8_t byte = 0x5a;

		unlink(f->folder.path);
		make_image(f);
		patch(f, at, &byte, 1);
		expect(f, -EBADMSG, "damaged");
	}
}

static void test_superblock_that_lies(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_fmt_super s;
	uint8_t block[PKVRT_FMT_BLOCK];
	int fd;

	make_image(f);
	fd = open(f->folder.path, O_RDONLY);
	assert_int_equal(pread(fd, block, sizeof(block), 0), sizeof(block));
	close(fd);
	assert_int_equal(pkvrt_fmt_get_super(block, &s), 0);
	/* Checksum right, and a geometry that does not fit the file or overflows. */
	f->params.nr_slots = 0;
	s.nr_slots = 4000000000u;
	pkvrt_fmt_put_super(block, &s);
	patch(f, 0, block, sizeof(block));
	expect(f, -ENODATA, "truncated");
	s.nr_slots = UINT64_MAX;
	pkvrt_fmt_put_super(block, &s);
	patch(f, 0, block, sizeof(block));
	expect(f, -EBADMSG, "damaged");
	s.nr_slots = 0;
	pkvrt_fmt_put_super(block, &s);
	patch(f, 0, block, sizeof(block));
	expect(f, -EBADMSG, "damaged");
	s.nr_slots = NR_SLOTS;
	memset(s.pool_name, 'x', sizeof(s.pool_name));
	pkvrt_fmt_put_super(block, &s);
	patch(f, 0, block, sizeof(block));
	expect(f, -EBADMSG, "damaged");
}

static void test_mismatches(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_disk_params good = f->params;

	make_image(f);
	f->params.model_fp++;
	expect(f, -EKEYREJECTED, "another model");
	f->params = good;
	f->params.pool_name = "other";
	expect(f, -EEXIST, "another pool");
	f->params = good;
	f->params.nr_slots++;
	expect(f, -EDOM, "10 slots, not 11");
	f->params = good;
	f->params.page_bytes *= 2;
	expect(f, -EDOM, "pages of 8192 bytes, not 16384");
}

static void test_truncated(void **state)
{
	struct fixture *f = *state;
	uint64_t data, total;

	make_image(f);
	pkvrt_fmt_layout(PAGE, NR_SLOTS, &data, &total);
	assert_int_equal(truncate(f->folder.path, (off_t)total - 1), 0);
	expect(f, -ENODATA, "truncated");
	assert_int_equal(truncate(f->folder.path, 5000), 0);
	expect(f, -ENODATA, "truncated");
	assert_int_equal(truncate(f->folder.path, 100), 0);
	expect(f, -ENODATA, "truncated");
}

static void test_interrupted_creation(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_fmt_super s = {
		.state = PKVRT_FMT_CREATING, .page_bytes = PAGE, .nr_slots = NR_SLOTS,
	};
	uint8_t block[PKVRT_FMT_BLOCK];

	pkvrt_fmt_put_super(block, &s);
	patch(f, 0, block, sizeof(block));
	f->params.flags = 0;
	expect(f, -EBADMSG, "interrupted");
	f->params.flags = PKVRT_DISK_CREATE;
	make_image(f);
}

static void test_no_room(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, lim;
	struct stat st;

	f->params.nr_slots = 1ull << 31;
	f->params.page_bytes = 1ull << 30;
	expect(f, -ENOSPC, "has");
	assert_int_equal(stat(f->folder.path, &st), -1);
	f->params.nr_slots = NR_SLOTS;
	f->params.page_bytes = PAGE;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	lim = old;
	lim.rlim_cur = 1 << 20;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
	expect(f, -EFBIG, "limit");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(stat(f->folder.path, &st), -1);
	/* A file that was there, empty, is there afterwards, and empty. */
	close(open(f->folder.path, O_CREAT | O_WRONLY, 0600));
	f->params.nr_slots = 1ull << 31;
	f->params.page_bytes = 1ull << 30;
	expect(f, -ENOSPC, "has");
}

static void test_bad_params(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_disk_params good = f->params;
	struct pkvrt_disk *d;
	char name[PKVRT_DISK_NAME_MAX + 1];

	f->params.page_bytes = 0;
	expect(f, -EINVAL, "multiple");
	f->params.page_bytes = PAGE + 512;
	expect(f, -EINVAL, "multiple");
	f->params.page_bytes = 1ull << 40;
	expect(f, -EINVAL, "multiple");
	f->params = good;
	f->params.nr_slots = UINT64_MAX;
	expect(f, -EINVAL, "too many");
	f->params.nr_slots = 0;
	expect(f, -EINVAL, "number of slots");
	f->params = good;
	f->params.flags = 0x8000;
	expect(f, -EINVAL, "flags");
	f->params = good;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	f->params.pool_name = name;
	expect(f, -EINVAL, "name");
	f->params = good;
	f->params.size = 8;
	assert_int_equal(pkvrt_disk_open(&d, &f->params, NULL, 0), -EINVAL);
	f->params = good;
	f->params.path = NULL;
	assert_int_equal(pkvrt_disk_open(&d, &f->params, NULL, 0), -EINVAL);
}

static void test_in_use(void **state)
{
	struct fixture *f = *state;
	struct pkvrt_disk *d = disk_open(&f->params);

	expect(f, -EBUSY, "in use");
	pkvrt_disk_close(d, PATIENCE);
	d = disk_open(&f->params);
	pkvrt_disk_close(d, PATIENCE);
}

int main(void)
{
#define T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest tests[] = {
		T(test_create_then_open),
		T(test_empty_file_becomes_an_image),
		T(test_wrong_paths),
		T(test_fifo),
		T(test_read_only_file),
		T(test_foreign_file),
		T(test_other_version),
		T(test_damaged_superblock),
		T(test_superblock_that_lies),
		T(test_mismatches),
		T(test_truncated),
		T(test_interrupted_creation),
		T(test_no_room),
		T(test_bad_params),
		T(test_in_use),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
