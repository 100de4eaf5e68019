#!/usr/bin/env bash
# Builds the harness where its sources changed, and becomes it.
#
#   tests/e2e/harness.sh ARGUMENT ...     zastava-e2e's own arguments; `help` lists them
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
export ZASTAVA_CACHE=${ZASTAVA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zastava}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ZASTAVA_CACHE/target}
program=$CARGO_TARGET_DIR/$(rustc --print host-tuple)/debug/zastava-e2e

# Always as part of the workspace: with -p its dependencies would have other features, and be built a second time.
build=(cargo build --workspace --bin zastava-e2e)
if [ -x "$program" ]; then
  "${build[@]}" --quiet
else
  echo 'harness: building it, once (a few minutes on a cold cache)' >&2
  "${build[@]}" >&2
fi
exec "$program" "$@"
