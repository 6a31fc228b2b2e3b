# A node that runs short of disk, and pods that write more than they may.

disk=$WORK/evicting
mkdir -p "$disk"
mount -t tmpfs -o size=400m accept "$disk"
data=$disk/data
"$TRIREME" up --data-dir "$data" --https-listen-port $((PORT + 4)) --cluster-cidr "10.$NET.128.0/17" \
  --service-cidr "10.$((NET + 10)).128.0/17" --kubelet-port 0 --eviction-hard 'nodefs.available<25%' >"$WORK/evicting.log" 2>&1 &
evicting=$!
export KUBECONFIG=$data/kubeconfig
comes "a node with a small disk" 40 ' Ready ' kubectl get nodes
pod() { # NAME EMPTYDIR COMMAND
  kubectl apply -f - >/dev/null <<MANIFEST
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, emptyDir: $2}]
  containers:
  - {name: c, image: "$REGISTRY/busybox:1", command: [sh, -c, "$3; sleep 100000"], volumeMounts: [{name: v, mountPath: /v}]}
MANIFEST
}
status() { kubectl get pod "$1" -o jsonpath='{.status.phase} {.status.reason}: {.status.message}'; }
pod modest '{}' 'dd if=/dev/zero of=/v/f bs=1M count=1'
comes "a modest pod" 30 Running status modest
pod limited '{sizeLimit: 5Mi}' 'dd if=/dev/zero of=/v/f bs=1M count=9'
comes "an emptyDir beyond its limit: evicted" 40 '^Failed Evicted: Usage of EmptyDir volume "v" exceeds the limit "5Mi"' status limited
pod glutton '{}' 'dd if=/dev/zero of=/v/f bs=1M count=330'
comes "the disk runs short: DiskPressure" 40 '^True KubeletHasDiskPressure' kubectl get nodes -o jsonpath='{range .items[0].status.conditions[?(@.type=="DiskPressure")]}{.status} {.reason}{end}'
comes "who uses most is evicted" 40 '^Failed Evicted: The node was low on resource: ephemeral-storage' status glutton
says "it is told as a disruption" '^TerminationByKubelet$' kubectl get pod glutton -o jsonpath='{.status.conditions[?(@.type=="DisruptionTarget")].reason}'
comes "an event tells of it" 10 'Evicted' kubectl get events --field-selector involvedObject.name=glutton
comes "no others come for a while" 20 'disk-pressure:NoSchedule|disk-pressure' kubectl get nodes -o jsonpath='{.items[0].spec.taints}'
sleep 12
says "the modest pod stays" '^Running' status modest
kill -TERM $evicting
wait $evicting 2>/dev/null
"$TRIREME" down --data-dir "$data" >/dev/null 2>&1
"$TRIREME" uninstall --data-dir "$data" --yes >/dev/null 2>&1
umount "$disk"
