#!/usr/bin/env bash
# Fuzzes every decoder, and whole runs of operations, under AddressSanitizer: scripts/fuzz.sh [SECONDS [TARGET...]]
# SECONDS (60) is for each target. Needs cargo-fuzz (cargo install cargo-fuzz --locked); a stable toolchain will do.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
export RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=1
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | grep -v siltstone-fuzz)
cargo fuzz build
for target in "${targets[@]}"; do
  printf '\n== %s\n' "$target"
  mkdir -p "corpus/$target"
  # A run that needs more memory or time than this is a finding too.
  cargo fuzz run "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1
done
