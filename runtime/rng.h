/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The one source of randomness: a counter-mode mixer (splitmix64's finaliser)
 * for values that must depend on a position alone, and xoshiro256++ for streams.
 * Both give the same numbers on every machine. Not for secrets.
 */
#ifndef PKVRT_RNG_H
#define PKVRT_RNG_H

#include <math.h>
#include <stdint.h>

struct pkvrt_rng {
	uint64_t s[4];
};

/* A good 64-bit mix of x: equal in, equal out, any bit changes half of the output bits. */
static inline uint64_t pkvrt_mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Two words into one: the seed of stream @b under @a. Not symmetric. */
static inline uint64_t pkvrt_mix2(uint64_t a, uint64_t b)
{
	return pkvrt_mix64(pkvrt_mix64(a) ^ b);
}

static inline void pkvrt_rng_init(struct pkvrt_rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		r->s[i] = pkvrt_mix64(seed + (uint64_t)i * 0x9e3779b97f4a7c15ull);
}

static inline uint64_t pkvrt_rng_u64(struct pkvrt_rng *r)
{
	uint64_t *s = r->s;
	uint64_t sum = s[0] + s[3];
	uint64_t out = ((sum << 23) | (sum >> 41)) + s[0];
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = (s[3] << 45) | (s[3] >> 19);
	return out;
}

/* @x scaled to [0, n): the high word of x * n; @n > 0. Biased by less than n / 2^64. */
static inline uint64_t pkvrt_scale64(uint64_t x, uint64_t n)
{
	return (uint64_t)(((unsigned __int128)x * n) >> 64);
}

/* Uniform in [0, n), n > 0. */
static inline uint64_t pkvrt_rng_below(struct pkvrt_rng *r, uint64_t n)
{
	return pkvrt_scale64(pkvrt_rng_u64(r), n);
}

/* Uniform in [0, 1), 53 bits. */
static inline double pkvrt_rng_unit(struct pkvrt_rng *r)
{
	return (double)(pkvrt_rng_u64(r) >> 11) * 0x1p-53;
}

/* Exponential with mean 1: the gaps of a Poisson process of rate 1. */
static inline double pkvrt_rng_exp(struct pkvrt_rng *r)
{
	return -log1p(-pkvrt_rng_unit(r));
}

/* Standard normal (Box and Muller; one of the pair is dropped, so no state is kept). */
static inline double pkvrt_rng_normal(struct pkvrt_rng *r)
{
	double radius = sqrt(2.0 * pkvrt_rng_exp(r));

	return radius * cos(6.283185307179586 * pkvrt_rng_unit(r));
}

#endif
