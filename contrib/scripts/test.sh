#!/usr/bin/env bash
# All tests, and then a look that none of them left anything behind.
set -euo pipefail
cd "$(dirname "$0")/../.."
contrib/scripts/uml.sh
before=$(ls -d "${TMPDIR:-/tmp}"/stead-test-* 2>/dev/null || true)
cargo test --locked "$@"
after=$(ls -d "${TMPDIR:-/tmp}"/stead-test-* 2>/dev/null || true)
left=$(comm -13 <(sort <<<"$before") <(sort <<<"$after"))
processes=$(grep -lsz "^STEAD_HOME=${TMPDIR:-/tmp}/stead-test-" /proc/[0-9]*/environ || true)
if [ -n "$left$processes" ]; then
  printf 'left behind by the tests:\n%s\n%s\n' "$left" "$processes" >&2
  exit 1
fi
echo "all tests passed, and nothing is left behind"
