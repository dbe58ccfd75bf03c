/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PKV_PLOT_H
#define PKV_PLOT_H

#include <stdio.h>

#include "report.h"

/* The gnuplot script of a report's picture, data and all; it prints SVG to its stdout. */
void pkv_plot_script(FILE *out, const struct pkvrt_report *r);

#endif
