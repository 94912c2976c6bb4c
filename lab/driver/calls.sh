#!/usr/bin/env bash
# Builds calls.c, linked statically, into the cache, once per set of inputs, and prints the folder:
#
#   <folder>/calls
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lab/driver/once.sh
source "$here/once.sh"
key=$(cat "$here/calls.sh" "$here/calls.c" | sha256sum | cut -c1-16)
once "calls-$key"
gcc -static -pthread -O2 -Wall -Wextra -Werror -o "$out/calls" "$here/calls.c" >&2
complete
