# Streams to containers, with whatever cluster $KUBECONFIG names: `streams PORT`, PORT being free on this machine.

streams_forwarded() { # PORT
  kubectl port-forward pod/streams "$1:8080" >"$WORK/forward.log" 2>&1 &
  local pid=$! out end=$((SECONDS + 10))
  until out=$(curl -fsS -m 3 "http://127.0.0.1:$1/" 2>&1); do [ $SECONDS -lt $end ] || break; sleep 0.2; done
  kill $pid 2>/dev/null
  wait $pid 2>/dev/null
  echo "$out"
  cat "$WORK/forward.log"
}
streams_attached() { # FLAGS...
  kubectl delete pod reads --grace-period=0 --force >/dev/null 2>&1
  kubectl run reads --image="$REGISTRY/busybox:1" "$@" --attach=false --restart=Never -- sh -c 'read line; echo "heard $line"; sleep 1' >/dev/null
  kubectl wait --for=condition=ready pod/reads --timeout=30s >/dev/null
}
streams_attach() { streams_attached --stdin; echo hello | timeout 15 kubectl attach -i reads; kubectl logs reads; }
streams_attach_tty() { streams_attached --stdin --tty; timeout 20 python3 "$ACCEPT/terminal.py" hello 'heard hello' kubectl attach -it reads; }
streams_files() { # DIR
  mkdir -p "$1"
  python3 - "$1" <<'PYTHON'
import os, sys
for i in range(1000):
    folder = os.path.join(sys.argv[1], str(i % 10))
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"file {i}"), "wb") as f:
        f.write(os.urandom(i * 7 % 5000))
PYTHON
}
streams_sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 md5sum); }
streams_sums_there() { kubectl exec streams -- sh -c 'cd /tmp/many && find . -type f -print0 | sort -z | xargs -0 md5sum'; }
# kubectl 1.32 may read before it knows its own streams; it says so, and what it then drops was sent.
streams_one() {
  local out
  out=$(kubectl exec streams -- sh -c "echo of $1; sleep 1; exit 0" 2>"$WORK/exec.$1") && [ "$out" = "of $1" ] && return
  grep -q 'Unknown stream id' "$WORK/exec.$1"
}
streams_many() {
  local n pids=() failed=0
  for n in $(seq 50); do
    streams_one "$n" &
    pids+=($!)
  done
  for n in "${pids[@]}"; do wait "$n" || failed=$((failed + 1)); done
  echo "$failed of 50 failed"
}
streams_back() { head -c 100000000 /dev/zero | kubectl exec -i streams -- cat | wc -c; }
streams_in() { head -c 100000000 /dev/zero | kubectl exec -i streams -- sh -c 'cat >/dev/null && echo all of it'; }
streams_follow() {
  kubectl run counts --image="$REGISTRY/busybox:1" --restart=Never -- sh -c 'for i in 1 2 3 4; do echo line $i; sleep 0.5; done' >/dev/null
  kubectl wait --for=jsonpath='{.status.phase}'=Running pod/counts --timeout=20s >/dev/null 2>&1
  kubectl logs -f counts
}

streams() { # PORT
  kubectl run streams --image="$REGISTRY/busybox:1" --restart=Never -- \
    sh -c 'echo started; mkdir -p /www; echo page >/www/index.html; exec busybox httpd -f -p 8080 -h /www' >/dev/null
  PATIENCE=40 check "streams: a pod" kubectl wait --for=condition=ready pod/streams --timeout=30s
  comes "logs" 10 started kubectl logs streams
  says "logs -f until the end" 'line 4' streams_follow
  says "exec" '^page$' kubectl exec streams -- cat /www/index.html
  says "exec -i" '^through$' bash -c "echo through | kubectl exec -i streams -- cat"
  says "exec: standard error is apart" '^$' bash -c "kubectl exec streams -- sh -c 'echo wrong >&2' 2>/dev/null"
  fails "exec: the exit code comes back" 'exit code 7' kubectl exec streams -- sh -c 'exit 7'
  fails "exec: a program that is not there" 'no such file|not found' kubectl exec streams -- /no/such/program
  says "exec -it: a terminal of the client's size, and resized" '40 132' \
    python3 "$ACCEPT/terminal.py" --resize 40x132 'stty size' '40 132' kubectl exec -it streams -- sh
  says "attach -i" 'heard hello' streams_attach
  says "attach -it" 'heard hello' streams_attach_tty
  says "port-forward" '^page$' streams_forwarded "$1"
  local protocol
  for protocol in '' channel.k8s.io base64.channel.k8s.io v4.channel.k8s.io v4.base64.channel.k8s.io; do
    says "exec by WebSocket, protocol '$protocol'" '^1: heard typed' \
      python3 "$ACCEPT/websocket.py" "$protocol" streams sh -c 'read line; echo "heard $line"'
    says "protocol '$protocol': the exit code comes back" '^3: .*(status|code) 3' \
      python3 "$ACCEPT/websocket.py" "$protocol" streams sh -c 'exit 3'
  done
  for protocol in v4.channel.k8s.io v4.base64.channel.k8s.io; do
    says "port-forward by WebSocket, protocol '$protocol'" '^page$' \
      python3 "$ACCEPT/websocket.py" --forward 8080 "$protocol" streams
  done
  PATIENCE=120
  says "exec -i: 100 MB in" 'all of it' streams_in
  says "exec -i: 100 MB in and back" '^100000000$' streams_back
  says "50 execs at once" '^0 of 50 failed' streams_many
  streams_files "$WORK/many"
  check "cp of 1000 files to a pod" kubectl cp "$WORK/many" streams:/tmp/many
  check "cp of 1000 files back" kubectl cp streams:/tmp/many "$WORK/many.back"
  check "cp: all the same there" diff <(streams_sums "$WORK/many") <(streams_sums_there)
  check "cp: all the same back" diff <(streams_sums "$WORK/many") <(streams_sums "$WORK/many.back")
  PATIENCE=
  rm -rf "$WORK/many" "$WORK/many.back"
  kubectl delete pod streams reads counts --wait=false >/dev/null
}
