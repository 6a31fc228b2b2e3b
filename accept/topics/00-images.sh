# Images of real software from Debian's packages, in a registry on loopback; then a cluster.

check "registry on $REGISTRY" registry main "$REGISTRY"

make() { # NAME PACKAGE...
  rootfs "$@" || return 1
  [ -s "$CACHE/$1.tar.gz" ] || python3 "$ACCEPT/images/oci.py" layer "$CACHE/roots/$1" "$CACHE/$1.tar.gz"
}
image() { # NAME OPTIONS... -- PACKAGE...
  local name=$1 options=()
  shift
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  make "$name" "$@" && python3 "$ACCEPT/images/oci.py" push "http://$REGISTRY" "$name:1" "$CACHE/$name.tar.gz" "${options[@]}"
}
PATIENCE=600
for spec in 'busybox cmd=sh -- busybox-static' \
  'nginx cmd=nginx -- nginx-light busybox-static' \
  'redis cmd=redis-server user=999 -- redis-server redis-tools busybox-static' \
  'postgres cmd=postgres user=998 -- postgresql-15 busybox-static' \
  'tools cmd=sh -- redis-tools postgresql-client-15 curl busybox-static'; do
  name=${spec%% *}
  # shellcheck disable=SC2086
  if out=$(image $spec 2>&1); then ok "image of $name"; else bad "image of $name" "$out"; fi
done
PATIENCE=
if up; then ok "trireme up"; else bad "trireme up" "$(tail -5 "$WORK/up.log")"; fi
comes "the node is ready" 30 ' Ready ' kubectl get nodes
