# Job, CronJob, DaemonSet.

kubectl create namespace work >/dev/null
check "create job" kubectl -n work create job sum --image="$REGISTRY/busybox:1" -- sh -c 'echo $((6 * 7))'
check "wait for the job" kubectl -n work wait --for=condition=complete job/sum --timeout=40s
says "its log" '^42$' kubectl -n work logs job/sum
check "create cronjob" kubectl -n work create cronjob tick --image="$REGISTRY/busybox:1" --schedule='* * * * *' -- echo tock
check "a job from a cronjob by hand" kubectl -n work create job by-hand --from=cronjob/tick
comes "it completes" 30 '^1$' kubectl -n work get job by-hand -o jsonpath='{.status.succeeded}'
comes "the CronJob runs by itself" 75 'tick-[0-9]+' kubectl -n work get jobs -o name
kubectl -n work apply -f - >/dev/null <<MANIFEST
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: agent, image: $REGISTRY/busybox:1, command: [sleep, "100000"]}]
MANIFEST
check "DaemonSet rolls out" kubectl -n work rollout status ds/agent --timeout=40s
check "a job that fails" kubectl -n work create job fails --image="$REGISTRY/busybox:1" -- sh -c 'exit 3'
comes "its exit code is told" 40 '^3' kubectl -n work get pods -l job-name=fails -o jsonpath='{.items[0].status.containerStatuses[0].state.terminated.exitCode}'
