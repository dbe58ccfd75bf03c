/* SPDX-License-Identifier: MIT */
/* A mutex that knows its holder, for lockdep_assert_held(). */
#ifndef PKV_SHIM_MUTEX_H
#define PKV_SHIM_MUTEX_H

#include <pthread.h>

struct mutex {
	pthread_mutex_t mutex;
	pthread_t holder;
	int held;
};

#define __MUTEX_INITIALIZER(name) { .mutex = PTHREAD_MUTEX_INITIALIZER }
#define DEFINE_MUTEX(name) struct mutex name = __MUTEX_INITIALIZER(name)

static inline void mutex_init(struct mutex *lock)
{
	pthread_mutex_init(&lock->mutex, NULL);
	lock->held = 0;
}

static inline void mutex_destroy(struct mutex *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

static inline void mutex_lock(struct mutex *lock)
{
	pthread_mutex_lock(&lock->mutex);
	__atomic_store_n(&lock->holder, pthread_self(), __ATOMIC_RELAXED);
	__atomic_store_n(&lock->held, 1, __ATOMIC_RELAXED);
}

static inline void mutex_unlock(struct mutex *lock)
{
	__atomic_store_n(&lock->held, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&lock->mutex);
}

#endif
