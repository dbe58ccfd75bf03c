// SPDX-License-Identifier: GPL-2.0-only
/* The files of /proc/pagedkv: finding, opening and reading whole ones. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "optparse.h"
#include "proc.h"

#define FOLDER	"/proc/pagedkv"

int pkv_proc_open(struct pkv_proc *p)
{
	const char *folder = secure_getenv("PAGEDKV_PROC");
	int err;

	p->folder = folder && *folder ? folder : FOLDER;
	p->dir = open(p->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir >= 0)
		return 0;
	err = -errno;
	if (err == -ENOENT && !strcmp(p->folder, FOLDER))
		return pkvrt_why(p->why, sizeof(p->why), err, "the module is not loaded: there is "
				 "no " FOLDER " ('modprobe pagedkv' loads it)");
	return pkvrt_why(p->why, sizeof(p->why), err, "%.128s: %s", p->folder, strerror(-err));
}

void pkv_proc_close(struct pkv_proc *p)
{
	close(p->dir);
}

bool pkv_proc_is_gone(int err)
{
	/* the second one is that of a file which was open when its pool went */
	return err == -ENOENT || err == -EIO;
}

/* Opens @name below the folder. Nothing but a regular file is read: a FIFO would wait. */
static int open_file(struct pkv_proc *p, const char *name, struct pkv_procfile *out)
{
	struct stat st;
	FILE *f = NULL;
	int fd, err;

	snprintf(p->path, sizeof(p->path), "%.100s/%s", p->folder, name);
	fd = openat(p->dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st)) {
		err = -errno;
		pkvrt_why(p->why, sizeof(p->why), err, "%s: %s", p->path, strerror(-err));
		goto close_fd;
	}
	if (!S_ISREG(st.st_mode)) {
		err = pkvrt_why(p->why, sizeof(p->why), -EINVAL, "%s: is not a regular file",
				p->path);
		goto close_fd;
	}
	f = fdopen(fd, "r");
	if (f) {
		pkv_procfile_init(out, f, p->path);
		return 0;
	}
	err = pkvrt_why(p->why, sizeof(p->why), -ENOMEM, "%s: no memory", p->path);
close_fd:
	if (fd >= 0)
		close(fd);
	return err;
}

static int open_pool_file(struct pkv_proc *p, uint32_t pool, const char *name,
			  struct pkv_procfile *f)
{
	char path[48];

	snprintf(path, sizeof(path), "%u/%s", pool, name);
	return open_file(p, path, f);
}

int pkv_proc_done(struct pkv_proc *p, struct pkv_procfile *f, int err)
{
	if (err)
		memcpy(p->why, f->why, sizeof(p->why));
	pkv_procfile_exit(f);
	return err;
}

int pkv_proc_version(struct pkv_proc *p, char *out, size_t len)
{
	struct pkv_procfile f;
	int ret = open_file(p, "version", &f);

	if (ret)
		return ret;
	ret = pkv_procfile_next(&f);
	if (!ret || (ret > 0 && !f.nr_words))
		ret = pkv_procfile_refuse(&f, "has no version");
	if (ret > 0) {
		snprintf(out, len, "%s", f.words[0]);
		ret = 0;
	}
	return pkv_proc_done(p, &f, ret);
}

int pkv_proc_pools(struct pkv_proc *p, struct pkv_proc_pool **out, uint32_t *nr)
{
	struct pkv_procfile f;
	int ret = open_file(p, "pools", &f);

	return ret ? ret : pkv_proc_done(p, &f, pkv_parse_pools(&f, out, nr));
}

int pkv_proc_find(struct pkv_proc *p, const char *which, struct pkv_proc_pool *out)
{
	struct pkv_proc_pool *pools, *found = NULL;
	const char *end;
	uint64_t id;
	uint32_t nr;
	int ret;

	ret = pkv_proc_pools(p, &pools, &nr);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < nr && !found; i++)
		if (pools[i].name[0] && !strcmp(pools[i].name, which))
			found = &pools[i];
	if (pkv_parse_u64(which, &end, &id) && !*end)
		for (uint32_t i = 0; i < nr && !found; i++)
			if (pools[i].id == id)
				found = &pools[i];
	if (found)
		*out = *found;
	else
		ret = pkvrt_why(p->why, sizeof(p->why), -ENOENT, "no pool '%.64s' that you may "
				"read: 'pagedkv pool' lists them", which);
	free(pools);
	return ret;
}

int pkv_proc_limits(struct pkv_proc *p, uint32_t pool, struct pkv_proc_limits *out)
{
	struct pkv_procfile f;
	int ret = open_pool_file(p, pool, "limits", &f);

	return ret ? ret : pkv_proc_done(p, &f, pkv_parse_limits(&f, out));
}

int pkv_proc_tiers(struct pkv_proc *p, struct pkv_proc_sum sums[PAGEDKV_NR_TIERS])
{
	struct pkv_procfile f;
	int ret = open_file(p, "tiers", &f);

	return ret ? ret : pkv_proc_done(p, &f, pkv_parse_tiers(&f, sums));
}

int pkv_proc_counters(struct pkv_proc *p, const char *name, struct pkv_counters *out)
{
	struct pkv_procfile f;
	int ret = open_file(p, name, &f);

	return ret ? ret : pkv_proc_done(p, &f, pkv_parse_counters(&f, out));
}

/* A file that the caller goes on with, past its heading. */
static int open_lines(struct pkv_proc *p, uint32_t pool, const char *name, struct pkv_procfile *f,
		      int (*heading)(struct pkv_procfile *f))
{
	int ret = open_pool_file(p, pool, name, f);

	if (ret)
		return ret;
	ret = heading(f);
	return ret ? pkv_proc_done(p, f, ret) : 0;
}

int pkv_proc_open_maps(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f)
{
	return open_lines(p, pool, "maps", f, pkv_parse_maps_heading);
}

int pkv_proc_open_seqs(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f)
{
	return open_lines(p, pool, "sequences", f, pkv_parse_seqs_heading);
}

int pkv_proc_open_tables(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f)
{
	return open_lines(p, pool, "tables", f, pkv_parse_tables_heading);
}

int pkv_proc_open_files(struct pkv_proc *p, uint32_t pool, struct pkv_procfile *f)
{
	return open_lines(p, pool, "files", f, pkv_parse_files_heading);
}
