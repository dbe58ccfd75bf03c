# SPDX-License-Identifier: GPL-2.0-only
tests-sh += $(sort $(wildcard tests/lint/*.sh))
