# The node with an external runtime: containerd from Debian, with all its files below $WORK.

command -v containerd >/dev/null || { skip "containerd" "it is not installed"; return 0; }
[ -x /usr/lib/cni/ptp ] || { skip "containerd" "CNI plugins are not installed"; return 0; }
dir=$WORK/containerd
sock=$dir/containerd.sock
mkdir -p "$dir/net.d"
data=$WORK/external
export KUBECONFIG=$data/kubeconfig
. "$ACCEPT/streams.sh"
pods=10.$NET.128
trap 'external_end' EXIT

cat >"$dir/config.toml" <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "$sock"
[ttrpc]
address = "$sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$REGISTRY/pause:1"
# Else a machine without CAP_SYS_RESOURCE starts no sandbox.
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$dir/net.d"
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."$REGISTRY"]
endpoint = ["http://$REGISTRY"]
TOML
# An operator's own CNI configuration. Point to point, not a bridge: what pods of a node say to each other must pass the
# node, where Services are.
cat >"$dir/net.d/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "mtu": 1450, "ipam": {"type": "host-local", "dataDir": "$dir/ipam",
    "ranges": [[{"subnet": "$pods.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
containerd -c "$dir/config.toml" >"$dir/log" 2>&1 &
echo $! >"$dir/pid"

ce() { ctr -a "$sock" -n k8s.io "$@"; }
external_up() { # [FLAG...]
  "$TRIREME" up --data-dir "$data" --https-listen-port $((PORT + 3)) --cluster-cidr "$pods.0/17" \
    --service-cidr "10.$((NET + 10)).128.0/17" --kubelet-port 0 --eviction-hard "$EVICTION" --container-runtime-endpoint "unix://$sock" "$@" >>"$WORK/external.log" 2>&1 &
  external=$!
}
external_end() {
  kill -TERM "$external" 2>/dev/null
  wait "$external" 2>/dev/null
  "$TRIREME" down --data-dir "$data" >/dev/null 2>&1
  local id
  for id in $(ce tasks ls -q 2>/dev/null); do ce tasks kill -s KILL "$id" >/dev/null 2>&1; ce tasks rm -f "$id" >/dev/null 2>&1; done
  for id in $(ce containers ls -q 2>/dev/null); do ce containers rm "$id" >/dev/null 2>&1; done
  kill "$(cat "$dir/pid")" 2>/dev/null
  ended "$(cat "$dir/pid")" 10
  "$TRIREME" uninstall --data-dir "$data" --yes >/dev/null 2>&1
  awk -v d="$dir/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r mount; do umount -l "$mount"; done
  for id in /run/netns/cni-*; do
    [ -e "$id" ] && ! grep -qxF "$(basename "$id")" "$WORK/machine.before" && { umount -l "$id"; rm -f "$id"; }
  done
  # containerd leaves the groups of its namespace behind.
  for id in /sys/fs/cgroup/{,*/}k8s.io; do
    [ -d "$id" ] && ! grep -qxF "$id" "$WORK/machine.before" && find "$id" -depth -type d -exec rmdir {} + 2>/dev/null
  done
  # The plugin of host ports made these with iptables.
  for id in ip ip6; do
    grep -q "^table $id nat$" "$WORK/machine.before" || nft delete table $id nat 2>/dev/null
  done
  rm -rf "$dir"
}

comes "containerd answers" 20 'io.containerd' ctr -a "$sock" plugins ls
python3 "$ACCEPT/images/oci.py" archive "$WORK/pause.tar" "$REGISTRY/pause:1" "$CACHE/busybox.tar.gz" "cmd=sleep 2147483647"
check "its pause image, imported" ctr -a "$sock" -n k8s.io images import "$WORK/pause.tar"
external_up
comes "the node is ready, on containerd" 60 'Ready.*containerd://1' kubectl get nodes -o wide
kubectl apply -f - >/dev/null <<MANIFEST
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: $REGISTRY/busybox:1
        command: [sh, -c, 'echo started; mkdir /www; hostname >/www/name; exec busybox httpd -f -p 8080 -h /www']
        readinessProbe: {httpGet: {path: /name, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
MANIFEST
PATIENCE=100 check "pods run on containerd" kubectl rollout status deploy/web --timeout=90s
says "their addresses are of the node's range" "^$pods\\.[0-9]+$" kubectl get pods -o 'jsonpath={.items[0].status.podIP}'
says "containerd has their containers" "busybox:1" ctr -a "$sock" -n k8s.io containers ls
says "logs" started kubectl logs deploy/web
streams $((PORT + 6))
comes "a Service from the host" 20 '^web-' curl -fsS -m 3 "http://$(kubectl get svc web -o jsonpath='{.spec.clusterIP}')/name"
host=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
comes "a NodePort" 20 '^web-' curl -fsS -m 3 "http://$host:$(kubectl get svc web -o jsonpath='{.spec.ports[0].nodePort}')/name"
kubectl run asks --image="$REGISTRY/busybox:1" --restart=Never -- sh -c 'for i in 1 2 3; do timeout 4 wget -qO- http://web/name; done' >/dev/null
comes "a Service by name from a pod" 30 '^web-' kubectl logs asks
says "trireme images ls: those of containerd" "$REGISTRY/busybox +1 " "$TRIREME" images ls --data-dir "$data"
says "trireme images pull" "$REGISTRY/nginx +1 " "$TRIREME" images pull --data-dir "$data" "$REGISTRY/nginx:1"
check "trireme images rm" "$TRIREME" images rm --data-dir "$data" "$REGISTRY/nginx:1"
fails "trireme images rm: it is gone" 'no such image' "$TRIREME" images rm --data-dir "$data" "$REGISTRY/nginx:1"
fails "trireme images import: says what does it" "ctr -a $sock -n k8s.io images import" "$TRIREME" images import --data-dir "$data" "$WORK/pause.tar"
ids() { kubectl get pods -o jsonpath='{range .items[*]}{.status.containerStatuses[0].containerID}{.status.containerStatuses[0].restartCount}{"\n"}{end}' | sort; }
before=$(ids)
kill -KILL $external
wait $external 2>/dev/null
external_up
comes "kill -9 of Trireme: ready again" 40 ' Ready ' kubectl get nodes
unchanged() { diff <(echo "$before") <(ids); }
check "the same containers, none restarted" unchanged
says "kill -9: exec works again" '^web-' kubectl exec deploy/web -- cat /www/name
says "kill -9: logs work again" started kubectl logs deploy/web
comes "kill -9: the Service answers" 20 '^web-' curl -fsS -m 3 "http://$(kubectl get svc web -o jsonpath='{.spec.clusterIP}')/name"
kubectl scale deploy web --replicas=3 >/dev/null
comes "kill -9: new pods come" 40 '^3$' kubectl get deploy web -o jsonpath='{.status.readyReplicas}'
# The runtime is not ours: only our pods are to go.
ce run -d "$REGISTRY/pause:1" stranger sleep 1000
kill -TERM $external
wait $external 2>/dev/null
check "down stops the pods" "$TRIREME" down --data-dir "$data"
left() { ce containers ls -q; }
says "down leaves the containers of others, and none of ours" '^stranger$' left
says "none of ours" '^1$' sh -c "ctr -a '$sock' -n k8s.io containers ls -q | wc -l"

# A runtime without a CNI configuration: Trireme writes one.
rm "$dir/net.d/10-pods.conflist"
external_up --cni-conf-dir "$dir/net.d"
comes "with a CNI configuration of Trireme's: the node is ready" 60 ' Ready ' kubectl get nodes
kubectl apply -f - >/dev/null <<MANIFEST
apiVersion: v1
kind: Pod
metadata: {name: port}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: $REGISTRY/busybox:1
    command: [sh, -c, 'mkdir /www; echo by port >/www/index.html; exec busybox httpd -f -p 8080 -h /www']
    ports: [{containerPort: 8080, hostPort: $((PORT + 7))}]
MANIFEST
comes "a pod with a host port" 60 '^by port$' curl -fsS -m 3 "http://$host:$((PORT + 7))/"
comes "the application is back" 60 '^3$' kubectl get deploy web -o jsonpath='{.status.readyReplicas}'
kill -TERM $external
wait $external 2>/dev/null
check "down again" "$TRIREME" down --data-dir "$data"
says "it took its CNI configuration along" '^0$' sh -c "ls '$dir/net.d' | wc -l"
