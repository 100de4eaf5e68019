#!/usr/bin/env bash
# Builds the programs of the test cluster from their pinned Go modules and prints the folder that holds them.
#
#   tests/e2e/tools/build.sh [--quiet]     stdout: one line, the folder; stderr: progress with times
#
# Each folder beside this script is one Go module (a group). A group is built once per content: its key is a hash of
# go.mod, go.sum, its Go files, the flags below and the Go version. A build goes to a temporary folder that is renamed
# when it is whole, so an interrupted one is started over and never used.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${ZASTAVA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zastava}/tools
quiet=${1:-}

# group | cgo | extra go build flags | program=package ... (kubernetes is one program linked under several names)
# The slowest comes first, so that its progress is seen first.
groups() {
  cat <<'LIST'
kubernetes|0|-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37|kubernetes=.
etcd|0|-ldflags=-s -w|etcd=go.etcd.io/etcd/server/v3
containerd|0|-ldflags=-s -w -X github.com/containerd/containerd/v2/version.Version=2.4.2|containerd=github.com/containerd/containerd/v2/cmd/containerd containerd-shim-runc-v2=github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2 ctr=github.com/containerd/containerd/v2/cmd/ctr
runc|1|-tags=seccomp -ldflags=-s -w|runc=github.com/opencontainers/runc
cni|0|-ldflags=-s -w|ptp=github.com/containernetworking/plugins/plugins/main/ptp loopback=github.com/containernetworking/plugins/plugins/main/loopback host-local=github.com/containernetworking/plugins/plugins/ipam/host-local
crane|0|-ldflags=-s -w|crane=github.com/google/go-containerregistry/cmd/crane registry=.
distribution|0|-ldflags=-s -w|distribution=.
coredns|0|-ldflags=-s -w|coredns=github.com/coredns/coredns
helm|0|-ldflags=-s -w|helm=helm.sh/helm/v4/cmd/helm
cosign|0|-ldflags=-s -w|cosign=github.com/sigstore/cosign/v3/cmd/cosign
kubeconform|0|-ldflags=-s -w|kubeconform=github.com/yannh/kubeconform/cmd/kubeconform
LIST
}
kubernetes_names="kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl"

say() { [ "$quiet" = --quiet ] || printf '%s\n' "$*" >&2; }
fail() { printf 'tools: %s\n' "$*" >&2; exit 1; }

command -v go >/dev/null || fail "go is not on the PATH; install Go 1.26.6 or newer, then run this again"
go_version=$(GOTOOLCHAIN=local go env GOVERSION)

key_of() { # group cgo flags packages
  { printf '%s\n' "$go_version" "$(go env GOARCH)" "$2" "$3" "$4"
    # shellcheck disable=SC2046 # names of our own, without spaces
    cd "$here/$1" && sha256sum go.mod go.sum $(find . -maxdepth 1 -name '*.go' | sort)
  } | sha256sum | cut -c1-16
}

# One pass over the list gives every group's key, and from those the key of the whole folder.
declare -A keys=()
while IFS='|' read -r group cgo flags packages; do
  keys[$group]=$(key_of "$group" "$cgo" "$flags" "$packages")
done < <(groups)
whole=$({ groups | cut -d'|' -f1 | while read -r g; do echo "$g ${keys[$g]}"; done; echo "$kubernetes_names"; } | sha256sum | cut -c1-16)
bin=$cache/$whole/bin

if [ -d "$bin" ]; then
  echo "$bin"
  exit 0
fi

mkdir -p "$cache/groups"
exec 9>"$cache/lock"
if ! flock -n 9; then
  say "tools: another build is running, waiting for it"
  flock 9
fi
rm -rf "$cache"/groups/.building.* "$cache"/.linking.* # left by an interrupted build; nobody else builds now

build_group() { # group cgo flags packages
  local group=$1 cgo=$2 flags=$3 packages=$4
  local done_dir=$cache/groups/$group-${keys[$group]} started=$SECONDS
  if [ -d "$done_dir" ]; then return; fi
  local temp arguments=()
  temp=$(mktemp -d "$cache/groups/.building.XXXXXX")
  say "tools: building $group ..."
  # The flags hold spaces inside -ldflags=..., which is always last.
  # shellcheck disable=SC2206 # a list of flags
  case $flags in
    *" -ldflags="*) arguments=(${flags%% -ldflags=*} "-ldflags=${flags#* -ldflags=}") ;;
    *) arguments=("$flags") ;;
  esac
  local pair
  for pair in $packages; do
    (cd "$here/$group" && CGO_ENABLED=$cgo GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off \
      go build -trimpath -buildvcs=false "${arguments[@]}" -o "$temp/${pair%%=*}" "${pair#*=}" 9>&-) >"$temp.log" 2>&1 || {
      cat "$temp.log" >&2
      fail "building $group failed (output above)"
    }
  done
  rm -f "$temp.log"
  chmod 0755 "$temp"
  mv -T "$temp" "$done_dir"
  say "tools: $group built in $((SECONDS - started)) s"
}

while IFS='|' read -r group cgo flags packages; do
  build_group "$group" "$cgo" "$flags" "$packages" </dev/null
done < <(groups)

link=$(mktemp -d "$cache/.linking.XXXXXX")
mkdir "$link/bin"
while IFS='|' read -r group _ _ packages; do
  for pair in $packages; do
    program=${pair%%=*}
    if [ "$group" = kubernetes ]; then
      for name in $kubernetes_names; do ln -s "../../groups/$group-${keys[$group]}/$program" "$link/bin/$name"; done
    else
      ln -s "../../groups/$group-${keys[$group]}/$program" "$link/bin/$program"
    fi
  done
done < <(groups)
chmod 0755 "$link"
rm -rf "${cache:?}/$whole"
mv -T "$link" "$cache/$whole"
say "tools: ready in $SECONDS s"
echo "$bin"
