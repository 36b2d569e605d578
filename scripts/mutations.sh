#!/usr/bin/env bash
# Plants mistakes in the engine, one at a time, and looks whether the tests find them:
#
#   scripts/mutations.sh [name...]
#
# Each file in scripts/mutations says what is wrong, which tests are the smallest that should find it
# (`test:`), and holds the change. It is applied to a temporary worktree of what is committed; when
# those tests pass, a short simulation runs. Prints a table; fails when a mistake is missed.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tree=$(mktemp -d)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target} CARGO_INCREMENTAL=0 RUST_BACKTRACE=0 CARGO_TERM_COLOR=never
# No test of a planted mistake takes longer; one that hangs is found by that.
limit=${MUTATION_LIMIT_S:-600}
trap 'git -C "$root" worktree remove --force "$tree"' EXIT
git worktree add --quiet --detach "$tree" HEAD
cd "$tree"

simulate() {
  for seed in 1 2 3; do
    timeout "$limit" "$CARGO_TARGET_DIR/release/siltstone-sim" --seed "$seed" --ops 60000 || return 1
    timeout "$limit" "$CARGO_TARGET_DIR/release/siltstone-sim" --seed "$seed" --ops 60000 --bucket || return 1
  done
}

table=$(mktemp)
missed=0
for patch in "$root"/scripts/mutations/*.patch; do
  name=$(basename "$patch" .patch)
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  test=$(sed -n 's/^test: //p' "$patch")
  git apply "$patch"
  # What does not compile proves nothing.
  if ! $test --no-run >"$tree.log" 2>&1; then
    result="does not compile"
    missed=1
  elif ! timeout "$limit" $test >"$tree.log" 2>&1; then
    result="caught by ${test#cargo test -q -p }"
  elif ! cargo build -q --release -p siltstone-sim >"$tree.log" 2>&1; then
    result="does not compile"
    missed=1
  elif ! simulate >"$tree.log" 2>&1; then
    result="caught by the simulation"
  else
    result="MISSED"
    missed=1
  fi
  printf '| %s | %s |\n' "$name" "$result" | tee -a "$table"
  git checkout --quiet .
done
rm -f "$tree.log"
printf '\n| mistake | |\n|---|---|\n'
cat "$table"
rm -f "$table"
exit "$missed"
