# Trireme dies or is stopped, and comes back: workloads do not notice.

containers() {
  kubectl get pods -A -o json | python3 -c '
import json, sys
for pod in json.load(sys.stdin)["items"]:
    if pod["status"]["phase"] == "Running" and pod["metadata"]["namespace"] != "work":
        for c in pod["status"]["containerStatuses"]:
            print(pod["metadata"]["name"], c.get("containerID"), c["restartCount"])' | sort
}
kubectl create namespace restart >/dev/null
kubectl -n restart run ends --image="$REGISTRY/busybox:1" --restart=Never -- sh -c 'until [ -e /tmp/now ]; do sleep 0.2; done; exit 5' >/dev/null
comes "a pod that will end while nobody looks" 30 Running kubectl -n restart get pod ends -o jsonpath='{.status.phase}'
ends=$(kubectl -n restart get pod ends -o jsonpath='{.status.podIP}')

web=$(kubectl -n shop get svc web -o jsonpath='{.spec.clusterIP}')
ask() { while [ -e "$WORK/asking" ]; do curl -fsS -m 2 "http://$web/" >/dev/null && echo yes || echo no; sleep 0.1; done >"$WORK/answers"; }
touch "$WORK/asking"
ask 2>/dev/null &
asking=$!
containers >"$WORK/containers.before"

# It ends when Trireme is gone: the container waits for a file that a process outside Trireme's reach makes.
kubectl -n restart exec ends -- sh -c '(sleep 4; touch /tmp/now) >/dev/null 2>&1 &'
stop_up KILL
sleep 6
check "trireme up after kill -9" up
comes "the exit code is not lost" 30 '^5$' kubectl -n restart get pod ends -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}'
comes "the node is ready again" 30 ' Ready ' kubectl get nodes
same() { containers | grep -v '^ends ' >"$WORK/containers.after"; diff <(grep -v '^ends ' "$WORK/containers.before") "$WORK/containers.after"; }
check "kill -9: the same containers, none restarted" same
says "kill -9: exec works again" '^PONG$' kubectl -n shop exec deploy/redis -- redis-cli ping
check "kill -9: logs work again" kubectl -n shop logs deploy/redis

stop_up INT
check "Ctrl-C: the web tier answers without Trireme" curl -fsS -m 3 "http://$web/"
check "trireme up after Ctrl-C" up
comes "the node is ready after Ctrl-C" 30 ' Ready ' kubectl get nodes
check "Ctrl-C: the same containers, none restarted" same
rm "$WORK/asking"
wait $asking
answered() { printf '%s yes, %s no\n' "$(grep -c yes "$WORK/answers")" "$(grep -c no "$WORK/answers")"; }
says "the workload answered all the time" '^[1-9][0-9]+ yes, 0 no$' answered

stop_up TERM
check "down" "$TRIREME" down --data-dir "$DATA"
fails "down: the web tier is stopped" 'curl' curl -fsS -m 2 "http://$web/"
check "trireme up after down" up
PATIENCE=100 check "the application comes back" kubectl -n shop rollout status deploy/web --timeout=90s
web=$(kubectl -n shop get svc web -o jsonpath='{.spec.clusterIP}')
comes "it answers" 60 'visit' curl -fsS -m 5 "http://$web/visit"
kubectl delete namespace restart --wait=false >/dev/null
