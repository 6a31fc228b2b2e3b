# kubectl's commands against one small application: the machine's kubectl, or another in $KUBECTL_BIN.

kubectl() { command "${KUBECTL_BIN:-kubectl}" "$@"; }
ns=cmd
kubectl create namespace $ns >/dev/null
kubectl config set-context --current --namespace=$ns >/dev/null
box=$REGISTRY/busybox:1
cat >"$WORK/cmd.yaml" <<MANIFEST
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, labels: {app: front}}
spec:
  replicas: 1
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: front
        image: $box
        command: [sh, -c, 'echo started; mkdir -p /www; echo front >/www/index.html; exec busybox httpd -f -vv -p 8080 -h /www']
        ports: [{containerPort: 8080}]
MANIFEST

# Apply.
says "apply" created kubectl apply -f "$WORK/cmd.yaml"
says "apply again" unchanged kubectl apply -f "$WORK/cmd.yaml"
says "apply --server-side" 'serverside-applied' kubectl apply --server-side --force-conflicts -f "$WORK/cmd.yaml"
says "apply --dry-run=server" 'dry run' kubectl apply --dry-run=server -f "$WORK/cmd.yaml"
sed 's/replicas: 1/replicas: 2/' "$WORK/cmd.yaml" >"$WORK/cmd2.yaml"
fails "diff shows a difference" '^\+ +replicas: 2' kubectl diff -f "$WORK/cmd2.yaml"
PATIENCE=60 check "rollout status" kubectl rollout status deploy/front --timeout=50s

# Get.
says "get -o wide" "front.*$box" kubectl get deploy -o wide
says "get -o yaml" 'readyReplicas: 1' kubectl get deploy front -o yaml
says "get -o json" '"readyReplicas": 1' kubectl get deploy front -o json
says "get -o jsonpath" '^1$' kubectl get deploy front -o 'jsonpath={.status.readyReplicas}'
says "get -o custom-columns" '^front +1' kubectl get deploy -o custom-columns=N:.metadata.name,R:.spec.replicas
says "get -o name" '^deployment.apps/front$' kubectl get deploy -o name
says "get -o go-template" '^front$' kubectl get deploy front -o 'go-template={{.metadata.name}}'
says "get --sort-by, -A, -l, --show-labels" 'app=front' kubectl get pods -A -l app=front --sort-by=.metadata.name --show-labels
says "get --field-selector" 'front' kubectl get pods --field-selector=status.phase=Running
says "get all" 'replicaset.apps/front' kubectl get all
watched() { timeout 4 "${KUBECTL_BIN:-kubectl}" get pods -w --output-watch-events & sleep 1; kubectl run blip --image="$box" --restart=Never -- true >/dev/null; wait; }
says "get -w" 'ADDED +blip' watched
kubectl delete pod blip --wait=false >/dev/null
says "describe deployment" 'ScalingReplicaSet' kubectl describe deploy front
says "describe pod" 'Scheduled' kubectl describe pod -l app=front
says "describe node" 'Allocated resources' kubectl describe node
says "explain" 'Number of desired pods' kubectl explain deploy.spec.replicas
says "explain --recursive" 'matchLabels' kubectl explain deploy --recursive
says "api-resources" '^deployments +deploy +apps/v1' kubectl api-resources
says "api-versions" '^batch/v1$' kubectl api-versions
says "cluster-info" 'control plane' kubectl cluster-info
says "version" 'Server Version: v1.36' kubectl version
says "events" 'Scheduled' kubectl events
says "auth can-i" '^yes$' kubectl auth can-i create pods
fails "auth can-i as another" '^no$' kubectl auth can-i create pods --as=somebody
says "auth can-i --list" 'selfsubjectaccessreviews' kubectl auth can-i --list
says "auth whoami" 'Username' kubectl auth whoami

# Into containers.
pod=$(kubectl get pod -l app=front -o jsonpath='{.items[0].metadata.name}')
says "logs" started kubectl logs "$pod"
says "logs of a deployment, --tail, --timestamps" '^20.*started' kubectl logs deploy/front --tail=1 --timestamps
kubectl run talker --image="$box" --restart=Never -- sh -c 'for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done' >/dev/null
comes "run" 30 'Running|Succeeded' kubectl get pod talker -o jsonpath='{.status.phase}'
says "logs -f until the end" 'line 6' kubectl logs -f talker
kubectl run again --image="$box" -- sh -c 'echo life; exit 1' >/dev/null
comes "logs -p" 40 life kubectl logs -p again
kubectl delete pod again talker --wait=false >/dev/null
says "exec" '^front$' kubectl exec "$pod" -- cat /www/index.html
says "exec -i" '^through$' bash -c "echo through | '${KUBECTL_BIN:-kubectl}' exec -i $pod -- cat"
fails "exec: the exit code comes back" 'exit code 7' kubectl exec "$pod" -- sh -c 'exit 7'
says "exec -it" 'yes, a terminal' script -qec "${KUBECTL_BIN:-kubectl} exec -it $pod -- sh -c 'test -t 0 && echo yes, a terminal'" /dev/null
head -c 300000 /dev/urandom >"$WORK/blob"
check "cp to a pod" kubectl cp "$WORK/blob" "$pod:/tmp/blob"
check "cp from a pod" kubectl cp "$pod:/tmp/blob" "$WORK/blob.back"
check "cp: the bytes are the same" cmp "$WORK/blob" "$WORK/blob.back"
forwarded() {
  "${KUBECTL_BIN:-kubectl}" port-forward "$1" "$((PORT + 55)):8080" >"$WORK/forward.log" 2>&1 &
  local pid=$! out end=$((SECONDS + 10))
  until out=$(curl -fsS -m 3 "http://127.0.0.1:$((PORT + 55))/" 2>&1); do [ $SECONDS -lt $end ] || break; sleep 0.2; done
  kill $pid 2>/dev/null
  wait $pid 2>/dev/null
  echo "$out"
  cat "$WORK/forward.log"
}
says "port-forward to a pod" '^front$' forwarded "pod/$pod"
says "port-forward to a deployment" '^front$' forwarded deploy/front
kubectl run echo --image="$box" --stdin --attach=false --restart=Never -- sh -c 'read line; echo "heard $line"; sleep 1' >/dev/null
comes "a pod that reads" 30 Running kubectl get pod echo -o jsonpath='{.status.phase}'
attached() { echo hello | timeout 15 "${KUBECTL_BIN:-kubectl}" attach -i echo; kubectl logs echo; }
says "attach -i" 'heard hello' attached
says "run -i --rm" 'once' kubectl run once --image="$box" --rm -i --restart=Never --quiet -- echo once
debugged() { kubectl debug "$pod" --image="$box" --container=look --target=front -- sh -c 'ps; echo looked' >/dev/null && sleep 2; for _ in $(seq 30); do kubectl logs "$pod" -c look && return; sleep 0.5; done; }
says "debug with an ephemeral container" 'httpd' debugged
fails "top is honest" 'Metrics API not available' kubectl top nodes

# Change.
says "scale" scaled kubectl scale deploy front --replicas=3
comes "it scales" 30 '^3$' kubectl get deploy front -o jsonpath='{.status.readyReplicas}'
says "set image" 'image updated' kubectl set image deploy/front "front=$REGISTRY/tools:1"
PATIENCE=60 check "rollout of the new image" kubectl rollout status deploy/front --timeout=50s
says "rollout history" '^2 ' kubectl rollout history deploy/front
says "rollout history --revision" 'tools:1' kubectl rollout history deploy/front --revision=2
says "rollout undo" 'rolled back' kubectl rollout undo deploy/front
PATIENCE=60 check "the roll back" kubectl rollout status deploy/front --timeout=50s
says "it has the old image" "busybox:1" kubectl get deploy front -o jsonpath='{.spec.template.spec.containers[0].image}'
says "rollout restart" restarted kubectl rollout restart deploy/front
PATIENCE=60 check "the restart rolls out" kubectl rollout status deploy/front --timeout=50s
check "rollout pause" kubectl rollout pause deploy/front
check "rollout resume" kubectl rollout resume deploy/front
says "set env" 'env updated' kubectl set env deploy/front COLOUR=green
says "set env --list" 'COLOUR=green' kubectl set env deploy/front --list
says "set resources" updated kubectl set resources deploy/front --requests=cpu=10m
printf '#!/bin/sh\nsed -i "s/replicas: 3/replicas: 2/" "$1"\n' >"$WORK/editor"
chmod +x "$WORK/editor"
EDITOR=$WORK/editor says "edit" edited kubectl edit deploy front
says "patch strategic" patched kubectl patch deploy front -p '{"spec":{"template":{"spec":{"containers":[{"name":"front","env":[{"name":"A","value":"1"}]}]}}}}'
says "it merged by key" 'COLOUR.*A|A.*COLOUR' kubectl get deploy front -o 'jsonpath={.spec.template.spec.containers[0].env[*].name}'
says "patch merge" patched kubectl patch deploy front --type=merge -p '{"metadata":{"annotations":{"a":"b"}}}'
says "patch json" patched kubectl patch deploy front --type=json -p '[{"op":"remove","path":"/metadata/annotations/a"}]'
says "patch --subresource=scale" patched kubectl patch deploy front --subresource=scale --type=merge -p '{"spec":{"replicas":1}}'
says "label" labeled kubectl label deploy front tier=web
fails "label: not twice without --overwrite" 'already has a value' kubectl label deploy front tier=other
says "annotate" annotated kubectl annotate deploy front note=it
# What the controllers write meanwhile is a conflict, as it must be.
comes "replace" 20 replaced bash -c "'${KUBECTL_BIN:-kubectl}' get deploy front -o yaml | '${KUBECTL_BIN:-kubectl}' replace -f -"
says "expose" exposed kubectl expose deploy front --port=80 --target-port=8080
comes "the exposed Service answers" 30 front bash -c "curl -fsS -m 3 http://\$('${KUBECTL_BIN:-kubectl}' get svc front -o jsonpath='{.spec.clusterIP}')/"
# Version 1 of the group is what kubectl writes before 1.34.
says "autoscale" autoscaled kubectl autoscale deploy front --max=3 --cpu-percent=70
says "the autoscaler in version 1" '^70$' kubectl get horizontalpodautoscalers.v1.autoscaling front -o jsonpath='{.spec.targetCPUUtilizationPercentage}'
says "the autoscaler in version 2" '^Utilization 70$' kubectl get horizontalpodautoscalers.v2.autoscaling front -o jsonpath='{.spec.metrics[0].resource.target.type} {.spec.metrics[0].resource.target.averageUtilization}'
says "get hpa" 'Deployment/front +cpu: <unknown>/70%' kubectl get hpa

# Create.
check "create configmap" kubectl create configmap c --from-literal=a=b --from-file="$WORK/cmd.yaml"
check "create secret generic" kubectl create secret generic s --from-literal=a=b
check "create secret docker-registry" kubectl create secret docker-registry d --docker-server=x --docker-username=u --docker-password=p
check "create serviceaccount" kubectl create serviceaccount who
says "create token" '^ey' kubectl create token who
check "create role" kubectl create role reader --verb=get,list --resource=pods
check "create rolebinding" kubectl create rolebinding reader --role=reader --serviceaccount=$ns:who
says "the role works" '^yes$' kubectl auth can-i list pods --as=system:serviceaccount:$ns:who
check "create clusterrole" kubectl create clusterrole accept --verb=get --resource=nodes
check "create clusterrolebinding" kubectl create clusterrolebinding accept --clusterrole=accept --serviceaccount=$ns:who
check "create service clusterip" kubectl create service clusterip csvc --tcp=80:8080
check "create service nodeport" kubectl create service nodeport nsvc --tcp=80:8080
check "create ingress" kubectl create ingress i --rule='a.test/*=front:80'
check "create quota" kubectl create quota q --hard=configmaps=40
check "create poddisruptionbudget" kubectl create pdb p --selector=app=none --min-available=1
check "create priorityclass" kubectl create priorityclass accept --value=10
check "create deployment" kubectl create deployment second --image="$box" -- sleep 100000

# Nodes.
node=$(kubectl get nodes -o jsonpath='{.items[0].metadata.name}')
says "taint" tainted kubectl taint node "$node" accept=1:NoSchedule
says "taint off" untainted kubectl taint node "$node" accept-
says "cordon" cordoned kubectl cordon "$node"
says "it is shown" SchedulingDisabled kubectl get node
says "drain" drained kubectl drain "$node" --pod-selector=app=second --ignore-daemonsets --delete-emptydir-data --timeout=40s
comes "a drained pod waits" 20 Pending kubectl get pods -l app=second -o jsonpath='{.items[*].status.phase}'
says "uncordon" uncordoned kubectl uncordon "$node"
PATIENCE=50 check "wait --for=condition" kubectl wait --for=condition=available deploy/second --timeout=40s

# Delete.
owned() { kubectl get rs,pods -l "app=$1" -o name; }
check "delete --cascade=orphan" kubectl delete deploy front --cascade=orphan
says "orphans stay" 'replicaset' owned front
check "delete by label" kubectl delete rs -l app=front --cascade=orphan
check "delete pods" kubectl delete pods -l app=front
check "delete --cascade=foreground" kubectl delete deploy second --cascade=foreground --timeout=40s
gone() { [ -z "$(owned "$1")" ] && echo gone; }
says "nothing is left of it" gone gone second
kubectl create deployment third --image="$box" -- sleep 100000 >/dev/null
check "delete --cascade=background" kubectl delete deploy third
comes "its pods go" 45 gone gone third
check "delete --force" bash -c "'${KUBECTL_BIN:-kubectl}' run f --image=$box -- sleep 1000 && '${KUBECTL_BIN:-kubectl}' delete pod f --force --grace-period=0"
PATIENCE=60 check "delete namespace" kubectl delete namespace $ns --timeout=50s
kubectl delete clusterrole,clusterrolebinding,priorityclass accept >/dev/null 2>&1
kubectl config set-context --current --namespace=default >/dev/null
