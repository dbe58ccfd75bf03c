// SPDX-License-Identifier: GPL-2.0-only
/*
 * usage: fuzz [-t SECONDS] [-s SEED] [-w WORKERS] [-m MODULE.ko] [-c CORPUS]
 *        fuzz -r INPUT
 *
 * Makes up calls of the module, as fuzz.h says, for SECONDS, in WORKERS
 * processes that share pools by their names; keeps inputs that run code of it
 * in an order that no other did (KCOV; without it, that end in a new way) and
 * changes those. Prints TAP. SECONDS and SEED may come from the environment as
 * FUZZ_SECONDS and FUZZ_SEED. -c begins with the inputs of a file, and leaves
 * what was kept in it; -r runs one input and tells each call.
 *
 * Fails when the kernel warns, an invariant is broken, a call hangs, or
 * something stays after the last descriptor is closed.
 */
#include <ctype.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "../kselftest.h"
#include "fuzz.h"

#define MAX_CORPUS	4096U
#define MAX_WORKERS	8U
#define MAX_ERRNO	160U
#define NR_TRIALS	24U	/* to cut an input that is kept */
#define ROUND_S		10U	/* between looks at what stays */
#define LOOK_US		20000U
#define HANG_LOOKS	3000U	/* at a worker that does not go on: a minute or more */
#define STILL_NS	2000000000ULL

/* What workers share. */
struct shared {
	uint64_t nr_inputs;
	uint32_t nr_corpus, nr_sites, nr_orders;
	bool failed;
	char why[256];
	struct input failing;
	struct input current[MAX_WORKERS];
	uint64_t nr_run[MAX_WORKERS];
	uint64_t until_ns;	/* the end of the round */
	uint64_t still_ns;	/* the machine stood still: no time to count */
	struct input corpus[MAX_CORPUS];
	/*
	 * Bits that were seen: a site, then a site after another one, then a
	 * kind of call that ended with an errno.
	 */
	uint64_t seen[];
};

struct worker {
	struct shared *shared;
	struct world *world;
	uint32_t id;
	uint64_t rng;
	uint32_t nr_new;	/* bits that the last input was the first to show */
	uint32_t new_bits[64];
	uint32_t *wanted;	/* bits that a cut input has to show, or NULL */
	uint32_t nr_wanted, nr_shown;
};

static struct cover_map map;
static uint32_t seconds = 5, nr_workers = 2;
static uint64_t seed = 1;

/* ------------------------------------------------------------------ guidance */

static uint32_t order_bit(uint32_t before, uint32_t site)
{
	return map.nr + before * map.nr + site;
}

static uint32_t nr_bits(void)
{
	return map.nr + map.nr * map.nr + MAX_KINDS * MAX_ERRNO;
}

static void see(struct worker *me, uint32_t bit)
{
	uint64_t mask = 1ULL << (bit % 64), *word = &me->shared->seen[bit / 64];

	for (uint32_t i = 0; i < me->nr_wanted; i++)
		if (me->wanted[i] == bit) {
			me->wanted[i] = UINT32_MAX;
			me->nr_shown++;
		}
	if (*word & mask || __atomic_fetch_or(word, mask, __ATOMIC_RELAXED) & mask)
		return;
	if (me->nr_new < 64)
		me->new_bits[me->nr_new] = bit;
	me->nr_new++;
	if (bit < map.nr)
		__atomic_fetch_add(&me->shared->nr_sites, 1, __ATOMIC_RELAXED);
	else if (bit < map.nr + map.nr * map.nr)
		__atomic_fetch_add(&me->shared->nr_orders, 1, __ATOMIC_RELAXED);
}

static void see_trace(struct worker *me, struct cover *c)
{
	const uint64_t *pcs;
	uint32_t nr = cover_end(c, &pcs), before = map.nr;

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t site = cover_site(&map, pcs[i]);

		if (site == map.nr)
			continue;
		see(me, site);
		if (before != map.nr)
			see(me, order_bit(before, site));
		before = site;
	}
}

static void see_result(void *arg, uint32_t kind, int ret)
{
	uint32_t end = ret >= 0 ? 0 : (uint32_t)-ret;

	if (end < MAX_ERRNO)
		see(arg, map.nr + map.nr * map.nr + kind * MAX_ERRNO + end);
}

static void set_parameter(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, value, strlen(value)) < 0)
		printf("# %s: %s\n", path, strerror(errno));
	close(fd);
}

/* ----------------------------------------------------------- what goes wrong */

static int kmsg = -1;

static bool is_alarming(const char *line)
{
	static const char *const words[] = {
		"BUG: ", "WARNING: ", "KASAN", "UBSAN", "Oops", "general protection",
		"bad page state", "blocked for more than", "circular locking", "inconsistent lock",
		"refcount_t",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(line, words[i]))
			return true;
	return false;
}

/* A line of the kernel's log since the last look that should not be there, or NULL. */
static const char *look_at_log(void)
{
	static char line[1024];
	ssize_t n;

	for (;;) {
		n = read(kmsg, line, sizeof(line) - 1);
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return NULL;
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		if (is_alarming(line))
			return strchr(line, ';') ? strchr(line, ';') + 1 : line;
	}
}

static void fail(struct shared *s, const struct input *in, const char *why)
{
	if (__atomic_exchange_n(&s->failed, true, __ATOMIC_SEQ_CST))
		return;
	s->failing = *in;
	snprintf(s->why, sizeof(s->why), "%s", why);
}

/* -------------------------------------------------------------------- a worker */

static void run(struct worker *me, const struct input *in)
{
	struct shared *s = me->shared;
	const char *why;

	s->current[me->id] = *in;
	__atomic_store_n(&s->nr_run[me->id], s->nr_run[me->id] + 1, __ATOMIC_RELEASE);
	me->nr_new = 0;
	why = world_run(me->world, in, see_result, me);
	see_trace(me, &me->world->actor->cover);
	see_trace(me, &world_helper(me->world)->cover);
	if (!why)
		why = look_at_log();
	if (why)
		fail(s, in, why);
	__atomic_fetch_add(&s->nr_inputs, 1, __ATOMIC_RELAXED);
}

static void keep(struct worker *me, const struct input *in)
{
	uint32_t at = __atomic_fetch_add(&me->shared->nr_corpus, 1, __ATOMIC_RELAXED);

	/* Full: one of the old ones makes room. */
	if (at >= MAX_CORPUS)
		at = (uint32_t)(next_random(&me->rng) % MAX_CORPUS);
	me->shared->corpus[at] = *in;
}

/* One that was kept; one that another worker is about to keep is empty still. */
static void pick(struct worker *me, struct input *in)
{
	const struct shared *s = me->shared;
	uint32_t nr = s->nr_corpus < MAX_CORPUS ? s->nr_corpus : MAX_CORPUS;

	in->nr = 0;
	if (nr)
		*in = s->corpus[next_random(&me->rng) % nr];
	if (!in->nr)
		input_random(in, &me->rng);
}

/* Take away what the new bits don't need, as far as a few trials tell. */
static void cut(struct worker *me, struct input *in)
{
	uint32_t bits[64], left[64], nr = me->nr_new < 64 ? me->nr_new : 64, trials = NR_TRIALS;

	memcpy(bits, me->new_bits, sizeof(bits));
	for (uint32_t size = in->nr / 2; size; size /= 2)
		for (uint32_t end = in->nr; end > size && trials; trials--) {
			struct input less = *in;

			input_cut(&less, end - size, size);
			memcpy(left, bits, sizeof(left));
			me->wanted = left;
			me->nr_wanted = nr;
			me->nr_shown = 0;
			run(me, &less);
			me->nr_wanted = 0;
			if (me->nr_shown == nr)
				*in = less;
			else if (me->nr_new)
				keep(me, &less);
			end = end - size < in->nr ? end - size : in->nr;
		}
}

static void work(struct shared *s, uint32_t id, uint64_t worker_seed)
{
	struct worker me = { .shared = s, .id = id, .rng = worker_seed };
	struct input in, other;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	set_parameter(MEMCG "/cgroup.procs", "0");
	me.world = world_new();
	while (now_ns() < __atomic_load_n(&s->until_ns, __ATOMIC_RELAXED) &&
	       !__atomic_load_n(&s->failed, __ATOMIC_RELAXED)) {
		if (next_random(&me.rng) % 32) {
			pick(&me, &in);
			pick(&me, &other);
			input_mutate(&in, &other, &me.rng);
		} else {
			input_random(&in, &me.rng);
		}
		run(&me, &in);
		if (!me.nr_new || s->failed)
			continue;
		cut(&me, &in);
		keep(&me, &in);
	}
	exit(0);
}

/* -------------------------------------------------------------------- a round */

/* Lines of /proc/pagedkv/pools: pools, and a heading. */
static int nr_pools(void)
{
	FILE *f = fopen("/proc/pagedkv/pools", "r");
	int c, nr = -1;

	while (f && (c = getc(f)) != EOF)
		nr += c == '\n';
	if (f)
		fclose(f);
	return nr;
}

static int nr_users(void)
{
	FILE *f = fopen("/sys/module/pagedkv/refcnt", "r");
	int nr = -1;

	if (f && fscanf(f, "%d", &nr) != 1)
		nr = -1;
	if (f)
		fclose(f);
	return nr;
}

/* All processes of a round are gone, and names are taken away: is all as before? */
static bool is_as_before(int pools, int users)
{
	uint64_t give_up = now_ns() + 30000000000ULL;
	int dev = open_device();

	forget_names(dev);
	close(dev);
	/* What the kernel ends in the background comes a little later. */
	while ((nr_pools() != pools || nr_users() != users) && now_ns() < give_up)
		usleep(10000);
	if (nr_pools() == pools && nr_users() == users)
		return true;
	printf("# %d pools, %d before; %d users of the module, %d before\n", nr_pools(), pools,
	       nr_users(), users);
	return false;
}

static void show_stacks(pid_t pid)
{
	char command[128];

	snprintf(command, sizeof(command),
		 "for t in /proc/%d/task/*; do cat $t/comm $t/stack; done | sed 's/^/# /'", pid);
	if (system(command))
		printf("# no stacks\n");
}

/* Wait for the workers of a round; one that stands still has found a hang. */
static void watch(struct shared *s, const pid_t *pids)
{
	uint64_t seen[MAX_WORKERS] = { 0 }, last_ns = now_ns(), gap_ns;
	uint32_t left = nr_workers, looks[MAX_WORKERS] = { 0 };
	char why[64];
	int status;

	while (left) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		/* Whoever runs the guest has stopped it for a while. */
		gap_ns = now_ns() - last_ns;
		last_ns += gap_ns;
		if (gap_ns > STILL_NS) {
			s->still_ns += gap_ns;
			__atomic_fetch_add(&s->until_ns, gap_ns, __ATOMIC_RELAXED);
		}
		if (pid > 0) {
			left--;
			snprintf(why, sizeof(why), "a worker ended with status %#x", status);
			for (uint32_t i = 0; status && i < nr_workers; i++)
				if (pids[i] == pid)
					fail(s, &s->current[i], why);
			continue;
		}
		usleep(LOOK_US);
		for (uint32_t i = 0; i < nr_workers && !s->failed; i++) {
			looks[i] = s->nr_run[i] == seen[i] ? looks[i] + 1 : 0;
			seen[i] = s->nr_run[i];
			if (looks[i] < HANG_LOOKS || kill(pids[i], 0))
				continue;
			fail(s, &s->current[i], "a call hangs");
			show_stacks(pids[i]);
			kill(pids[i], SIGKILL);
		}
	}
}

static void one_round(struct shared *s, uint64_t nr)
{
	pid_t pids[MAX_WORKERS];

	fflush(stdout);
	/* Each round's pools outlive their memcg for a moment, some with memory charged to it. */
	mkdir(MEMCG, 0755);
	for (uint32_t i = 0; i < nr_workers; i++) {
		pids[i] = fork();
		if (!pids[i])
			work(s, i, seed + (nr * MAX_WORKERS + i) * 0x100000001ULL);
	}
	watch(s, pids);
	rmdir(MEMCG);
}

/* -------------------------------------------------------------------- results */

/* Functions of which nothing was run. */
static void tell_unreached(const struct shared *s)
{
	for (uint32_t i = 0, end; i < map.nr; i = end) {
		const char *function = map.sites[i].function;
		uint32_t nr = 0;

		for (end = i; end < map.nr && map.sites[end].function == function; end++)
			nr += s->seen[end / 64] >> (end % 64) & 1;
		if (!nr)
			printf("# not reached: %s, %u sites\n", function, end - i);
	}
}

/* Each place that was not run, for addr2line. */
static void tell_sites(const struct shared *s)
{
	for (uint32_t i = 0; i < map.nr; i++)
		if (!(s->seen[i / 64] >> (i % 64) & 1))
			printf("# site %llx %s\n",
			       (unsigned long long)(map.sites[i].pc - map.sites[0].pc),
			       map.sites[i].function);
}

static void tell(const struct shared *s, uint64_t since_ns)
{
	printf("# %u s: %llu inputs",
	       (uint32_t)((now_ns() - since_ns - s->still_ns) / 1000000000),
	       (unsigned long long)s->nr_inputs);
	if (map.nr)
		printf(", %u of %u sites, %u orders of two", s->nr_sites, map.nr, s->nr_orders);
	printf(", %u kept\n", s->nr_corpus < MAX_CORPUS ? s->nr_corpus : MAX_CORPUS);
}

static void read_corpus(struct shared *s, const char *path)
{
	FILE *f = fopen(path, "r");

	while (f && s->nr_corpus < MAX_CORPUS && input_read(&s->corpus[s->nr_corpus], f))
		s->nr_corpus++;
	if (f)
		fclose(f);
}

static void write_corpus(const struct shared *s, const char *path)
{
	FILE *f = fopen(path, "w");

	for (uint32_t i = 0; f && i < s->nr_corpus && i < MAX_CORPUS; i++) {
		input_write(&s->corpus[i], f, "");
		fputc('\n', f);
	}
	if (f)
		fclose(f);
}

/* The few failures that inputs ask for, of allocations that may wait too, without a word. */
static void set_up_failures(void)
{
	set_parameter("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	set_parameter("/sys/kernel/debug/failslab/verbose", "0");
	set_parameter("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	set_parameter("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	set_parameter("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	set_parameter("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	set_parameter("/sys/module/pagedkv/parameters/max_pools_per_user", "8");
}

static struct shared *new_shared(void)
{
	size_t len = sizeof(struct shared) + (nr_bits() / 64 + 1) * sizeof(uint64_t);
	struct shared *s = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				-1, 0);

	return s == MAP_FAILED ? NULL : s;
}

static void fuzz(struct shared *s, bool list_sites)
{
	static const char *const trace = "/sys/kernel/tracing/events/pagedkv/enable";
	uint64_t since = now_ns(), until = since + seconds * 1000000000ULL, nr = 0;
	int pools = nr_pools(), users = nr_users();
	bool stays = false;

	while (now_ns() < until + s->still_ns && !s->failed && !stays) {
		uint64_t end = now_ns() + ROUND_S * 1000000000ULL;

		s->until_ns = end < until + s->still_ns ? end : until + s->still_ns;
		set_parameter(trace, nr % 4 == 2 ? "1" : "0");
		one_round(s, nr++);
		stays = !is_as_before(pools, users);
		if (nr % 6 == 1 || now_ns() >= until + s->still_ns)
			tell(s, since);
		fflush(stdout);
	}
	set_parameter(trace, "0");
	if (s->still_ns)
		printf("# the machine stood still for %llu s, which are not counted\n",
		       (unsigned long long)(s->still_ns / 1000000000));
	if (map.nr)
		tell_unreached(s);
	if (list_sites)
		tell_sites(s);
	if (s->failed) {
		printf("# %s, at this input or one a moment before:\n", s->why);
		input_write(&s->failing, stdout, "# ");
	}
	ksft_test_result(!s->failed, "nothing breaks\n");
	ksft_test_result(!stays, "nothing stays\n");
	ksft_test_result(s->nr_inputs > 0, "inputs were tried\n");
}

static void tell_nothing(void *arg, uint32_t kind, int ret)
{
	(void)arg;
	(void)kind;
	(void)ret;
}

static int replay(const char *path)
{
	struct world *w = world_new();
	struct input in;
	FILE *f = fopen(path, "r");
	const char *why;

	if (!f || !input_read(&in, f)) {
		fprintf(stderr, "fuzz: no input in %s\n", path);
		return 2;
	}
	fclose(f);
	setvbuf(stdout, NULL, _IONBF, 0);
	w->verbose = true;
	why = world_run(w, &in, tell_nothing, NULL);
	if (!why)
		why = look_at_log();
	forget_names(w->devices[0]);
	printf("# %s\n", why ? why : "nothing breaks");
	return why != NULL;
}

int main(int argc, char **argv)
{
	const char *module = "/modules/pagedkv.ko", *corpus = NULL, *input = NULL, *e;
	bool list_sites = false;
	struct shared *s;
	int opt;

	leave_rseq(argv);
	e = getenv("FUZZ_SECONDS");
	if (e)
		seconds = (uint32_t)atoi(e);
	e = getenv("FUZZ_SEED");
	if (e)
		seed = strtoull(e, NULL, 0);
	while ((opt = getopt(argc, argv, "t:s:w:m:c:r:l")) != -1)
		switch (opt) {
		case 't':
			seconds = (uint32_t)atoi(optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'w':
			nr_workers = (uint32_t)atoi(optarg);
			break;
		case 'm':
			module = optarg;
			break;
		case 'c':
			corpus = optarg;
			break;
		case 'r':
			input = optarg;
			break;
		case 'l':
			list_sites = true;
			break;
		default:
			return 2;
		}
	if (nr_workers < 1 || nr_workers > MAX_WORKERS)
		return 2;
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(kmsg, 0, SEEK_END);
	set_up_failures();
	if (input)
		return replay(input);
	ksft_print_header();
	if (access("/dev/pagedkv", R_OK | W_OK))
		ksft_exit_skip("no /dev/pagedkv, or not for this user\n");
	ksft_set_plan(4);
	ksft_test_result(thread_bears_failures(), "a thread of the fuzzer bears failures\n");
	if (cover_map_load(&map, module))
		printf("# no KCOV, or not of this module: guided by results alone\n");
	s = new_shared();
	if (!s)
		ksft_exit_fail_msg("no memory\n");
	if (corpus)
		read_corpus(s, corpus);
	printf("# seed %llu, %u s, %u workers\n", (unsigned long long)seed, seconds, nr_workers);
	fuzz(s, list_sites);
	set_parameter("/sys/module/pagedkv/parameters/max_pools_per_user", "256");
	if (corpus)
		write_corpus(s, corpus);
	ksft_finished();
}
