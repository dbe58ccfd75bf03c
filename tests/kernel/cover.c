// SPDX-License-Identifier: GPL-2.0-only
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcov.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cover.h"

#define KCOV		"/sys/kernel/debug/kcov"
#define TRACE_WORDS	(1UL << 16)

struct elf {
	const uint8_t *file;
	const Elf64_Ehdr *head;
	const Elf64_Shdr *sections;
};

static const void *data_of(const struct elf *e, uint32_t section)
{
	return e->file + e->sections[section].sh_offset;
}

static const char *section_name(const struct elf *e, uint32_t section)
{
	return (const char *)data_of(e, e->head->e_shstrndx) + e->sections[section].sh_name;
}

/* Where a section of the loaded module is; 0: it has the code of its beginning or its end. */
static uint64_t address_of(const char *section)
{
	static const char *const others[] = { ".init", ".exit", ".text.startup", ".text.exit" };
	char path[128], text[32] = { 0 };
	uint64_t address = 0;
	int fd;

	for (uint32_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (!strncmp(section, others[i], strlen(others[i])))
			return 0;
	snprintf(path, sizeof(path), "/sys/module/pagedkv/sections/%s", section);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) > 0)
		address = strtoull(text, NULL, 16);
	close(fd);
	return address;
}

static const char *function_at(const struct elf *e, const Elf64_Shdr *symtab, uint32_t section,
			       uint64_t offset)
{
	const Elf64_Sym *s = (const Elf64_Sym *)(e->file + symtab->sh_offset);
	const char *names = data_of(e, symtab->sh_link);

	for (uint64_t i = 0; i < symtab->sh_size / sizeof(*s); i++)
		if (ELF64_ST_TYPE(s[i].st_info) == STT_FUNC && s[i].st_shndx == section &&
		    offset >= s[i].st_value && offset < s[i].st_value + s[i].st_size)
			return names + s[i].st_name;
	return "?";
}

/* The sites among the relocations of one section. */
static int add_sites(struct cover_map *map, const struct elf *e, const Elf64_Shdr *rela)
{
	const Elf64_Shdr *symtab = &e->sections[rela->sh_link];
	const Elf64_Sym *symbols = data_of(e, rela->sh_link);
	const char *names = data_of(e, symtab->sh_link);
	const Elf64_Rela *r = (const Elf64_Rela *)(e->file + rela->sh_offset);
	uint64_t nr = rela->sh_size / sizeof(*r);
	uint64_t base = address_of(section_name(e, rela->sh_info));
	struct cover_site *sites;

	if (!base)
		return 0;
	sites = realloc(map->sites, (map->nr + nr + 1) * sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	map->sites = sites;
	for (uint64_t i = 0; i < nr; i++) {
		const Elf64_Sym *s = &symbols[ELF64_R_SYM(r[i].r_info)];

		if (strcmp(names + s->st_name, "__sanitizer_cov_trace_pc"))
			continue;
		/* Traced is where the call returns to: behind its four bytes of address. */
		sites[map->nr++] = (struct cover_site) {
			.pc = base + r[i].r_offset + 4,
			.function = function_at(e, symtab, rela->sh_info, r[i].r_offset),
		};
	}
	return 0;
}

static int compare_sites(const void *a, const void *b)
{
	const struct cover_site *x = a, *y = b;

	return (x->pc > y->pc) - (x->pc < y->pc);
}

int cover_map_load(struct cover_map *map, const char *path)
{
	struct elf e;
	struct stat st;
	int fd, ret = 0;

	memset(map, 0, sizeof(*map));
	if (access(KCOV, W_OK))
		return -ENOENT;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		ret = -errno;
	else
		map->file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (!ret && map->file == MAP_FAILED)
		ret = -errno;
	close(fd);
	if (ret)
		return ret;
	e.file = map->file;
	e.head = map->file;
	e.sections = (const Elf64_Shdr *)(e.file + e.head->e_shoff);
	for (uint32_t i = 0; !ret && i < e.head->e_shnum; i++)
		if (e.sections[i].sh_type == SHT_RELA &&
		    e.sections[e.sections[i].sh_info].sh_flags & SHF_EXECINSTR)
			ret = add_sites(map, &e, &e.sections[i]);
	if (!ret && !map->nr)
		ret = -ENODATA;
	if (!ret)
		qsort(map->sites, map->nr, sizeof(*map->sites), compare_sites);
	return ret;
}

uint32_t cover_site(const struct cover_map *map, uint64_t pc)
{
	uint32_t low = 0, high = map->nr;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (map->sites[mid].pc == pc)
			return mid;
		if (map->sites[mid].pc < pc)
			low = mid + 1;
		else
			high = mid;
	}
	return map->nr;
}

int cover_open(struct cover *c)
{
	int ret = -EIO;

	c->trace = NULL;
	c->fd = open(KCOV, O_RDWR | O_CLOEXEC);
	if (c->fd < 0)
		return -errno;
	if (ioctl(c->fd, KCOV_INIT_TRACE, TRACE_WORDS))
		goto fail;
	c->trace = mmap(NULL, TRACE_WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED,
			c->fd, 0);
	if (c->trace == MAP_FAILED || ioctl(c->fd, KCOV_ENABLE, KCOV_TRACE_PC))
		goto fail;
	return 0;

fail:
	ret = -errno;
	close(c->fd);
	c->trace = NULL;
	return ret;
}

void cover_begin(struct cover *c)
{
	if (c->trace)
		__atomic_store_n(&c->trace[0], 0, __ATOMIC_RELAXED);
}

uint32_t cover_end(struct cover *c, const uint64_t **pcs)
{
	if (!c->trace)
		return 0;
	*pcs = c->trace + 1;
	return (uint32_t)__atomic_load_n(&c->trace[0], __ATOMIC_RELAXED);
}
