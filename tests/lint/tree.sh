#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What is committed is all that a build needs, and a build leaves nothing in the source tree.
# Done with the other compiler where there is one (its warnings are errors too), and without CUDA.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

git rev-parse --git-dir >/dev/null 2>&1 || skip_all "not a git checkout"
make_tmp
git clone -q --shared . "$tap_tmp/clone" 2>&1 || { not_ok "git clone"; plan; }
cd "$tap_tmp/clone" || exit 1
cc=$(command -v clang || command -v cc)
check "a fresh clone builds out of its tree with $(basename "$cc")" \
	make -s NVCC= CC="$cc" CFLAGS=-O1 O="$tap_tmp/out" all tests
silent "and stays as it was" git status --porcelain --ignored
check "make clean in a clean tree" make -s clean

# The toolkit's headers are beside the compiler, not beside a script that calls it.
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
if [ -n "$nvcc" ]; then
	mkdir -p "$tap_tmp/bin"
	printf '#!/bin/sh\nexec %s "$@"\n' "$nvcc" >"$tap_tmp/bin/nvcc"
	chmod +x "$tap_tmp/bin/nvcc"
	check "CUDA is found through a script called nvcc" \
		env PATH="$tap_tmp/bin:$PATH" make -s O="$tap_tmp/out" "$tap_tmp/out/runtime/cuda/copier.o"
else
	skip "CUDA is found through a script called nvcc" "no nvcc"
fi
plan
