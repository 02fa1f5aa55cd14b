#!/usr/bin/env bash
# What tests need of Debian: the kernel for the guests of tests/v2, and systemd for those who boot it and for what it says of our units.
# `--is-there` only looks, for the kernel. Quick where all is there already.
set -euo pipefail

fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

packages="user-mode-linux busybox-static systemd"
get="as root, on Debian: apt-get install --no-install-recommends $packages"
case $(uname -m) in
  x86_64 | i?86) ;;
  *)
    [ "${1:-}" = --is-there ] || exit 0
    fail "there is no user-mode Linux for $(uname -m)" "the tests of cgroup v2 guests need an x86 machine"
    ;;
esac
if command -v linux.uml >/dev/null && /bin/busybox true 2>/dev/null &&
  { [ "${1:-}" = --is-there ] || [ -x /lib/systemd/systemd ]; }; then
  exit 0
fi
missing="tests need $packages"
if [ "${1:-}" = --is-there ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  fail "$missing" "$get"
fi
echo "tests: apt-get install $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { timeout 300 apt-get update -qq &&
  DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends $packages; } >"$log" 2>&1; then
  cat "$log" >&2
  fail "$missing, and apt-get failed" "$get"
fi
