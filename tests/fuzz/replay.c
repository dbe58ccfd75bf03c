// SPDX-License-Identifier: GPL-2.0-only
/*
 * Feeds every file of a fuzz target's corpus to it once, without libFuzzer: what a fuzzer once
 * found stays found in `make check`, with any compiler. Built a time for each target, with its
 * name and corpus folder; prints TAP. The file in hand is named before it is tried, so that a
 * crash tells its cause.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns the contents, exactly allocated so that a read past the end is seen; caller frees. */
static uint8_t *read_file(const char *path, size_t *size)
{
	uint8_t *data = NULL;
	long end;
	FILE *f = fopen(path, "rb");

	if (!f)
		return NULL;
	if (fseek(f, 0, SEEK_END) || (end = ftell(f)) < 0 || fseek(f, 0, SEEK_SET))
		goto out;
	data = malloc(end ? end : 1);
	*size = end;
	if (data && fread(data, 1, *size, f) != *size) {
		free(data);
		data = NULL;
	}
out:
	fclose(f);
	return data;
}

static int replay(const char *path)
{
	size_t size;
	uint8_t *data = read_file(path, &size);

	if (!data) {
		printf("# %s: %s\n", path, strerror(errno));
		return -EIO;
	}
	printf("# %s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

static int is_seed(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

int main(void)
{
	const char *folder = FUZZ_CORPUS;
	struct dirent **seeds = NULL;
	char path[4096];
	int i, nr, err = 0;

	printf("1..1\n");
	nr = scandir(folder, &seeds, is_seed, alphasort);
	for (i = 0; i < nr; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, seeds[i]->d_name);
		if (replay(path))
			err = -EIO;
		free(seeds[i]);
	}
	free(seeds);
	if (nr <= 0) {
		printf("not ok 1 - %s: no seeds in %s\n", FUZZ_NAME, folder);
		return 1;
	}
	printf("%sok 1 - %s: %d inputs\n", err ? "not " : "", FUZZ_NAME, nr);
	return err ? 1 : 0;
}
