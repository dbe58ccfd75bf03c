// SPDX-License-Identifier: MIT
#include "vec_avx512.h"

#include "attention_kernel.h"

const struct pkv_attention_version pkv_attention_avx512 = {
	.name = "avx512",
	.run = attend_run,
};
