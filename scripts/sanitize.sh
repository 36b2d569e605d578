#!/usr/bin/env bash
# Runs the tests of the unsafe module (the skip list) and of what stands on it, the memtable, under AddressSanitizer
# and ThreadSanitizer: scripts/sanitize.sh [address|thread ...]. A stable toolchain will do.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=1
export TSAN_OPTIONS="suppressions=$PWD/scripts/tsan-suppressions.txt"
target=x86_64-unknown-linux-gnu
root=${CARGO_TARGET_DIR:-target}
sanitizers=("$@")
[ ${#sanitizers[@]} -gt 0 ] || sanitizers=(address thread)
for sanitizer in "${sanitizers[@]}"; do
  printf '\n== %s\n' "$sanitizer"
  flags="-Zsanitizer=$sanitizer"
  # The standard library that comes with the toolchain is not instrumented; the code under test is.
  [ "$sanitizer" = thread ] && flags="$flags -Cunsafe-allow-abi-mismatch=sanitizer"
  CARGO_TARGET_DIR="$root/sanitize-$sanitizer" RUSTFLAGS="$flags" RUSTDOCFLAGS="$flags" \
    cargo test --locked -p siltstone-kv --lib --target "$target" memtable -- --test-threads=1
done
