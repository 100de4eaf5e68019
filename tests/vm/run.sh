#!/usr/bin/env bash
# Runs the observer's kernel tests on another kernel than this machine's: Debian's own, in an emulated machine, with
# cgroup v2 alone and overlay as a module.
#
#   tests/vm/run.sh [FILTER]     FILTER: tests whose name has it (default: all kernel tests); exit 1 if one fails
#
# An emulated processor: nothing is needed but qemu, and it takes a minute or two.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
export ZASTAVA_CACHE=${ZASTAVA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zastava}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ZASTAVA_CACHE/target}
# Seconds that the machine may run.
limit=900

say() { printf 'vm: %s\n' "$*" >&2; }
if [ "$(uname -m)" != x86_64 ]; then say "skipped: only x86-64 is emulated, this is $(uname -m)"; exit 0; fi

newest() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ {print $2; exit}' || true
}

# The newest kernel of this Debian's cloud image, unpacked once a version.
kernel() {
  set -e # a substitution does not inherit it
  local package folder temp
  package=$(newest)
  folder=$ZASTAVA_CACHE/vm/$package
  if [ -z "$package" ] || [ ! -f "$folder/overlay.ko" ] || [ ! -f "$folder/vmlinuz" ]; then
    mkdir -p "$ZASTAVA_CACHE/vm"
    temp=$(mktemp -d "$ZASTAVA_CACHE/vm/.making.XXXXXX")
    say 'downloading the kernel, once'
    cd "$temp"
    # Old lists name packages that are gone from the mirrors.
    if [ -z "$package" ] || ! apt-get download -qq "$package" >&2; then
      apt-get -o DPkg::Lock::Timeout=300 update -qq >&2
      package=$(newest)
      [ -n "$package" ] || { say 'no package linux-image-cloud-amd64: is main of this Debian among the sources?'; exit 1; }
      folder=$ZASTAVA_CACHE/vm/$package
      apt-get download -qq "$package" >&2
    fi
    dpkg-deb -x ./*.deb x
    mkdir "$temp/done"
    cp "$temp"/x/boot/vmlinuz-* "$temp/done/vmlinuz"
    cp "$(find "$temp/x" -name overlay.ko)" "$temp/done/overlay.ko"
    [ -f "$folder/overlay.ko" ] || rm -rf "$folder"
    mv -T "$temp/done" "$folder" 2>/dev/null || true # another run was faster
    rm -rf "$temp"
  fi
  echo "$folder"
}

# As part of the workspace: with -p its dependencies would have other features, and be built a second time.
tests() {
  cargo test --quiet --workspace --lib --bins --no-run --message-format=json-render-diagnostics |
    jq -r 'select(.profile.test == true and .target.name == "zastava_observer" and .executable != null) | .executable' | tail -n 1
}

# The container runtime of the test cluster and two programs of this machine, with what they are linked with.
programs() { # root
  local bin library
  bin=$(tests/e2e/harness.sh bin)
  mkdir "$1/programs"
  cp -L "$bin/runc" /bin/true /bin/sleep "$1/programs/"
  while IFS= read -r library; do
    mkdir -p "$1$(dirname "$library")"
    cp -L "$library" "$1$library"
  done < <(ldd "$1"/programs/* | grep -oE '/lib[^ ]+' | sort -u)
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder=$(kernel)
program=$(tests)
[ -x "$program" ] || { say 'the tests were not built'; exit 1; }

root=$work/root
mkdir -p "$root/bin"
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$folder/overlay.ko" "$root/overlay.ko"
programs "$root"
cc -static -O2 -o "$root/bin/odd" tests/e2e/workload/odd.c
install -m 755 "$here/init" "$root/init"
strip --strip-all -o "$root/observer-tests" "$program"
(cd "$root" && find . -print0 | sort -z | cpio --null --create --format=newc --quiet --owner=0:0 --reproducible) >"$work/initramfs"

say "booting $(basename "$folder")"
# Not under KVM: a guest hangs there on some hosts, and the figure is not the point.
timeout --kill-after=10 $limit qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
  -nodefaults -nographic -no-reboot -serial stdio \
  -kernel "$folder/vmlinuz" -initrd "$work/initramfs" \
  -append "console=ttyS0 quiet panic=-1 zastava.filter=${1:-kernel_tests}" </dev/null | tr -d '\r' | tee "$work/console"

if grep -q 'SKIPPED' "$work/console"; then say 'a test was skipped, and must not be here'; exit 1; fi
if ! grep -q '^test result: ok. [1-9]' "$work/console"; then say 'no test ran'; exit 1; fi
grep -q '^vm: ended with 0$' "$work/console" || { say 'a test failed, or the machine did not come to an end'; exit 1; }
