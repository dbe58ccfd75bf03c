// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/pagedkv/ID/check: reading it walks every invariant of a
 * pool, under its lock. For whoever may mount debugfs.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "pkv.h"

static struct dentry *top;

static int check_show(struct seq_file *m, void *v)
{
	struct pkv_kpool *pool = m->private;
	const char *why = "";
	int ret;

	pkv_enter(pool);
	ret = pkv_pool_check(&pool->core, &why);
	pkv_leave_unchanged(pool);
	if (ret && ret != -EUCLEAN)
		return ret;
	seq_printf(m, "%s\n", ret ? why : "ok");
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(check);

void pkv_debugfs_add(struct pkv_kpool *pool)
{
	char name[12];

	snprintf(name, sizeof(name), "%u", pool->id);
	pool->debugfs = debugfs_create_dir(name, top);
	debugfs_create_file("check", 0400, pool->debugfs, pool, &check_fops);
}

/* Waits for those who read. */
void pkv_debugfs_remove(struct pkv_kpool *pool)
{
	debugfs_remove_recursive(pool->debugfs);
	pool->debugfs = NULL;
}

/* Without debugfs all of it does nothing. */
void pkv_debugfs_init(void)
{
	top = debugfs_create_dir("pagedkv", NULL);
}

void pkv_debugfs_exit(void)
{
	debugfs_remove_recursive(top);
}
