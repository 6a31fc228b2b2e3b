#!/usr/bin/env bash
# The README's first command, word for word, on this clone: it builds Trireme and starts a cluster with a workload that
# answers over its Service. (The second, `cargo test --workspace`, is what `.ci/run` does besides.) Needs root.
set -uo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "skip  the README's first command: needs root"; exit 0; }
. accept/lib.sh

# Another place than a cluster of this machine may have; root needs no sudo, which would forget these.
export TRIREME_DATA_DIR=$DATA TRIREME_HTTPS_LISTEN_PORT=$PORT TRIREME_KUBELET_PORT=0
export TRIREME_CLUSTER_CIDR=10.$NET.0.0/17 TRIREME_SERVICE_CIDR=10.$((NET + 10)).0.0/17
command=$(sed -n 's/^\$ \(cargo build --release .*\)$/\1/p' README.md | head -1 | sed 's/\bsudo //')
[ -n "$command" ] || { echo "FAIL  the README has no first command"; exit 1; }
TRIREME=target/release/trireme

clean() {
  "$TRIREME" down >/dev/null 2>&1
  "$TRIREME" uninstall --yes >/dev/null 2>&1
  rm -rf "$WORK"
}
trap clean EXIT
trap 'exit 130' INT TERM
: >"$WORK/results"

# What is built is no part of what it takes to start.
PATIENCE=3600 check "it builds" bash -c "${command%%&&*} >'$WORK/build.log' 2>&1 || { tail -n 20 '$WORK/build.log'; exit 1; }"
bash -c "exec ${command##*&& }" >"$WORK/up.log" 2>&1 &
echo $! >"$WORK/up.pid"
comes "it prints the page's URL" 120 'http://[0-9.]+:[0-9]+' cat "$WORK/up.log"
url=$(grep -oE 'http://[0-9.]+:[0-9]+[^ ]*' "$WORK/up.log" | head -1)
comes "the page answers there" 30 . curl -fsS -m 5 "$url"
if command -v kubectl >/dev/null; then
  comes "its pods run" 60 '^Running Running Running$' kubectl -n demo get pods -o 'jsonpath={.items[*].status.phase}'
  address=$(kubectl -n demo get service web -o 'jsonpath={.spec.clusterIP}')
  comes "it answers over its Service" 30 . curl -fsS -m 5 "http://$address/"
fi
stop_up INT
# The page may say that it does not find its other tier: names are not answered while Trireme is down.
check "Ctrl-C: the page answers still" curl -sS -o /dev/null -m 15 "$url"
check "down" "$TRIREME" down
check "uninstall" "$TRIREME" uninstall --yes
check "the data directory is gone" test ! -e "$DATA"
! grep -q '^FAIL' "$WORK/results"
