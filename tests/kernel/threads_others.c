// SPDX-License-Identifier: GPL-2.0-only
/* Others in threads.c: readers of /proc and debugfs, an administrator, pools that come and go. */
#include <dirent.h>

#include "threads.h"

/* A file, some bytes a read, to its end or its pool's; its first bytes stay in @head. */
static void read_file(const char *path, size_t chunk, char *head, size_t len)
{
	char buf[4096];
	size_t got = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY);

	while (fd >= 0 && (n = read(fd, buf, chunk)) > 0) {
		memcpy(head + got, buf, (size_t)n < len - 1 - got ? (size_t)n : len - 1 - got);
		got += (size_t)n < len - 1 - got ? (size_t)n : len - 1 - got;
	}
	if (fd >= 0)
		close(fd);
	head[got] = 0;
	count(LOOKS, 1);
}

static void read_folder(const char *path, uint64_t *rng)
{
	DIR *dir = opendir(path);
	char child[300], head[64];
	struct dirent *d;

	while (dir && (d = readdir(dir)) && !is_over()) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(child, sizeof(child), "%s/%s", path, d->d_name);
		if (d->d_type == DT_DIR) {
			read_folder(child, rng);
			continue;
		}
		read_file(child, 1 + dice(rng, 4096), head, sizeof(head));
		if (strcmp(d->d_name, "check") || !head[0])
			continue;
		if (strcmp(head, "ok\n"))
			fail("%s: %.40s", child, head);
		count(CHECKS, 1);
	}
	if (dir)
		closedir(dir);
}

void be_reader(uint32_t index, uint64_t seed)
{
	uint64_t rng = mix(seed << 16 | 0x4000 | index);

	while (!is_over()) {
		read_folder(index ? "/sys/kernel/debug/pagedkv" : "/proc/pagedkv", &rng);
		pace(1 + dice(&rng, 10));
	}
}

void set_tier(int fd, uint32_t tier, uint32_t state)
{
	struct pagedkv_io_tier_state t = { .size = sizeof(t), .tier = tier, .state = state };
	int ret = call(fd, PAGEDKV_CMD_TIER_STATE, &t);

	if (ret)
		fail("tier %u to state %u: %d", tier, state, ret);
}

static void set_limit(int fd, uint32_t tier, uint32_t limit)
{
	struct pagedkv_io_set_limit l = { .size = sizeof(l), .tier = tier, .limit = limit };
	int ret = call(fd, PAGEDKV_CMD_SET_LIMIT, &l);

	if (ret)
		fail("limit of tier %u to %u: %d", tier, limit, ret);
}

/* Limits, and tiers that are full, read-only or gone for a while. */
void be_administrator(uint64_t seed)
{
	uint64_t rng = mix(seed << 16 | 0x2000);
	int fds[MAX_POOLS];

	for (uint32_t i = 0; i < nr_places; i++)
		fds[i] = open_pool(open_device(), places[i].name, 0);
	while (!is_over()) {
		uint32_t i = dice(&rng, nr_places), tier = dice(&rng, 3);
		uint32_t nr = places[i].nr_slots[tier];

		set_limit(fds[i], tier, nr - dice(&rng, nr / 3));
		if (tier && !dice(&rng, 2)) {
			set_tier(fds[i], tier, 1 + !dice(&rng, 4));
			pace(dice(&rng, 20));
			set_tier(fds[i], tier, 0);
		}
		if (check_pool(fds[i]))
			fail("a broken invariant");
		pace(dice(&rng, 100));
		set_limit(fds[i], tier, nr);
		count(CHANGES, 1);
	}
	for (uint32_t i = 0; i < nr_places; i++)
		close(fds[i]);
}

/* Pools come and go beside the others, named and not, their clients first or last. */
void be_landlord(uint64_t seed)
{
	uint64_t rng = mix(seed << 16 | 0x1000), handle;
	struct pagedkv_io_pool_create p;
	int dev = open_device(), fd, second;
	bool first;

	while (!is_over()) {
		pool_params(&p, "for_a_while", 8, 8, 8);
		if (dice(&rng, 2))
			p.flags = 0;
		fd = create_pool_with(dev, &p);
		second = open_pool(dev, "for_a_while", 0);
		if (fd < 0 || second < 0 || create_seq(fd, NULL, 0, &handle, NULL) ||
		    append(second, handle, 100))
			fail("a pool for a while: %d, %d", fd, second);
		first = dice(&rng, 2);
		close(first ? fd : second);
		if (p.flags && destroy_pool(dev, "for_a_while"))
			fail("the name of a pool stays");
		close(first ? second : fd);
		count(POOLS, 1);
		pace(dice(&rng, 20));
	}
}
