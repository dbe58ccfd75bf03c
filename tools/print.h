/* SPDX-License-Identifier: GPL-2.0-only */
/* A report as text for people, or as one JSON object for programs. */
#ifndef PKV_PRINT_H
#define PKV_PRINT_H

#include <stdio.h>

#include "report.h"

/* Columns of plain text. Errors show in ferror(@out). */
void pkv_print_text(FILE *out, const struct pkvrt_report *r);

/**
 * pkv_print_json - one object and a newline
 *
 * Figures that do not exist (identical when nothing was compared, GB/s when nothing moved) are
 * null. Members are only ever added.
 *
 * Return: 0, -ENOMEM, or -EIO when @out takes no more.
 */
int pkv_print_json(FILE *out, const struct pkvrt_report *r);

#endif
