# Services and names, from inside.

kubectl create namespace net >/dev/null
kubectl -n net apply -f - >/dev/null <<MANIFEST
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: peer}
spec:
  serviceName: peers
  replicas: 2
  selector: {matchLabels: {app: peer}}
  template:
    metadata: {labels: {app: peer}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: peer
        image: $REGISTRY/busybox:1
        command: [sh, -c, 'mkdir /www; hostname >/www/name; exec busybox httpd -f -p 8080 -h /www']
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: peer}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {sessionAffinity: ClientIP, selector: {app: peer}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: first}
spec: {selector: {statefulset.kubernetes.io/pod-name: peer-0}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
MANIFEST
check "StatefulSet rolls out in order" kubectl -n net rollout status statefulset/peer --timeout=50s
inside() { kubectl -n net exec peer-0 -- sh -c "$1"; }
get() { inside "timeout 4 wget -qO- http://$1"; }

comes "a pod reaches a Service by its short name" 20 'peer-0' get first/name
says "hairpin: a pod reaches itself through its Service" '^peer-0$' get first/name
says "by its name with namespace" '^shop$' get web.shop/
says "by its full name" '^shop$' get web.shop.svc.cluster.local/
says "a stable name of a StatefulSet's pod" '^peer-1$' get peer-1.peers:8080/name
says "a headless Service resolves to all pods" '^2$' inside 'nslookup peers.net.svc.cluster.local | grep -c "^Address.*10\.[0-9]*\.0\.[0-9]*$" | head -1'
says "ExternalName" 'web.shop.svc.cluster.local' inside 'nslookup elsewhere.net.svc.cluster.local'
says "the API server by name" 'kubernetes.default' inside 'nslookup kubernetes.default.svc.cluster.local'
every_service() {
  local name namespace
  kubectl get svc -A --no-headers -o custom-columns=NS:.metadata.namespace,N:.metadata.name | while read -r namespace name; do
    inside "nslookup $name.$namespace.svc.cluster.local" </dev/null || return 1
  done
}
check "a pod resolves every Service" every_service
sticky() { inside 'for i in $(seq 12); do timeout 4 wget -qO- http://sticky/name; done' | sort -u | wc -l; }
says "session affinity keeps a client with one pod" '^1$' sticky
token() {
  kubectl -n shop exec deploy/api -- sh -c 'cd /var/run/secrets/kubernetes.io/serviceaccount
    curl -sS -m 5 --cacert ca.crt -H "Authorization: Bearer $(cat token)" https://kubernetes.default.svc/api/v1/namespaces/shop/pods'
}
says "a pod reaches the API server as its service account" 'system:serviceaccount:shop:default' token

uid=$(kubectl -n net get pod peer-1 -o jsonpath='{.metadata.uid}')
check "delete a StatefulSet's pod" kubectl -n net delete pod peer-1 --wait=true
again() { kubectl -n net get pod peer-1 -o jsonpath='{.metadata.uid} {.status.conditions[?(@.type=="Ready")].status}' | grep -v "$uid"; }
comes "it comes back under its name" 30 True again
comes "its stable name leads to the new one" 20 '^peer-1$' get peer-1.peers:8080/name

# Restart and replacement in the application.
pod=$(kubectl -n shop get pod -l app=redis -o name)
kubectl -n shop exec "$pod" -- redis-cli shutdown nosave >/dev/null 2>&1
comes "a killed container restarts" 40 '^1 true$' kubectl -n shop get "$pod" -o jsonpath='{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}'
says "its end is told" 'Completed|Error' kubectl -n shop get "$pod" -o jsonpath='{.status.containerStatuses[0].lastState.terminated.reason}'
pod=$(kubectl -n shop get pod -l app=web -o name | head -1)
check "delete a Deployment's pod" kubectl -n shop delete "$pod"
comes "a deleted pod is replaced" 30 '^2$' kubectl -n shop get deployment web -o jsonpath='{.status.readyReplicas}'
