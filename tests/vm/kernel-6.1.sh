#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The module in Debian's kernel of series 6.1.
exec "$(dirname "$0")/check" 6.1
