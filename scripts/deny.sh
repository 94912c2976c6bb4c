#!/usr/bin/env bash
# Licenses, sources and bans. Advisories need the advisory database and run where it can be fetched:
# `scripts/deny.sh advisories`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny --version 0.20.2
checks=("$@")
[ ${#checks[@]} -gt 0 ] || checks=(bans licenses sources)
cargo deny --locked check "${checks[@]}"
