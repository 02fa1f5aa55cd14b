#!/bin/sh
# Benchmark of stead against PM2 and the floor; prints Markdown. `--quick`: 100 apps only, one round (3 minutes instead of 12).
# Nothing else: `--memory`, how memory caps hold (4 minutes); `--health`, what watching costs (2 minutes; no tools); `--policy`, what probes and
# watches of files cost (3 minutes; no tools).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/.cache
stead=${STEAD:-${CARGO_TARGET_DIR:-$here/../../target}/release/stead}
pm2=7.0.4

case "${1:-}" in
    --health | --policy) exec python3 "$here/${1#--}.py" --stead "$stead" ;;
esac
for tool in cc node npm python3; do
    command -v "$tool" >/dev/null || { echo "error: the benchmark needs $tool" >&2; exit 2; }
done
[ -x "$stead" ] || { echo "error: $stead is not there; build it with \`cargo build --release\`" >&2; exit 2; }
mkdir -p "$cache"
for program in floor app leak; do
    [ "$cache/$program" -nt "$here/$program.c" ] || cc -O2 -static -Wall -Wextra -o "$cache/$program" "$here/$program.c"
done
[ -d "$cache/node_modules/pm2" ] || npm install --prefix "$cache" --no-audit --no-fund --silent "pm2@$pm2" >&2
script=bench.py
if [ "${1:-}" = --memory ]; then
    script=memory.py
    shift
fi
exec python3 "$here/$script" --stead "$stead" --tools "$cache" "$@"
