# The node with an external runtime: containerd from Debian, with all its files below $WORK.

command -v containerd >/dev/null || { skip "containerd" "it is not installed"; return 0; }
[ -x /usr/lib/cni/ptp ] || { skip "containerd" "CNI plugins are not installed"; return 0; }
dir=$WORK/containerd
sock=$dir/containerd.sock
mkdir -p "$dir/net.d"
data=$WORK/external
net=$((NET + 4))
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
# Point to point, not a bridge: what pods of a node say to each other must pass the node, where Services are.
cat >"$dir/net.d/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "mtu": 1450, "ipam": {"type": "host-local", "dataDir": "$dir/ipam",
    "ranges": [[{"subnet": "10.$net.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
containerd -c "$dir/config.toml" >"$dir/log" 2>&1 &
echo $! >"$dir/pid"

ke() { kubectl --kubeconfig "$data/kubeconfig" "$@"; }
ce() { ctr -a "$sock" -n k8s.io "$@"; }
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
  rm -rf "$dir"
}

comes "containerd answers" 20 'io.containerd' ctr -a "$sock" plugins ls
python3 "$ACCEPT/images/oci.py" archive "$WORK/pause.tar" "$REGISTRY/pause:1" "$CACHE/busybox.tar.gz" "cmd=sleep 2147483647"
check "its pause image, imported" ctr -a "$sock" -n k8s.io images import "$WORK/pause.tar"
"$TRIREME" up --data-dir "$data" --https-listen-port $((PORT + 3)) --cluster-cidr "10.$net.0.0/16" \
  --service-cidr "10.$((net + 1)).0.0/16" --kubelet-port 0 --container-runtime-endpoint "unix://$sock" >"$WORK/external.log" 2>&1 &
external=$!
comes "the node is ready, on containerd" 60 'Ready.*containerd://1' ke get nodes -o wide
ke apply -f - >/dev/null <<MANIFEST
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
PATIENCE=100 check "pods run on containerd" ke rollout status deploy/web --timeout=90s
says "their addresses are of the node's range" "^10\\.$net\\.0\\.[0-9]+$" ke get pods -o 'jsonpath={.items[0].status.podIP}'
says "containerd has their containers" "busybox:1" ctr -a "$sock" -n k8s.io containers ls
says "logs" started ke logs deploy/web
pod=$(ke get pod -l app=web -o jsonpath='{.items[0].metadata.name}')
if ke exec "$pod" -- true 2>&1 | grep -q 'not served yet'; then
  skip "exec" "streams of an external runtime are not served"
else
  comes "exec" 10 "^$pod$" ke exec "$pod" -- cat /www/name
fi
comes "a Service from the host" 20 '^web-' curl -fsS -m 3 "http://$(ke get svc web -o jsonpath='{.spec.clusterIP}')/name"
host=$(ke get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
comes "a NodePort" 20 '^web-' curl -fsS -m 3 "http://$host:$(ke get svc web -o jsonpath='{.spec.ports[0].nodePort}')/name"
ke run asks --image="$REGISTRY/busybox:1" --restart=Never -- sh -c 'for i in 1 2 3; do timeout 4 wget -qO- http://web/name; done' >/dev/null
comes "a Service by name from a pod" 30 '^web-' ke logs asks
ids() { ke get pods -o jsonpath='{range .items[*]}{.status.containerStatuses[0].containerID}{.status.containerStatuses[0].restartCount}{"\n"}{end}' | sort; }
before=$(ids)
kill -KILL $external
wait $external 2>/dev/null
"$TRIREME" up --data-dir "$data" --https-listen-port $((PORT + 3)) --cluster-cidr "10.$net.0.0/16" \
  --service-cidr "10.$((net + 1)).0.0/16" --kubelet-port 0 --container-runtime-endpoint "unix://$sock" >>"$WORK/external.log" 2>&1 &
external=$!
comes "kill -9 of Trireme: ready again" 40 ' Ready ' ke get nodes
unchanged() { [ "$(ids)" = "$before" ]; }
check "the same containers, none restarted" unchanged
# The runtime is not ours: only our pods are to go.
ce run -d "$REGISTRY/pause:1" stranger sleep 1000
kill -TERM $external
wait $external 2>/dev/null
check "down stops the pods" "$TRIREME" down --data-dir "$data"
left() { ce containers ls -q; }
says "down leaves the containers of others, and none of ours" '^stranger$' left
says "none of ours" '^1$' sh -c "ctr -a '$sock' -n k8s.io containers ls -q | wc -l"
