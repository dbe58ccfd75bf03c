# SPDX-License-Identifier: GPL-2.0-only
# The scheduler, its allocation policies, and the main job on top of them.
rt-src += $(addprefix runtime/,alloc.c alloc_buddy.c alloc_paged.c alloc_static.c buddy.c cost.c \
	group.c job.c job_device.c job_report.c job_setup.c metrics.c sched.c sched_absorb.c sched_batch.c sched_compute.c sched_places.c \
	sched_queue.c)
rt-ldlibs += -lnettle
