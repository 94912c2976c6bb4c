#!/usr/bin/env bash
# The kernel driver: its style, what compiler and sparse say of it, and its ways, good and bad, on a kernel that watches
# it; with all of their set-up, which is half an hour the first time. Words are filters of the tests' names: with them
# only the tests run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
step() { printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - started)); }
checks=0

step "kernels"
scripts/setup.sh
scripts/setup-kernels.sh
lab/kernels/build.sh >/dev/null
if [ $# = 0 ]; then
  step "checkpatch.pl --strict"
  lab/driver/style.sh
  step "W=1 and sparse"
  lab/driver/lint.sh
  step "a kernel's configuration and the driver's package"
  lab/driver/adopt.sh
  checks=3
fi
step "the kernel that watches, the driver for it, the kernel's own tests"
lab/driver/debug-driver.sh >/dev/null
lab/driver/debug-driver.sh --defective >/dev/null
lab/driver/selftests.sh >/dev/null
lab/driver/calls.sh >/dev/null
step "tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --workspace --features liveupdate-lab/vm,liveupdate-lab/driver --locked --test driver -- --nocapture --test-threads=2 "$@" 2>&1 |
  tee "$log" || status=$?
awk -v status=$status -v checks=$checks '
  /^saw [0-9]+ / { seen += $2; if ($0 ~ /faults in/) faults += $2 }
  /^test result:/ { passed += $4; failed += $6; ignored += $8 }
  END {
    printf "\n%d checks of the source; %d tests passed, %d failed, %d skipped; %d things seen, %d of them refused requests\n",
      checks, passed, failed, ignored, seen, faults
    if (passed == 0) { print "no test ran" > "/dev/stderr"; exit 1 }
    exit status
  }' "$log"
echo "all of it took $((SECONDS - started)) s"
