#!/usr/bin/env bash
# Installs what a build and the tests need, but Rust and Go (the README names them). Does nothing where
# nothing is missing; never touches what is already there.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need cc gcc
need git git
need setsid util-linux
need flock util-linux
# Say in tests whether our archives and signatures are what they should be.
need cpio cpio
need openssl openssl
# Keeps bundles in tests: a real registry.
need docker-registry docker-registry
# Puts images together.
need umoci umoci
# Reads the chart's alerts and the dashboard's expressions in a test. Nobody runs Prometheus itself.
need promtool prometheus

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "setup: install these with your package manager, then run this again: ${missing[*]}" >&2
    exit 1
  fi
  sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  echo "setup: installing ${missing[*]}" >&2
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" libc6-dev >&2
fi

fail=0
command -v cargo >/dev/null || { echo "setup: Rust is missing; rust-toolchain.toml names the version" >&2; fail=1; }
command -v go >/dev/null || { echo "setup: Go is missing; 1.26 or newer builds the lab's control plane" >&2; fail=1; }
exit $fail
