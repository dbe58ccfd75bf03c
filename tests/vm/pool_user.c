// SPDX-License-Identifier: GPL-2.0-only
/*
 * usage: pool_user NAME FINGERPRINT
 *
 * Uses a pool that is there: of pages of 16 tokens, six of two sequences, two of these published,
 * and three of one that is idle. Then it says so and waits for the end of its input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pagedkv.h>

#define NR_TOKENS	96u
#define PUBLISHED	32u

static void must(int ret, const char *what)
{
	if (ret >= 0)
		return;
	fprintf(stderr, "pool_user: %s: %s\n", what, strerror(-ret));
	exit(1);
}

static void one_op(struct pagedkv_pool *pool, pagedkv_seq_t seq, uint32_t type, uint32_t arg)
{
	struct pagedkv_op op = { .seq = seq, .type = type, .arg = arg };
	struct pagedkv_delta deltas[16];
	struct pagedkv_move copies[4];
	struct pagedkv_step step = {
		.ops = &op, .nr_ops = 1,
		.deltas = deltas, .max_deltas = 16,
		.copies = copies, .max_copies = 4,
	};

	must(pagedkv_step(pool, &step), "step");
}

int main(int argc, char **argv)
{
	const struct pagedkv_params kmod = { sizeof(kmod), PAGEDKV_BACKEND_KMOD };
	struct pagedkv_seq_params sp = { .size = sizeof(sp), .priority = 1 };
	struct pagedkv_pool_params p = { .size = sizeof(p) };
	struct pagedkv_publish publish = { .nr_tokens = PUBLISHED };
	uint32_t tokens[NR_TOKENS], hit;
	struct pagedkv_pool *pool;
	pagedkv_seq_t a, b;
	struct pagedkv *kv;
	char byte;

	if (argc != 3)
		return 2;
	p.name = argv[1];
	p.fingerprint = strtoull(argv[2], NULL, 16);
	must(pagedkv_open(&kv, &kmod), "/dev/pagedkv");
	must(pagedkv_pool_open(kv, &pool, &p), argv[1]);
	for (uint32_t i = 0; i < NR_TOKENS; i++)
		tokens[i] = i;
	must(pagedkv_seq_create(pool, &a, &sp, &hit), "sequence");
	one_op(pool, a, PAGEDKV_OP_APPEND, NR_TOKENS);
	publish.seq = a;
	publish.tokens = tokens;
	must(pagedkv_publish(pool, &publish, 1), "publish");
	one_op(pool, a, PAGEDKV_OP_FORK, 0);
	must(pagedkv_seq_create(pool, &b, &sp, &hit), "sequence");
	one_op(pool, b, PAGEDKV_OP_APPEND, NR_TOKENS / 2);
	must(pagedkv_advise(pool, b, PAGEDKV_COLD), "advice");
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	pagedkv_close(kv);
	return 0;
}
