#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Man pages have no mistakes that mandoc knows, and name each other right.
. "${SRC:-$(dirname "$0")/../..}/tests/tap.sh"

pages=$(source_files | grep -E '/man/[^/]*\.[1-8]$')
[ -n "$pages" ] || skip_all "no man pages"
command -v mandoc >/dev/null || skip_all "no mandoc"

# "mdoc or man: missing date" and the like count; only what mandoc knows of this system doesn't
lint()
{
	mandoc -T lint -W style "$1" 2>&1 | grep -vE 'referenced manual not found|outdated mandoc.db'
}

# bad_references PAGE: a page of ours that it names by section and that isn't there
bad_references()
{
	mandoc -T ascii "$1" 2>/dev/null | sed 's,.\x08,,g' | grep -oE '\b(lib)?pagedkvd?[-._a-z0-9]*\([1-8]\)' | sort -u |
		while IFS='()' read -r name section; do
			echo "$pages" | grep -qE "/$name\.$section$" || echo "$1: $name($section)"
		done
}

for page in $pages; do
	silent "$page" lint "$page"
done
silent "pages that are named are there" eval 'for page in $pages; do bad_references "$page"; done'
plan
