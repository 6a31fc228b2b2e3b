# What a container may not do.

profiles=$DATA/node/seccomp
mkdir -p "$profiles"
cat >"$profiles/no-folders.json" <<JSON
{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
 "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}
JSON
pod() { # NAME PROFILE
  kubectl apply -f - >/dev/null <<MANIFEST
apiVersion: v1
kind: Pod
metadata: {name: $1}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: $REGISTRY/busybox:1
    command: [sh, -c, 'mkdir /tmp/folder; echo the rest goes on']
    securityContext: {seccompProfile: {type: Localhost, localhostProfile: $2}}
MANIFEST
}
pod filtered no-folders.json
comes "seccomp, a profile of the node: what it refuses is refused" 30 'folder.*Permission denied' kubectl logs filtered
says "seccomp, a profile of the node: the rest goes on" 'the rest goes on' kubectl logs filtered
pod unfiltered none.json
comes "seccomp, a profile that is not there is told" 30 'cannot load seccomp profile.*none.json' kubectl get pod unfiltered -o jsonpath='{.status.containerStatuses[0].state.waiting.message}'
kubectl delete pod filtered unfiltered --wait=false >/dev/null
