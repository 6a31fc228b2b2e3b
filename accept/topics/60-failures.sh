# What goes wrong is said, with its reason.

kubectl create namespace bad >/dev/null
waiting() { kubectl -n bad get pod "$1" -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}'; }
events() { kubectl -n bad get events --field-selector "involvedObject.name=$1" -o jsonpath='{range .items[*]}{.reason}: {.message}{"\n"}{end}'; }

# Images.
kubectl -n bad run unreachable --image=127.0.0.1:$((PORT + 56))/none:1 >/dev/null
comes "unreachable registry: ErrImagePull or ImagePullBackOff" 30 'ErrImagePull|ImagePullBackOff' waiting unreachable
comes "unreachable registry: the reason" 30 '[Cc]onnection refused' events unreachable
comes "unreachable registry: it backs off" 40 '^ImagePullBackOff: Back-off pulling image' waiting unreachable
fails "its log is not there, and why" 'is waiting to start: (trying and failing to pull image|image can.t be pulled)' kubectl -n bad logs unreachable
kubectl -n bad run absent --image="$REGISTRY/absent:1" >/dev/null
comes "an image that is not there" 30 'not found|manifest unknown|NotFound' events absent
kubectl -n bad apply -f - >/dev/null <<MANIFEST
apiVersion: v1
kind: Pod
metadata: {name: misnamed}
spec: {containers: [{name: c, image: "UPPER//case"}]}
MANIFEST
comes "a name that is none" 30 '^InvalidImageName' waiting misnamed
kubectl -n bad run never --image="$REGISTRY/never:1" --image-pull-policy=Never >/dev/null
comes "never pulled and not there" 30 '^ErrImageNeverPull' waiting never

python3 - "$WORK/corrupt.tar.gz" <<'PYTHON'
import gzip, io, sys, tarfile
# Another layer than any before, so that no store has it already.
out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w") as tar:
    entry = tarfile.TarInfo("only-here")
    entry.size = 100000
    tar.addfile(entry, io.BytesIO(b"x" * 100000))
open(sys.argv[1], "wb").write(gzip.compress(out.getvalue()))
PYTHON
digest=$(python3 "$ACCEPT/images/oci.py" push "http://$REGISTRY" corrupt:1 "$WORK/corrupt.tar.gz" cmd=sh)
blob=$WORK/registry-main/data/docker/registry/v2/blobs/sha256/${digest:7:2}/${digest:7}/data
printf 'garbage' | dd of="$blob" bs=1 seek=20 conv=notrunc status=none
kubectl -n bad run corrupt --image="$REGISTRY/corrupt:1" >/dev/null
comes "a corrupt layer is told" 30 'corrupt|digest|mismatch' events corrupt
comes "a corrupt layer does not run" 30 'ErrImagePull|ImagePullBackOff' waiting corrupt

# A registry that asks who is there: user accept, password secret.
# (The hash is bcrypt's, of "secret", as the registry wants it.)
echo 'accept:$2b$05$RZw7fBP/kaWBNxVC816IPuueaIDXz7Gb4IL0fE0EKEw0AARWbeBEm' >"$WORK/htpasswd"
private=127.0.0.1:$((PORT + 48))
check "private registry" registry private "$private" "$WORK/htpasswd"
check "push with a password" python3 "$ACCEPT/images/oci.py" push "http://$private" busybox:1 "$CACHE/busybox.tar.gz" cmd=sh auth=accept:secret
kubectl -n bad run stranger --image="$private/busybox:1" -- sleep 1000 >/dev/null
comes "private registry: refused without a secret" 30 'nauthorized|401|authorization|authentication' events stranger
kubectl -n bad create secret docker-registry key --docker-server="$private" --docker-username=accept --docker-password=secret >/dev/null
kubectl -n bad run guest --image="$private/busybox:1" --overrides='{"spec":{"imagePullSecrets":[{"name":"key"}]}}' -- sleep 1000 >/dev/null
comes "private registry: runs with imagePullSecrets" 40 Running kubectl -n bad get pod guest -o jsonpath='{.status.phase}'

# Commands of containers.
kubectl -n bad run nocommand --image="$REGISTRY/busybox:1" --command -- /no/such/program >/dev/null
comes "a program that is not there" 40 'no such file|not found' events nocommand
kubectl -n bad run oom --image="$REGISTRY/busybox:1" --restart=Never --overrides='{"spec":{"containers":[{"name":"oom","image":"'"$REGISTRY"'/busybox:1","command":["sh","-c","x=a; while :; do x=$x$x; done"],"resources":{"limits":{"memory":"32Mi"}}}]}}' >/dev/null
comes "too much memory: OOMKilled" 40 OOMKilled kubectl -n bad get pod oom -o jsonpath='{.status.containerStatuses[0].state.terminated.reason}'
kubectl -n bad run big --image="$REGISTRY/busybox:1" --overrides='{"spec":{"containers":[{"name":"big","image":"x","resources":{"requests":{"cpu":"1000"}}}]}}' >/dev/null
comes "no node is large enough" 20 'Insufficient cpu' kubectl -n bad get pod big -o jsonpath='{.status.conditions[?(@.type=="PodScheduled")].message}'
# A sandbox that cannot be made is tried again, with pauses that grow.
kubectl apply -f - >/dev/null <<'MANIFEST'
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: nobody}
handler: nobody
---
apiVersion: v1
kind: Pod
metadata: {name: homeless, namespace: bad}
spec: {runtimeClassName: nobody, containers: [{name: c, image: none}]}
MANIFEST
tries() { kubectl -n bad get events --field-selector involvedObject.name=homeless,reason=FailedCreatePodSandBox -o json | python3 -c '
import json, sys
print(sum(e.get("count") or 1 for e in json.load(sys.stdin)["items"]))'; }
comes "a sandbox that cannot be made is told" 20 'no runtime for "nobody" is configured' events homeless
fails "a container that was not made has no log" 'waiting to start: ContainerCreating' kubectl -n bad logs homeless
comes "a sandbox is tried again" 40 '^2$' tries
kubectl delete runtimeclass nobody >/dev/null
PATIENCE=80 check "delete them all" kubectl delete namespace bad --timeout=70s

# Starting.
other="$TRIREME up --cluster-cidr 10.$NET.128.0/17 --service-cidr 10.$((NET + 10)).128.0/17 --kubelet-port 0 --eviction-hard $EVICTION"
PATIENCE=20
fails "a second trireme up" 'already|running|in use' $TRIREME up --data-dir "$DATA" --https-listen-port $((PORT + 1))
fails "a port in use" "$PORT.*(in use|taken)|in use.*$PORT" $other --data-dir "$WORK/second" --https-listen-port "$PORT"
cp "$TRIREME" "$WORK/trireme-for-all"
chmod 755 "$WORK" "$WORK/trireme-for-all"
fails "no root" 'root|sudo' setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp "$WORK/trireme-for-all" up --data-dir "$WORK/mine" --https-listen-port $((PORT + 1))
fails "an unknown flag" 'unexpected argument' "$TRIREME" up --no-such-flag
"$TRIREME" uninstall --data-dir "$WORK/second" --yes >/dev/null 2>&1
PATIENCE=

# A full disk.
small=$WORK/small
mkdir -p "$small"
mount -t tmpfs -o size=64m accept "$small"
$other --data-dir "$small/data" --https-listen-port $((PORT + 2)) >"$WORK/small.log" 2>&1 &
pid=$!
ks() { kubectl --kubeconfig "$small/data/kubeconfig" "$@"; }
comes "a cluster on a small disk" 40 ok ks get --raw /readyz
check "create there" ks create configmap before --from-literal=a=b
dd if=/dev/zero of="$small/fill" bs=64k 2>/dev/null
head -c 700000 /dev/zero | tr '\0' x >"$WORK/large"
fill() { local n; for n in $(seq 100); do ks create configmap "fill-$n" --from-file="$WORK/large" || return 1; done; }
fails "a full disk is told" '[Nn]o space|disk|full' fill
check "reads go on" ks get configmap before
rm "$small/fill"
comes "writes go on when there is room" 30 'created|already exists' ks create configmap after --from-literal=a=b
kill -TERM $pid
wait $pid 2>/dev/null
$other --data-dir "$small/data" --https-listen-port $((PORT + 2)) >>"$WORK/small.log" 2>&1 &
pid=$!
comes "nothing is lost after a restart" 40 '^a|b$' ks get configmap before -o jsonpath='{.data.a}'
check "no panic" bash -c "! grep panicked '$WORK/small.log'"
kill -TERM $pid
wait $pid 2>/dev/null
"$TRIREME" down --data-dir "$small/data" >/dev/null 2>&1
"$TRIREME" uninstall --data-dir "$small/data" --yes >/dev/null 2>&1
umount "$small"
check "no panic in the cluster's own log" bash -c "! grep panicked '$WORK/up.log'"
