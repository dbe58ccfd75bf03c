// SPDX-License-Identifier: GPL-2.0-only
/* The disk tier where io_uring is forbidden, as in many containers: slower, and right. */
#include "disktest.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define NR_SLOTS	40u

static void forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		skip();
}

static int count(void *ctx, uint32_t slot, const struct pkvrt_key *key)
{
	*(unsigned int *)ctx += seed_of(key) == 100 + slot;
	return 0;
}

static void test_round_trip(void **state)
{
	struct folder f;
	struct pkvrt_disk_params p;
	struct pkvrt_disk_info info;
	struct pkvrt_disk *d;
	struct job jobs[NR_SLOTS] = { 0 };
	uint8_t *pages = page_alloc(NR_SLOTS);
	unsigned int i, nr = 0;

	(void)state;
	forbid_io_uring();
	folder_init(&f);
	p = params_of(&f, NR_SLOTS);
	d = disk_open(&p);
	pkvrt_disk_info(d, &info);
	assert_int_equal(info.caps & PKVRT_IO_CAP_URING, 0);
	for (i = 0; i < NR_SLOTS; i++) {
		fill(pages + i * PAGE, 100 + i);
		job_submit(d, &jobs[i], i % 2 ? PKVRT_DISK_STORE : PKVRT_DISK_SWAP_OUT, i,
			   pages + i * PAGE, 100 + i);
	}
	assert_int_equal(pkvrt_disk_drain(d, pkvrt_now_ns() + PATIENCE), 0);
	for (i = 0; i < NR_SLOTS; i++) {
		assert_int_equal(jobs[i].op.res, 0);
		assert_int_equal(job_run(d, PKVRT_DISK_LOAD, i, pages, 0), 0);
		assert_true(is_filled(pages, 100 + i));
	}
	pkvrt_disk_close(d, PATIENCE);
	d = disk_open(&p);
	assert_int_equal(pkvrt_disk_scan(d, count, &nr), 0);
	assert_int_equal(nr, NR_SLOTS / 2);
	pkvrt_disk_close(d, PATIENCE);
	free(pages);
	folder_exit(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_round_trip) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
