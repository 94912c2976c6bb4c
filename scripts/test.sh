#!/usr/bin/env bash
# Everything that must hold, in the order of what fails fastest. Prints how many tests ran.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
# With the tests on real kernels, in everything that is built: another set of features would be built anew.
features=(--features liveupdate-lab/vm)
step() { printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - started)); }

step "setup"
scripts/setup.sh
step "format"
cargo fmt --all --check
step "mutations still apply (make mutants runs them)"
scripts/mutants.sh --check
step "control plane, kernels and the guests' root: built once, then taken from the cache"
scripts/setup-vm.sh
step "clippy, warnings are errors"
# With the suites that have commands of their own (make test-node, make test-driver), so that they cannot rot.
cargo clippy --workspace --all-targets --features liveupdate-lab/node,liveupdate-lab/driver --locked --quiet -- -D warnings
step "documentation, warnings are errors"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace "${features[@]}" --no-deps --document-private-items --locked --quiet
step "binaries"
cargo build --workspace --bins "${features[@]}" --locked --quiet
step "tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# Rollouts, rotations and deaths mostly wait for heartbeats and deadlines: many more of them at a time than there are
# processors, so that the longest of them does not begin last. Guests take turns of their own.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-10}
# One test binary after the other, so that at most one lab runs at a time on a small machine.
cargo test --workspace "${features[@]}" --locked --no-fail-fast 2>&1 | tee "$log" || status=$?
awk -v status=$status '
  /^test result:/ { passed += $4; failed += $6; ignored += $8 }
  END {
    printf "\n%d passed, %d failed, %d skipped\n", passed, failed, ignored
    if (passed == 0) { print "no test ran" > "/dev/stderr"; exit 1 }
    exit status
  }' "$log"
echo "all of it took $((SECONDS - started)) s"
