// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "series.h"

int pkvrt_series_init(struct pkvrt_series *s, uint32_t max, uint64_t interval_ns)
{
	if (max < 2 || max % 2 || !interval_ns)
		return -EINVAL;
	*s = (struct pkvrt_series){ .max = max, .interval_ns = interval_ns };
	s->samples = calloc(max, sizeof(*s->samples));
	return s->samples ? 0 : -ENOMEM;
}

void pkvrt_series_exit(struct pkvrt_series *s)
{
	free(s->samples);
	*s = (struct pkvrt_series){ 0 };
}

/* Keeps the first of each pair. */
static void halve(struct pkvrt_series *s)
{
	s->nr /= 2;
	for (uint32_t i = 1; i < s->nr; i++)
		s->samples[i] = s->samples[2 * i];
	s->interval_ns *= 2;
}

struct pkvrt_sample *pkvrt_series_add(struct pkvrt_series *s, uint64_t t_ns)
{
	struct pkvrt_sample *sample;

	if (s->nr == s->max)
		halve(s);
	sample = &s->samples[s->nr++];
	memset(sample, 0, sizeof(*sample));
	sample->t_ns = t_ns;
	s->next_ns = t_ns + s->interval_ns;
	return sample;
}
