#!/usr/bin/env bash
# Builds the kernel's own tests of the Live Update Orchestrator (tools/testing/selftests/liveupdate of the source that
# the lab's kernels are built from), linked statically, into the cache, once per set of inputs, and prints the folder:
#
#   <folder>/{liveupdate,luo_kexec_simple,luo_multi_session}
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lab/driver/once.sh
source "$here/once.sh"
fail() { echo "lab: $1" >&2; exit 2; }

built=$("$here/../kernels/build.sh")
tree=$(sed -n 's|^include \(.*\)/Makefile$|\1|p' "$built/lu1/build/Makefile")
tests=$tree/tools/testing/selftests/liveupdate
[ -e "$tests/liveupdate.c" ] || fail "the kernel's source has no $tests/liveupdate.c"
key=$({ basename "$(dirname "$tree")"; cat "$here/selftests.sh"; find "$tests" -type f -print0 | sort -z | xargs -0 cat; } | sha256sum | cut -c1-16)
once "selftests-$key"

echo "lab: building the kernel's own tests ..." >&2
work=$out/work
rm -rf "$work"
mkdir -p "$work"
# The headers of this kernel, not those of the machine's C library package, which are older. In a folder apart: nothing
# is written into the source that kernels are built from.
nice -n 10 make -s -C "$tree" O="$work/headers" headers >&2
# As their Makefile does it, but for -static: guests have no libraries.
flags=(-static -O2 -Wall -Wno-unused-function -D_GNU_SOURCE= -isystem "$work/headers/usr/include" -I"$tests/lib/include")
for test in liveupdate luo_kexec_simple luo_multi_session; do
  gcc "${flags[@]}" -o "$out/$test" "$tests/$test.c" "$tests/lib/lu_utils.c" >&2 || fail "the kernel's test $test does not build"
done
rm -rf "$work"
complete
