#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each header compiles alone.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
while read -r header; do
	echo "#include \"${header#src/}\"" |
		${CC:-cc} -std=gnu11 -Isrc -D_GNU_SOURCE -DVIREO_VERSION='""' -Wall -Wextra -Werror \
			-fsyntax-only -x c - || {
		echo "$header does not compile alone"
		bad=1
	}
done < <(git ls-files 'src/*.h' 2>/dev/null | grep . || find src -name '*.h')
exit $bad
