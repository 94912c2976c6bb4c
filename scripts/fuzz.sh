#!/usr/bin/env bash
# The long run of the fuzzer: libFuzzer with the flags that cargo-fuzz gives, on the toolchain that is here.
#   scripts/fuzz.sh [SECONDS [TARGET...]]     default: 60 seconds for each target
# Seeds are fuzz/corpus/TARGET; what is new goes to fuzz/target/found/TARGET, what breaks to fuzz/artifacts/TARGET.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
command -v c++ >/dev/null || { echo "fuzz: a C++ compiler is missing (package g++): libFuzzer is built with it" >&2; exit 1; }
triple=x86_64-unknown-linux-gnu
# Coverage is what steers the search; the address sanitizer watches the C and assembly that is linked in. Both are
# flags that a stable compiler takes only when it is told so.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address --cfg fuzzing -Ccodegen-units=1"
# Its own folder, also where another one is set: these flags fit nothing else.
export CARGO_TARGET_DIR=$PWD/fuzz/target
# Named, so that build scripts and macros are built without the flags.
cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$triple" --bins
for target in "${targets[@]}"; do
  found=fuzz/target/found/$target
  mkdir -p "$found" "fuzz/artifacts/$target"
  printf '== %s, %s s\n' "$target" "$seconds"
  "fuzz/target/$triple/release/$target" "$found" "fuzz/corpus/$target" -max_total_time="$seconds" \
    -max_len=98304 -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="fuzz/artifacts/$target/"
done
