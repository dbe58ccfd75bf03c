#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The module in a kernel that watches itself.
exec "$(dirname "$0")/check" debug
