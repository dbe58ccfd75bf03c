/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PKV_RUN_H
#define PKV_RUN_H

#include "options.h"

/**
 * pkv_run - the main job
 *
 * The report goes to stdout; progress, and one line for an error, to stderr.
 *
 * Return: exit status: 0 all well; 1 tokens differ from those with unlimited memory, or the
 * job broke; 2 an input or an option can't be used, and nothing was done.
 */
int pkv_run(const struct pkv_options *o);

#endif
