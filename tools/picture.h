/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A run as one self-contained picture: tiers, throughput, moves, batch and the page map over
 * time. SVG; or HTML around it, with the report as text below, for a name in .html or .htm.
 * gnuplot draws. The file appears whole or not at all.
 */
#ifndef PKV_PICTURE_H
#define PKV_PICTURE_H

#include <stddef.h>

#include "report.h"

/**
 * pkv_picture_check - could a picture be drawn into @path? Ask before a long job
 * @why: on failure one line that names the file, or gnuplot, and the cause
 *
 * Return: 0; -ENOENT no gnuplot; -EISDIR, -EINVAL not a regular file; -EACCES and the like.
 */
int pkv_picture_check(const char *path, char *why, size_t why_len);

/**
 * pkv_picture_write - draw it
 *
 * Return: 0; -EIO gnuplot failed or the disk is full; what pkv_picture_check() returns.
 */
int pkv_picture_write(const char *path, const struct pkvrt_report *r, char *why, size_t why_len);

#endif
