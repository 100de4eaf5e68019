#!/usr/bin/env bash
# Everything that can be said about the tree without running it.
#
#   tests/check.sh [STEP ...]     all steps, or the named ones; stderr: progress; exit 1 if any step finds something
#
# All steps run, so that one call shows everything that is wrong.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export ZASTAVA_CACHE=${ZASTAVA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zastava}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ZASTAVA_CACHE/target}
cargo_deny_version=0.20.2
steps=(format licences shell yaml generated docs clippy bans chart rules)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf 'check: %s\n' "$*" >&2; }
wrong() { printf 'check: %s\n' "$*" >&2; return 1; }

step_format() {
  cargo fmt --all --check
}

# What the kernel loads carries its own licence in each file; the rest is under the one of the tree.
step_licences() {
  local file bad=0
  while IFS= read -r file; do
    head -n 3 "$file" | grep -q 'SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)\|SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause' || {
      say "$file: the first lines need SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
      bad=1
    }
  done < <(git ls-files -- 'observer/bpf/*.c' 'observer/bpf/*.h')
  return $bad
}

step_shell() {
  local scripts
  mapfile -t scripts < <(git ls-files -- '*.sh' '.ci/run'; git grep -lE '^#!/(usr/)?bin/(env )?(ba)?sh' -- ':!*.sh' ':!.ci/run' ':!*.rs' ':!*.md' || true)
  shellcheck --severity=warning "${scripts[@]}"
}

# From the package without installing it: that would start a server.
step_rules() {
  local promtool=$ZASTAVA_CACHE/promtool/usr/bin/promtool
  if [ ! -x "$promtool" ]; then
    mkdir -p "$work/deb" "$ZASTAVA_CACHE/promtool"
    (cd "$work/deb" && apt-get download -qq prometheus >&2)
    dpkg-deb --extract "$work"/deb/prometheus_*.deb "$ZASTAVA_CACHE/promtool"
  fi
  "$promtool" check rules docs/operations/runtime-prometheus-rules.yaml >&2
  "$promtool" test rules tests/check/runtime-rules.yaml >&2
}

step_yaml() {
  local files
  mapfile -t files < <(git ls-files -- '*.yaml' '*.yml' ':!charts/*/templates/*')
  yamllint --strict "${files[@]}"
}

# As part of the workspace: with -p its dependencies would have other features, and be built a second time.
generator() { # program arguments
  cargo build --quiet --workspace --bin "$1"
  "$CARGO_TARGET_DIR/$(rustc --print host-tuple)/debug/$1" "${@:2}"
}

step_generated() {
  mkdir -p "$work/crds"
  generator crdgen "$work/crds"
  diff -ru charts/zastava-crds/templates "$work/crds" >&2 ||
    wrong "charts/zastava-crds/templates is stale: cargo run -p zastava-crds --bin crdgen -- charts/zastava-crds/templates"
}

step_docs() {
  generator docgen "$work"
  diff -u docs/reference.md "$work/reference.md" >&2 ||
    wrong "docs/reference.md is stale: cargo run -p zastava-crds --bin docgen -- docs"
  links
}

# Every relative link of the documents leads to a file of the tree.
links() {
  local file target bad=0
  while IFS= read -r file; do
    while IFS= read -r target; do
      [ -e "$(dirname "$file")/$target" ] || { say "$file: link to $target, which is not there"; bad=1; }
    done < <(sed 's/`[^`]*`//g' "$file" | grep -oE '\]\([^)#:]+(#[^)]*)?\)' | sed -E 's/^\]\(//; s/(#[^)]*)?\)$//' | sort -u)
  done < <(git ls-files -- '*.md')
  return $bad
}

step_clippy() {
  cargo clippy --quiet --workspace --all-targets -- -D warnings
}

step_bans() {
  local tool=$ZASTAVA_CACHE/tools/cargo-deny-$cargo_deny_version
  if [ ! -x "$tool/bin/cargo-deny" ]; then
    say "building cargo-deny $cargo_deny_version, once"
    # From outside of the tree: its .cargo/config.toml is for Zastava's own programs.
    (cd "$work" && CARGO_TARGET_DIR=$work/deny cargo install cargo-deny --quiet --version "$cargo_deny_version" --locked \
      --no-default-features --root "$tool")
  fi
  # Advisories need a database from the network; they are looked at elsewhere.
  cargo fetch --quiet --locked
  "$tool/bin/cargo-deny" --offline --workspace check --hide-inclusion-graph bans licenses sources
}

# JSON Schemas of the test cluster's Kubernetes version, made once from its own OpenAPI document.
schemas() {
  set -e # a substitution does not inherit it
  local module version folder
  # The module may be gone where only Zastava's own cache was kept.
  module=$(cd tests/e2e/tools/kubernetes && export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off &&
    go mod download k8s.io/kubernetes >&2 && go list -m -f '{{.Dir}}' k8s.io/kubernetes)
  [ -n "$module" ] || { wrong 'k8s.io/kubernetes is no module of tests/e2e/tools/kubernetes'; return 1; }
  version=$(sha256sum "$module/api/openapi-spec/swagger.json" tests/check/schemas.jq | sha256sum | cut -c1-16)
  folder=$ZASTAVA_CACHE/schemas/$version
  if [ ! -d "$folder" ]; then
    local temp file text
    mkdir -p "$ZASTAVA_CACHE/schemas"
    temp=$(mktemp -d "$ZASTAVA_CACHE/schemas/.making.XXXXXX")
    jq -r -f tests/check/schemas.jq "$module/api/openapi-spec/swagger.json" >"$work/schemas.tsv"
    while IFS=$'\t' read -r file text; do printf '%s' "$text" >"$temp/$file"; done <"$work/schemas.tsv"
    mv -T "$temp" "$folder" 2>/dev/null || rm -rf "$temp" # another run was faster
  fi
  echo "$folder"
}

step_chart() {
  # shellcheck source=tests/check/chart.sh
  . tests/check/chart.sh
  chart_checks
}

if [ $# -gt 0 ]; then steps=("$@"); fi
failed=()
for step in "${steps[@]}"; do
  declare -F "step_$step" >/dev/null || { wrong "no step $step; steps: ${steps[*]}" || exit 2; }
  started=$SECONDS
  # A subshell of its own, since errexit does not hold inside of a condition.
  set +e
  (set -e; "step_$step")
  result=$?
  set -e
  if [ $result -eq 0 ]; then say "$step ok ($((SECONDS - started)) s)"; else say "$step FAILED"; failed+=("$step"); fi
done
if [ ${#failed[@]} -gt 0 ]; then wrong "failed: ${failed[*]}"; fi
