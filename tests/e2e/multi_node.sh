#!/usr/bin/env bash
# Three hosts in network namespaces of this machine: a server and two agents. Pods of each talk to each other and to
# Services, DNS answers, kubectl reads logs and runs commands on agents; a server that restarts keeps its agents, an
# agent that is killed keeps its containers. Leaves nothing behind.
#
#   tests/e2e/multi_node.sh [TRIREME]     (root; kubectl, iproute2 and a static busybox)
set -euo pipefail
# Nothing is to go because the machine's disk is full.
export TRIREME_EVICTION_HARD='memory.available<100Mi'

trireme=$(realpath "${1:-target/debug/trireme}")
skip() { echo "skipped: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "needs root"
for tool in ip nsenter kubectl python3; do command -v $tool >/dev/null || skip "needs $tool"; done
[ -x "$trireme" ] || skip "there is no $trireme"
file_busybox=$(command -v busybox) || skip "needs busybox"

work=$(mktemp -d /tmp/trireme-multi.XXXXXX)
tag=$(basename "$work" | tr -dc a-zA-Z0-9 | tail -c 6)
hosts=(server one two)
declare -A pid
ns() { echo "trm-$tag-$1"; }
# Not `ip netns exec`: that hides the control groups, by mounting another /sys.
in_ns() { local h=$1; shift; nsenter "--net=/run/netns/$(ns "$h")" "$@"; }

stop() { # host signal
    [ -n "${pid[$1]:-}" ] || return 0
    kill "-${2:-TERM}" "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
}

clean() {
    local status=$?
    set +e
    if [ $status != 0 ]; then
        echo "FAILED: the end of what each host said:"
        k get events -A 2>/dev/null | tail -n 20
        for h in "${hosts[@]}"; do echo "--- $h"; tail -n 20 "$work/$h.log" 2>/dev/null; done
    fi
    for h in two one server; do
        in_ns $h "$trireme" uninstall --yes --data-dir "$work/$h" || status=1
        stop $h KILL
        ip netns del "$(ns $h)"
    done
    ip netns del "$(ns wire)"
    grep -q " $work" /proc/mounts && { echo "left mounted:"; grep " $work" /proc/mounts; status=1; }
    for h in "${hosts[@]}"; do
        id=$(printf %s "$work/$h" | sha256sum | cut -c1-8)
        left=$(find /sys/fs/cgroup -name "trireme-$id*" 2>/dev/null)
        [ -z "$left" ] || { echo "left control groups: $left"; status=1; }
        [ ! -e "$work/$h" ] || { echo "left files: $work/$h"; status=1; }
    done
    left=$(pgrep -fa "$work/" || true)
    [ -z "$left" ] || { echo "left running: $left"; status=1; }
    rm -rf --one-file-system "$work"
    [ $status = 0 ] && echo "passed" || echo "failed"
    exit $status
}
trap clean EXIT
trap 'exit 130' INT TERM

say() { echo "== $*"; }
fail() { echo "not so: $*"; exit 1; }
until_true() { # seconds command...
    local deadline=$((SECONDS + $1)); shift
    until "$@" >"$work/last" 2>&1; do
        [ $SECONDS -lt $deadline ] || { cat "$work/last"; fail "$*"; }
        sleep 0.2
    done
}

# --- hosts: a bridge in a namespace of its own, a veth pair to each host
ip netns add "$(ns wire)"
ip -n "$(ns wire)" link add br0 type bridge
ip -n "$(ns wire)" link set br0 up
address=([0]=10.99.0.1 [1]=10.99.0.2 [2]=10.99.0.3)
for i in 0 1 2; do
    h=${hosts[$i]}
    ip netns add "$(ns $h)"
    ip -n "$(ns $h)" link add eth0 type veth peer name "h$i" netns "$(ns wire)"
    ip -n "$(ns wire)" link set "h$i" master br0 up
    ip -n "$(ns $h)" addr add "${address[$i]}/24" dev eth0
    ip -n "$(ns $h)" link set lo up
    ip -n "$(ns $h)" link set eth0 up
    ip -n "$(ns $h)" route add default via 10.99.0.254
done

run() { # host command...
    local h=$1; shift
    nsenter "--net=/run/netns/$(ns "$h")" "$trireme" "$@" --data-dir "$work/$h" --node-name "$h" >>"$work/$h.log" 2>&1 &
    pid[$h]=$!
}
start_server() { run server server --cluster-cidr 10.66.0.0/16 --service-cidr 10.67.0.0/16 --node-ip 10.99.0.1; }
start_agent() { run "$1" agent --server https://10.99.0.1:6443 --token "$token"; }
k() { in_ns server timeout 60 kubectl --kubeconfig "$work/server/kubeconfig" "$@"; }
get() { timeout 20 nsenter "--net=/run/netns/$(ns server)" kubectl --kubeconfig "$work/server/kubeconfig" exec "$1" -- wget -qO- "$2"; }
refused() { # what it says, then the arguments of agent
    local said=$1 out; shift
    if out=$(in_ns one "$trireme" agent --data-dir "$work/one" --node-name one "$@" 2>&1); then fail "$* joined"; fi
    [ "$(grep -c '^trireme: ' <<<"$out")" = 1 ] || fail "not one line: $out"
    grep -q "$said" <<<"$out" || fail "$out, expected: $said"
    echo "   $(grep '^trireme: ' <<<"$out")"
}

say "a server"
start_server
until_true 30 test -s "$work/server/node-token"
until_true 30 k get --raw /readyz
token=$(cat "$work/server/node-token")

say "agents that may not join are told why, in a line"
digest=${token#K10}; digest=${digest%%::*}
refused "another digest" --server https://10.99.0.1:6443 --token "K10${digest//[0-9a-f]/0}::node:x"
refused "refuses the join token" --server https://10.99.0.1:6443 --token "K10$digest::node:wrong"
refused "not of the form" --server https://10.99.0.1:6443 --token nonsense
refused "https only" --server http://10.99.0.1:6443 --token "$token"
refused "does not answer" --server https://10.99.0.1:6444 --token "$token"

say "two agents"
start_agent one
start_agent two
until_true 30 k wait --for=condition=Ready node/server node/one node/two --timeout=1s
k get nodes -o wide

# --- an image of busybox, without a registry
python3 - "$work/busybox.tar" "$file_busybox" <<'PY'
import glob, hashlib, io, json, sys, tarfile
def add(tar, name, data, mode=0o644):
    info = tarfile.TarInfo(name); info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    add(tar, "bin/busybox", open(sys.argv[2], "rb").read(), 0o755)
    for name in ("sh", "wget", "sleep", "nslookup", "httpd", "nc", "echo", "hostname", "cat", "mkdir"):
        link = tarfile.TarInfo("bin/" + name); link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    # A static glibc still loads what resolves names.
    for pattern in ("/lib/*-linux-gnu/lib" + n for n in ("c.so.6", "nss_dns.so.2", "nss_files.so.2", "resolv.so.2")):
        for path in glob.glob(pattern):
            add(tar, path[1:], open(path, "rb").read(), 0o755)
    for path in glob.glob("/lib64/ld-linux-*.so.*") + glob.glob("/lib/ld-linux-*.so.*"):
        add(tar, path[1:], open(path, "rb").read(), 0o755)
    add(tar, "etc/nsswitch.conf", b"hosts: files dns\n")
layer = layer.getvalue()
config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
with tarfile.open(sys.argv[1], "w") as tar:
    add(tar, "config.json", config); add(tar, "layer.tar", layer)
    add(tar, "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["localhost/busybox:1"],
        "Layers": ["layer.tar"]}]).encode())
PY
for h in "${hosts[@]}"; do "$trireme" images import --data-dir "$work/$h" "$work/busybox.tar" >/dev/null; done

say "a pod on each host, behind one service"
for h in "${hosts[@]}"; do
    k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: on-$h, labels: {app: where}}
spec:
  nodeName: $h
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: localhost/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, "mkdir /www && hostname > /www/index.html && echo serving on $h && exec httpd -f -p 8080 -h /www"]
    readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
YAML
done
k expose pod on-server --name where --port 80 --target-port 8080 --selector app=where --type NodePort >/dev/null
until_true 40 k wait --for=condition=Ready pod/on-server pod/on-one pod/on-two --timeout=1s
k get pods -o wide

say "every pod reaches every pod, the service by its name, and the API server"
for from in "${hosts[@]}"; do
    for to in "${hosts[@]}"; do
        ip=$(k get pod "on-$to" -o jsonpath='{.status.podIP}')
        [ "$(get "on-$from" "http://$ip:8080/")" = "on-$to" ] || fail "on-$from does not reach on-$to"
    done
    seen=""
    for _ in $(seq 30); do seen+=" $(get "on-$from" http://where/)"; done
    for to in "${hosts[@]}"; do [[ $seen == *"on-$to"* ]] || fail "on-$from: the service never led to on-$to: $seen"; done
    k exec "on-$from" -- nslookup where.default.svc.cluster.local | grep -q "Address.*10\.67\." || fail "on-$from: no DNS"
    # A connection that opens: TLS is more than busybox can do.
    [ "$(k exec "on-$from" -- sh -c 'nc kubernetes.default 443 </dev/null && echo open')" = open ] || fail "on-$from does not reach the API server"
done

say "the node port answers on every host"
port=$(k get service where -o jsonpath='{.spec.ports[0].nodePort}')
for a in "${address[@]}"; do
    until_true 10 in_ns server "$file_busybox" wget -qO- "http://$a:$port/"
done

say "logs and exec reach pods on agents"
for h in one two; do
    [ "$(k logs "on-$h")" = "serving on $h" ] || fail "logs of on-$h"
    [ "$(k exec "on-$h" -- hostname)" = "on-$h" ] || fail "exec in on-$h"
done

ids() { k get pods -o jsonpath='{range .items[*]}{.metadata.name}={.status.containerStatuses[0].containerID} {end}'; }
before=$(ids)

say "a server that restarts keeps its agents"
stop server
start_server
until_true 30 k get --raw /readyz
until_true 60 k wait --for=condition=Ready node/one node/two --timeout=1s
k run after --image localhost/busybox:1 --image-pull-policy Never --overrides '{"spec":{"nodeName":"one","terminationGracePeriodSeconds":0}}' -- sleep 1000 >/dev/null
until_true 40 k wait --for=condition=Ready pod/after --timeout=1s
k delete pod after --wait=true >/dev/null

say "an agent that is killed keeps its containers, and takes them up again"
stop one KILL
ip=$(k get pod on-one -o jsonpath='{.status.podIP}')
[ "$(get "on-two" "http://$ip:8080/")" = on-one ] || fail "the containers of the killed agent do not answer"
start_agent one
until_true 40 k wait --for=condition=Ready node/one --timeout=1s
until_true 20 k exec on-one -- hostname
[ "$(ids)" = "$before" ] || fail "containers were restarted: $before, then $(ids)"
[ "$(k get pod on-one -o jsonpath='{.status.containerStatuses[0].restartCount}')" = 0 ] || fail "on-one was restarted"
