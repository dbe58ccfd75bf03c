// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The barrier is a count of arrivals and a round number. The last to arrive resets
 * the count and raises the round, which releases the others. A run is two barriers: one
 * that all leave with the function to run, one that all leave when it has returned.
 *
 * The mutex guards nothing but sleep: a sleeper looks at the round once more under
 * it, and whoever raises the round takes it after raising, so that no wake-up is lost.
 */
#include "workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define MAX_THREADS	1024
#define SPINS		4000	/* some 20 to 100 us */

struct worker {
	struct pkvrt_workers *team;
	pthread_t thread;
	unsigned int index;
};

struct pkvrt_workers {
	atomic_uint nr;		/* lowered when not all could be started */
	atomic_uint arrived;
	atomic_uint round;
	pthread_mutex_t lock;
	pthread_cond_t raised;
	/* written by thread 0 before the first barrier of a run, read after it */
	void (*fn)(void *arg, unsigned int thread);
	void *arg;
	struct worker worker[];
};

static inline void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void wait_for_round_after(struct pkvrt_workers *team, unsigned int round)
{
	for (unsigned int i = 0; i < SPINS; i++) {
		if (atomic_load_explicit(&team->round, memory_order_acquire) != round)
			return;
		relax();
	}
	pthread_mutex_lock(&team->lock);
	while (atomic_load_explicit(&team->round, memory_order_acquire) == round)
		pthread_cond_wait(&team->raised, &team->lock);
	pthread_mutex_unlock(&team->lock);
}

unsigned int pkvrt_workers_nr(const struct pkvrt_workers *team)
{
	return atomic_load_explicit(&team->nr, memory_order_relaxed);
}

void pkvrt_workers_barrier(struct pkvrt_workers *team)
{
	unsigned int round = atomic_load_explicit(&team->round, memory_order_relaxed);
	unsigned int nr = pkvrt_workers_nr(team);

	if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 != nr) {
		wait_for_round_after(team, round);
		return;
	}
	atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
	atomic_store_explicit(&team->round, round + 1, memory_order_release);
	pthread_mutex_lock(&team->lock);
	pthread_cond_broadcast(&team->raised);
	pthread_mutex_unlock(&team->lock);
}

static void *work(void *arg)
{
	struct worker *self = arg;
	struct pkvrt_workers *team = self->team;

	for (;;) {
		pkvrt_workers_barrier(team);
		if (!team->fn)
			return NULL;
		team->fn(team->arg, self->index);
		pkvrt_workers_barrier(team);
	}
}

void pkvrt_workers_run(struct pkvrt_workers *team, void (*fn)(void *arg, unsigned int thread),
		       void *arg)
{
	team->fn = fn;
	team->arg = arg;
	pkvrt_workers_barrier(team);
	fn(arg, 0);
	pkvrt_workers_barrier(team);
}

/* Sends the nr_started threads home: with NULL for a function. */
static void stop(struct pkvrt_workers *team, unsigned int nr_started)
{
	atomic_store_explicit(&team->nr, nr_started + 1, memory_order_relaxed);
	team->fn = NULL;
	pkvrt_workers_barrier(team);
	for (unsigned int i = 1; i <= nr_started; i++)
		pthread_join(team->worker[i].thread, NULL);
	pthread_cond_destroy(&team->raised);
	pthread_mutex_destroy(&team->lock);
	free(team);
}

int pkvrt_workers_create(struct pkvrt_workers **out, unsigned int nr)
{
	struct pkvrt_workers *team;

	if (!out || !nr || nr > MAX_THREADS)
		return -EINVAL;
	team = calloc(1, sizeof(*team) + nr * sizeof(team->worker[0]));
	if (!team)
		return -ENOMEM;
	atomic_init(&team->nr, nr);
	pthread_mutex_init(&team->lock, NULL);
	pthread_cond_init(&team->raised, NULL);

	for (unsigned int i = 1; i < nr; i++) {
		team->worker[i].team = team;
		team->worker[i].index = i;
		if (pthread_create(&team->worker[i].thread, NULL, work, &team->worker[i])) {
			stop(team, i - 1);
			return -EAGAIN;
		}
	}
	*out = team;
	return 0;
}

void pkvrt_workers_destroy(struct pkvrt_workers *team)
{
	if (team)
		stop(team, pkvrt_workers_nr(team) - 1);
}
