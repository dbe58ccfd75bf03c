/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fresh random numbers for the kernels' tests. The seed is printed, and taken from
 * PAGEDKV_TEST_SEED to repeat a run.
 */
#ifndef TESTS_KERNELS_RANDOM_H
#define TESTS_KERNELS_RANDOM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static uint64_t random_state;

static inline void random_start(void)
{
	const char *text = getenv("PAGEDKV_TEST_SEED");

	if (text)
		random_state = strtoull(text, NULL, 0);
	else if (getrandom(&random_state, sizeof(random_state), 0) != sizeof(random_state))
		random_state = 1;
	printf("# PAGEDKV_TEST_SEED=%llu\n", (unsigned long long)random_state);
}

/* splitmix64 */
static inline uint64_t random_bits(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* In [low, high]. */
static inline uint32_t random_in(uint32_t low, uint32_t high)
{
	return low + (uint32_t)(random_bits() % ((uint64_t)high - low + 1));
}

/* In [-1, 1). */
static inline float random_float(void)
{
	return (float)(int32_t)(random_bits() >> 40) / (1 << 23) - 1;
}

static inline void random_shuffle(uint32_t *values, uint32_t nr)
{
	for (uint32_t i = nr; i > 1; i--) {
		uint32_t j = random_in(0, i - 1);
		uint32_t value = values[i - 1];

		values[i - 1] = values[j];
		values[j] = value;
	}
}

#endif
