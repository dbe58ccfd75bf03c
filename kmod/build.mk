# SPDX-License-Identifier: GPL-2.0-only
# The module itself is built by Kbuild: make -C kmod.
install-man += $(wildcard kmod/man/*.4)
