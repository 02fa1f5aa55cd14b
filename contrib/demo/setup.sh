#!/bin/sh
# Makes contrib/demo/.venv with Flask and gunicorn. Quick where it is there already. PYTHON chooses the interpreter.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

install() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "$1" "install it, as root: apt-get install $2"
    fi
    echo "demo: $1: apt-get install $2"
    log=$(mktemp)
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $2; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt-get install $2 failed" "see above"
    fi
    rm -f "$log"
}

# Scripts of a venv carry its path and its interpreter's: another of either makes it worthless.
want() {
    pwd -P
    "$python" -c 'import sys; print(sys.executable, sys.version)'
    cat requirements.txt
}

command -v "$python" >/dev/null || install "$python is not installed" "python3 python3-venv"
if [ -x .venv/bin/gunicorn ] && want | cmp -s - .venv/made-of; then
    exit 0
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version) is too old for gunicorn: 3.10 or later is needed" "PYTHON=/path/to/python3 $0"
"$python" -c 'import ensurepip, venv' 2>/dev/null || install "$python has no venv" "python3-venv"

echo "demo: makes $(pwd)/.venv"
"$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --requirement requirements.txt
.venv/bin/python -m pip check --disable-pip-version-check >/dev/null
want >.venv/made-of
