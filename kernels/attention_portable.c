// SPDX-License-Identifier: MIT
#include "vec_portable.h"

#include "attention_kernel.h"

const struct pkv_attention_version pkv_attention_portable = {
	.name = "portable",
	.run = attend_run,
};
