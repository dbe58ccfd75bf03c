// SPDX-License-Identifier: MIT
#include "vec_avx2.h"

#include "attention_kernel.h"

const struct pkv_attention_version pkv_attention_avx2 = {
	.name = "avx2",
	.run = attend_run,
};
