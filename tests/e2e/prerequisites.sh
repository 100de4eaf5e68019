#!/usr/bin/env bash
# Installs the Debian packages that building Zastava and running its test cluster need. Quick when all are there.
#
#   tests/e2e/prerequisites.sh
set -euo pipefail

packages=(
  clang-14 llvm-14 libbpf-dev        # the observer's eBPF object
  protobuf-compiler                  # the CRI client's bindings
  gcc libc6-dev make cmake pkg-config # C parts of Rust crates, runc's cgo
  libseccomp-dev                     # runc: without seccomp no pod starts
  busybox-static                     # the workload images
  iproute2 nftables iptables conntrack kmod util-linux procps # the nodes
  qemu-system-x86 cpio               # the machine with another kernel
  ca-certificates curl jq git
  shellcheck yamllint                # make check
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = "install ok installed" ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

if [ "$(id -u)" != 0 ]; then
  printf 'prerequisites: run as root, or install: %s\n' "${missing[*]}" >&2
  exit 1
fi
printf 'prerequisites: installing %s\n' "${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# Another apt may hold the lock (a fresh machine's own updates); wait for it, but not for ever.
apt-get -o DPkg::Lock::Timeout=300 update -qq >&2
apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >&2
