#!/usr/bin/env bash
# A control plane, and the Kubernetes project's Python client against it.
#
#   tests/clients/python.sh [TRIREME]     (python3 with venv, and a package index that pip reaches)
set -euo pipefail

trireme=$(realpath "${1:-target/debug/trireme}")
here=$(dirname "$(realpath "$0")")
skip() { echo "skipped: $*"; exit 0; }
[ -x "$trireme" ] || skip "there is no $trireme"
work=$(mktemp -d /tmp/trireme-python.XXXXXX)
server=
clean() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" || true; }
    rm -rf "$work"
}
trap clean EXIT

python3 -m venv "$work/venv" >/dev/null 2>&1 || skip "python3 makes no virtual environment"
"$work/venv/bin/pip" install -q --disable-pip-version-check kubernetes >/dev/null 2>&1 || skip "pip cannot install kubernetes"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$trireme" server --disable node,dns,proxy --data-dir "$work/data" --bind-address 127.0.0.1 --advertise-address 127.0.0.1 \
    --https-listen-port "$port" >"$work/log" 2>&1 &
server=$!
deadline=$((SECONDS + 60))
until curl -sk --fail "https://127.0.0.1:$port/readyz" >/dev/null; do
    [ $SECONDS -lt $deadline ] || { cat "$work/log"; exit 1; }
    sleep 0.1
done
"$work/venv/bin/python" "$here/python_client.py" "$work/data/kubeconfig"
