// SPDX-License-Identifier: GPL-2.0-only
/*
 * gnuplot reads its script from a file without a name and writes to another: no pipe that
 * could fill up on either side. What it drew is looked at, and only then put in place.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "picture.h"
#include "plot.h"
#include "print.h"
#include "why.h"

#define MAX_SVG		(256u << 20)	/* bytes; a picture has less than one MiB */
#define MAX_TRIES	100

extern char **environ;

struct cause {
	char *why;
	size_t why_len;
};

#define refuse(c, err, ...) pkvrt_why((c)->why, (c)->why_len, err, __VA_ARGS__)

/* Starts gnuplot on three open files and waits. Return: its status, -errno if it did not run. */
static int run_gnuplot(char *const argv[], int in, int out, int err)
{
	posix_spawn_file_actions_t actions;
	int status = 0, ret;
	pid_t pid;

	ret = posix_spawn_file_actions_init(&actions);
	if (ret)
		return -ret;
	ret = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
	if (!ret)
		ret = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret)
		return -ret;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int check_gnuplot(const struct cause *c)
{
	char *argv[] = { "gnuplot", "--version", NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), ret;

	if (null < 0)
		return refuse(c, -errno, "/dev/null: can't open: %s", strerror(errno));
	ret = run_gnuplot(argv, null, null, null);
	close(null);
	if (ret == -ENOENT || ret == 127)
		return refuse(c, -ENOENT, "gnuplot is not installed, and --report needs it "
			      "(package gnuplot-nox)");
	if (ret)
		return refuse(c, -EIO, "gnuplot does not run, and --report needs it");
	return 0;
}

/* Opens a new file beside @path; @name says which. */
static int open_beside(const char *path, char name[PATH_MAX])
{
	int fd = -1;

	for (int i = 0; i < MAX_TRIES && fd < 0; i++) {
		if (snprintf(name, PATH_MAX, "%s.%ld.%d.tmp", path, (long)getpid(), i) >= PATH_MAX)
			return -ENAMETOOLONG;
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd < 0 && errno != EEXIST)
			return -errno;
	}
	return fd < 0 ? -EEXIST : fd;
}

static int check_path(const char *path, const struct cause *c)
{
	char name[PATH_MAX];
	struct stat st;
	int fd;

	if (!stat(path, &st)) {
		if (S_ISDIR(st.st_mode))
			return refuse(c, -EISDIR, "%.256s: is a directory", path);
		if (!S_ISREG(st.st_mode))
			return refuse(c, -EINVAL, "%.256s: is not a regular file", path);
		if (access(path, W_OK))
			return refuse(c, -errno, "%.256s: can't write: %s", path, strerror(errno));
	}
	fd = open_beside(path, name);
	if (fd < 0)
		return refuse(c, fd, "%.256s: can't write: %s", path, strerror(-fd));
	close(fd);
	unlink(name);
	return 0;
}

int pkv_picture_check(const char *path, char *why, size_t why_len)
{
	const struct cause c = { why, why_len };
	int err = check_path(path, &c);

	return err ? err : check_gnuplot(&c);
}

/* The first line of what gnuplot said, for its user. */
static void read_complaint(FILE *err, char *text, size_t len)
{
	rewind(err);
	do {
		if (!fgets(text, (int)len, err))
			snprintf(text, len, "no reason given");
	} while (strspn(text, " \t\n") == strlen(text));
	text[strcspn(text, "\n")] = '\0';
}

/* All of a file, NUL-terminated; the caller frees it. */
static char *read_all(FILE *f)
{
	long end;
	char *text;

	if (fseek(f, 0, SEEK_END) || (end = ftell(f)) < 0 || (unsigned long)end > MAX_SVG)
		return NULL;
	text = malloc((size_t)end + 1);
	if (!text)
		return NULL;
	rewind(f);
	text[fread(text, 1, (size_t)end, f)] = '\0';
	return text;
}

static bool is_whole(const char *svg)
{
	const char *end = svg ? strstr(svg, "</svg>") : NULL;

	return end && strspn(end + 6, " \n") == strlen(end + 6);
}

/* Return: the picture, for the caller to free; NULL and the cause. */
static char *draw(const struct pkvrt_report *r, const struct cause *c, int *err)
{
	char *argv[] = { "gnuplot", "-d", NULL };	/* -d: not the user's own settings */
	FILE *in = tmpfile(), *out = tmpfile(), *said = tmpfile();
	char complaint[128], *svg = NULL;

	*err = -EIO;
	if (!in || !out || !said) {
		refuse(c, *err, "can't make a temporary file: %s", strerror(errno));
		goto done;
	}
	pkv_plot_script(in, r);
	if (fflush(in) || ferror(in) || lseek(fileno(in), 0, SEEK_SET)) {
		refuse(c, *err, "can't write a temporary file: %s", strerror(errno));
		goto done;
	}
	if (run_gnuplot(argv, fileno(in), fileno(out), fileno(said)) == 0)
		svg = read_all(out);
	if (is_whole(svg)) {
		*err = 0;
		goto done;
	}
	read_complaint(said, complaint, sizeof(complaint));
	refuse(c, *err, "gnuplot could not draw the picture: %s", complaint);
	free(svg);
	svg = NULL;
done:
	if (said)
		fclose(said);
	if (out)
		fclose(out);
	if (in)
		fclose(in);
	return svg;
}

static bool is_html(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot && (!strcasecmp(dot, ".html") || !strcasecmp(dot, ".htm"));
}

/* Report text holds no '<' or '&': names of policies and sources are our own. */
static void put_html(FILE *f, const char *svg, const struct pkvrt_report *r)
{
	const char *start = strstr(svg, "<svg");

	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<title>pagedkv run</title>\n<style>\n"
	      "body { margin: 1em auto; max-width: 1100px; background: #fff; color: #333; }\n"
	      "svg { width: 100%; height: auto; }\n"
	      "pre { margin: 2em 3em; font-size: 13px; line-height: 1.4; }\n"
	      "</style>\n</head>\n<body>\n", f);
	fputs(start ? start : svg, f);
	fputs("<pre>\n", f);
	pkv_print_text(f, r);
	fputs("</pre>\n</body>\n</html>\n", f);
}

/* Writes beside @path, then renames. */
static int put_in_place(const char *path, const char *svg, const struct pkvrt_report *r,
			const struct cause *c)
{
	char name[PATH_MAX];
	int fd = open_beside(path, name), err;
	FILE *f;

	if (fd < 0)
		return refuse(c, fd, "%.256s: can't write: %s", path, strerror(-fd));
	f = fdopen(fd, "w");
	if (!f) {
		err = refuse(c, -ENOMEM, "%.256s: out of memory", path);
		close(fd);
		goto out_unlink;
	}
	if (is_html(path))
		put_html(f, svg, r);
	else
		fputs(svg, f);
	err = fflush(f) || ferror(f) ? -EIO : 0;
	if (fclose(f) || err) {
		err = refuse(c, -EIO, "%.256s: can't write: %s", path, strerror(errno));
		goto out_unlink;
	}
	if (!rename(name, path))
		return 0;
	err = refuse(c, -errno, "%.256s: can't write: %s", path, strerror(errno));
out_unlink:
	unlink(name);
	return err;
}

int pkv_picture_write(const char *path, const struct pkvrt_report *r, char *why, size_t why_len)
{
	const struct cause c = { why, why_len };
	char *svg;
	int err;

	svg = draw(r, &c, &err);
	if (!svg)
		return err;
	err = put_in_place(path, svg, r, &c);
	free(svg);
	return err;
}
