/* SPDX-License-Identifier: MIT */
/*
 * lockdep_assert_held() traps in builds for testing (PKV_SHIM_DEBUG) and is
 * nothing in a release: a library must not abort its user.
 */
#ifndef PKV_SHIM_LOCKDEP_H
#define PKV_SHIM_LOCKDEP_H

#include <linux/mutex.h>

#ifdef PKV_SHIM_DEBUG
static inline void lockdep_assert_held(const struct mutex *lock)
{
	if (!__atomic_load_n(&lock->held, __ATOMIC_RELAXED) ||
	    !pthread_equal(__atomic_load_n(&lock->holder, __ATOMIC_RELAXED), pthread_self()))
		__builtin_trap();
}
#else
#define lockdep_assert_held(lock)	((void)(lock))
#endif

#endif
