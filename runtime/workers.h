/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * A team of threads that runs one function together, with barriers inside it.
 * Waits spin a little, because phases are short, and then sleep, because the
 * processors may belong to somebody else.
 */
#ifndef PKVRT_WORKERS_H
#define PKVRT_WORKERS_H

struct pkvrt_workers;

/**
 * pkvrt_workers_create - start nr - 1 threads; the caller of run is the last of the team
 *
 * Return: 0; -EINVAL for nr of 0 or over 1024; -ENOMEM; -EAGAIN when threads can't be started.
 */
int pkvrt_workers_create(struct pkvrt_workers **out, unsigned int nr);

/* Stops the threads and frees the team; takes NULL. Not while a run goes on. */
void pkvrt_workers_destroy(struct pkvrt_workers *team);

/* Threads of the team, the caller of run among them. */
unsigned int pkvrt_workers_nr(const struct pkvrt_workers *team);

/*
 * Runs fn(arg, i) on each thread i of [0, nr) and returns when all have returned.
 * The caller is thread 0. One caller at a time.
 */
void pkvrt_workers_run(struct pkvrt_workers *team, void (*fn)(void *arg, unsigned int thread),
		       void *arg);

/*
 * To be called by all threads of a run alike: returns when all have called it, and
 * what each did before is then seen by all.
 */
void pkvrt_workers_barrier(struct pkvrt_workers *team);

#endif
