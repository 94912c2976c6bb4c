#!/usr/bin/env bash
# Builds nowhere.c, linked statically, into the cache, once per set of inputs, and prints the folder:
#
#   <folder>/nowhere
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lab/driver/once.sh
source "$here/once.sh"
key=$(cat "$here/nowhere.sh" "$here/nowhere.c" | sha256sum | cut -c1-16)
once "nowhere-$key"
gcc -static -O2 -Wall -Wextra -Werror -o "$out/nowhere" "$here/nowhere.c" >&2
complete
