#!/usr/bin/env bash
# Runs the scenarios on a cluster of their own, and takes it down afterwards.
#
#   tests/e2e/scenarios.sh [FILTER ...]     filters and options of the test program (a part of a name, --nocapture)
#
# KUBECONFIG: runs them on that cluster instead. KEEP=1: leaves the test cluster up, so that the next run starts at once.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [ -z "${KUBECONFIG:-}" ]; then
  export ZASTAVA_CLUSTER=${ZASTAVA_TEST_CLUSTER:-zastava-test}
  if [ -z "${KEEP:-}" ]; then trap 'tests/e2e/harness.sh down >&2' EXIT; fi
  tests/e2e/harness.sh up
fi
# Two at a time: more than that and one waits for the processor, not for the cluster.
cargo test --workspace --test scenarios --no-fail-fast -- --test-threads "${THREADS:-2}" "$@"
