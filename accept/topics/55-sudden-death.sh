# kill -9 in the middle of 1,000 creates, again and again: what was acknowledged is there, and a workload counts on.

kubectl create namespace death >/dev/null
kubectl -n death run counter --image="$REGISTRY/busybox:1" --restart=Always -- \
  sh -c 'n=0; while :; do n=$((n + 1)); echo "$n"; sleep 0.1; done' >/dev/null
comes "a pod that counts" 30 Running kubectl -n death get pod counter -o jsonpath='{.status.phase}'
identity() { kubectl -n death get pod counter -o jsonpath='{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}'; }
comes "it has a container" 20 '^trireme://.* 0$' identity
before=$(identity)

# Whole objects only: the first entry, the last, and what is between.
maps() { # ROUND
  python3 - "$1" <<'PYTHON'
import json, sys
items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"r{sys.argv[1]}-{n}", "labels": {"round": sys.argv[1]}},
          "data": {"first": str(n), "text": f"{n} " * 300, "last": str(n)}} for n in range(1000)]
print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
PYTHON
}
whole() { # ROUND: every acknowledged object is there and none is half written
  kubectl -n death get configmaps -l "round=$1" -o json | python3 -c '
import json, sys
acknowledged = {line.split()[0].split("/")[1] for line in open(sys.argv[1]) if line.endswith(" created\n")}
found = {m["metadata"]["name"]: m["data"] for m in json.load(sys.stdin)["items"]}
lost = acknowledged - found.keys()
assert not lost, f"lost: {sorted(lost)[:5]}"
for name, data in found.items():
    n = name.split("-")[1]
    assert data == {"first": n, "text": f"{n} " * 300, "last": n}, f"half written: {name}"
assert 300 <= len(acknowledged) < 1000, f"not in the middle: {len(acknowledged)}"
print(len(acknowledged), "acknowledged,", len(found), "found")' "$WORK/created.$1"
}
counted() { # the counter never missed a beat, with nobody there to see it
  kubectl -n death logs counter --timestamps | python3 -c '
import datetime, sys
lines = [line.split() for line in sys.stdin]
numbers = [int(line[1]) for line in lines]
assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "numbers are missing"
times = [datetime.datetime.fromisoformat(line[0][:26].rstrip("Z")) for line in lines]
gap = max((b - a).total_seconds() for a, b in zip(times, times[1:]))
assert gap < 3, f"a gap of {gap} s"
print("counted to", numbers[-1], "largest gap", gap)'
}
for round in 1 2 3 4 5; do
  maps $round >"$WORK/maps.json"
  : >"$WORK/created.$round"
  kubectl -n death create -f "$WORK/maps.json" >"$WORK/created.$round" 2>/dev/null &
  creating=$!
  end=$((SECONDS + 60))
  until [ "$(wc -l <"$WORK/created.$round")" -ge 300 ]; do [ $SECONDS -lt $end ] || break; sleep 0.02; done
  stop_up KILL
  wait $creating
  up || bad "trireme up after kill -9" "$(tail -n 5 "$WORK/up.log")"
  says "kill -9, round $round: every acknowledged object is there, none half written" acknowledged whole $round
  comes "round $round: the counter's container was never restarted" 20 "^$before\$" identity
  comes "round $round: it counted on" 20 'counted to' counted
done
PATIENCE=60 check "delete them" kubectl delete namespace death --timeout=50s
