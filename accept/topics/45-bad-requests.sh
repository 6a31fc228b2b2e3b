# Requests that make no sense: each gets a clear refusal, nothing is stored, nothing panics.

kubectl create namespace requests >/dev/null
maps=/api/v1/namespaces/requests/configmaps
kubectl config view --raw -o jsonpath='{.clusters[0].cluster.certificate-authority-data}' | base64 -d >"$WORK/ca.crt"
kubectl config view --raw -o jsonpath='{.users[0].user.client-certificate-data}' | base64 -d >"$WORK/admin.crt"
kubectl config view --raw -o jsonpath='{.users[0].user.client-key-data}' | base64 -d >"$WORK/admin.key"

# Status and body of a request.
api() { # METHOD PATH [CURL-OPTION...]
  local method=$1 path=$2
  shift 2
  curl -sS -m 20 --cacert "$WORK/ca.crt" --cert "$WORK/admin.crt" --key "$WORK/admin.key" -X "$method" \
    -w '\nstatus %{http_code}\n' "https://127.0.0.1:$PORT$path" "$@"
}
# A refusal is a Status object that gives the code which HTTP gives, and says why.
refused() { # NAME CODE REGEX METHOD PATH [CURL-OPTION...]
  local name=$1 code=$2 regex=$3 out
  shift 3
  out=$(api "$@" 2>&1)
  if grep -q "^status $code$" <<<"$out" && grep -qE -e "$regex" <<<"$out" &&
    python3 -c 'import json, sys; s = json.loads(sys.argv[1].rsplit("\nstatus", 1)[0]); sys.exit(s["kind"] != "Status" or s["code"] != int(sys.argv[2]))' "$out" "$code" 2>/dev/null; then
    ok "$name"
  else
    bad "$name" "wanted $code /$regex/: $out"
  fi
}
json='Content-Type: application/json'
map() { printf '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s"}%s}' "$1" "${2:-}"; }

refused "a field of the wrong type" 400 'cannot unmarshal|data' POST $maps -H "$json" -d "$(map a ',"data":7')"
refused "an unknown field, strictly" 400 'unknown field' POST "$maps?fieldValidation=Strict" -H "$json" -d "$(map a ',"dat":{}')"
says "an unknown field is warned of" 'unknown field.*status 201|[Ww]arning' api POST $maps -H "$json" -d "$(map warned ',"dat":{}')" -D -
refused "a duplicate field, strictly" 400 'duplicate field' POST "$maps?fieldValidation=Strict" -H "$json" -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{},"data":{}}'
refused "an invalid name" 422 'metadata.name: Invalid value' POST $maps -H "$json" -d "$(map Not_A_Name)"
refused "no name" 422 'name or generateName is required' POST $maps -H "$json" -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}'
refused "an invalid label" 422 'metadata.labels' POST $maps -H "$json" -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"a b":"c"}}}'
refused "another namespace than the URL's" 400 'does not match the namespace' POST $maps -H "$json" -d '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}'
refused "another kind than the URL's" 400 'cannot be handled as a ConfigMap' POST $maps -H "$json" -d '{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}'
refused "a negative number of replicas" 422 'spec.replicas: Invalid value: -1' POST /apis/apps/v1/namespaces/requests/deployments -H "$json" -d '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":-1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}'
refused "no JSON" 400 'json parse error|invalid character|unexpected' POST $maps -H "$json" -d '{"apiVersion":'
head -c 4000 /dev/urandom >"$WORK/garbage"
refused "garbage as JSON" 400 . POST $maps -H "$json" --data-binary "@$WORK/garbage"
refused "garbage as YAML" 400 . POST $maps -H 'Content-Type: application/yaml' --data-binary "@$WORK/garbage"
refused "garbage as protobuf" 400 . POST $maps -H 'Content-Type: application/vnd.kubernetes.protobuf' --data-binary "@$WORK/garbage"
printf 'k8s\0' | cat - "$WORK/garbage" >"$WORK/garbage.pb"
refused "garbage in a protobuf envelope" 400 . POST $maps -H 'Content-Type: application/vnd.kubernetes.protobuf' --data-binary "@$WORK/garbage.pb"
python3 -c 'print("[" * 200000)' >"$WORK/deep"
refused "JSON that is too deep" 400 . POST $maps -H "$json" --data-binary "@$WORK/deep"
python3 -c '
print("a: &a [x,x,x,x,x,x,x,x,x]")
for a, b in zip("abcdefgh", "bcdefghi"): print(f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]")' >"$WORK/laughs"
refused "YAML that would grow without bound" 400 . POST $maps -H 'Content-Type: application/yaml' --data-binary "@$WORK/laughs"
{ printf '%s' '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"large"},"data":{"a":"'; head -c 3200000 /dev/zero | tr '\0' x; printf '"}}'; } >"$WORK/large.json"
refused "a body of more than 3 MiB" 413 '[Tt]oo large|limit' POST $maps -H "$json" --data-binary "@$WORK/large.json"
refused "more data than a ConfigMap takes" 422 '[Tt]oo long' POST $maps -H "$json" --data-binary @<(printf '%s' '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"large"},"data":{"a":"'; head -c 1100000 /dev/zero | tr '\0' x; printf '"}}')
refused "a content type that nobody reads" 415 'unsupported|not support|media type' POST $maps -H 'Content-Type: text/plain' -d "$(map a)"
refused "a patch of no kind" 415 'unsupported|not support|media type' PATCH $maps/warned -H "$json" -d '{}'
refused "an answer that nobody writes" 406 '[Aa]cceptable' GET $maps -H 'Accept: text/html'
refused "a JSON patch that does not apply" 422 . PATCH $maps/warned -H 'Content-Type: application/json-patch+json' -d '[{"op":"remove","path":"/data/none"}]'
says "a path that is none" '404 page not found' api GET /apis/none.example/v1/things
refused "an object that is not there" 404 'not found' GET $maps/none
refused "a method that the resource has not" 405 'not allow' DELETE /api/v1/namespaces/requests/pods/x/log
refused "a selector that is none" 400 . GET "$maps?labelSelector=a%3D%3D%3Db"
refused "a limit that is no number" 400 . GET "$maps?limit=many"
refused "a resourceVersion that is no number" 400 . GET "$maps?resourceVersion=x"
refused "a continue token that is none" 400 . GET "$maps?limit=1&continue=zzz"
says "no credentials: anonymous may do nothing" 'system:anonymous.*cannot list' curl -sk -m 10 "https://127.0.0.1:$PORT$maps"
says "a token that is none" 'Unauthorized' curl -sk -m 10 -H 'Authorization: Bearer none' "https://127.0.0.1:$PORT$maps"
check "no TLS at all is refused" bash -c "! curl -sf -m 10 http://127.0.0.1:$PORT/"
says "garbage in place of TLS leaves the server as it was" '^ok$' bash -c "head -c 2000 /dev/urandom >/dev/tcp/127.0.0.1/$PORT; kubectl get --raw /readyz"

stored() { kubectl -n requests get configmaps -o name | grep -v kube-root-ca | tr '\n' ' '; }
says "nothing of it is stored" '^configmap/warned $' stored
check "no panic" bash -c "! grep panicked '$WORK/up.log'"
kubectl delete namespace requests --wait=false >/dev/null
