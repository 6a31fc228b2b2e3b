# A web tier that talks to Redis and PostgreSQL by the names of their services.

mkdir -p "$WORK/shop"
for name in redis postgres web; do sed "s#REGISTRY#$REGISTRY#" "$ACCEPT/manifests/$name.yaml" >"$WORK/shop/$name.yaml"; done

check "create namespace" kubectl create namespace shop
says "apply" 'deployment.apps/web created' kubectl apply -f "$WORK/shop"
for workload in deployment/redis statefulset/postgres deployment/api deployment/web; do
  PATIENCE=120 check "rollout of $workload" kubectl -n shop rollout status "$workload" --timeout=90s
done
check "the Job completes" kubectl -n shop wait --for=condition=complete job/schema --timeout=60s
unchanged() { kubectl apply -f "$WORK/shop" >"$WORK/again" && ! grep -vE 'unchanged$' "$WORK/again"; }
check "apply again: nothing changes" unchanged
check "diff: nothing differs" kubectl diff -f "$WORK/shop"

web=$(kubectl -n shop get svc web -o jsonpath='{.spec.clusterIP}')
port=$(kubectl -n shop get svc web -o jsonpath='{.spec.ports[0].nodePort}')
host=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
comes "the web tier counts in Redis and writes into PostgreSQL" 30 'visit [0-9]+ row [0-9]+ by api-' curl -fsS -m 5 "http://$web/visit"
says "a NodePort answers on the node's address" shop curl -fsS -m 5 "http://$host:$port/"
says "a NodePort answers on loopback" shop curl -fsS -m 5 "http://127.0.0.1:$port/"
says "what was written is there" '^[1-9]' kubectl -n shop exec deploy/api -- \
  psql -h postgres -U shop -d postgres -tAc 'select count(*) from visits'

both() { for _ in $(seq 20); do curl -fsS -m 5 "http://$web/whoami"; done | sort -u | grep -c web-; }
says "a Service balances over both pods" '^2$' both
