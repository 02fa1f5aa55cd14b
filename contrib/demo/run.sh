#!/usr/bin/env bash
# Runs the demo fleet with the stead that is named: starts it, shows it, and asks the Flask app for an answer.
set -euo pipefail
stead=$(realpath "${1:?usage: contrib/demo/run.sh path/to/stead}")
cd "$(dirname "$0")/../.."
"$stead" start ecosystem.yaml.example
python3 - <<'PY'
import urllib.request
url = "http://127.0.0.1:5000/healthz"
# The socket is stead's: a request that comes before gunicorn is up waits, and is not refused.
with urllib.request.urlopen(url, timeout=30) as answer:
    print(f"\n{url} -> {answer.status} {answer.read().decode().strip()}\n")
PY
"$stead" list
cat <<EOF2

The fleet runs. Look around:
  ${stead} list
  ${stead} logs flask-app -f
  curl http://127.0.0.1:5000/
  curl -X POST 'http://127.0.0.1:5000/fault/exit?code=7'    and then: ${stead} why flask-app
  make demo-stop    stops these apps and forgets them
EOF2
