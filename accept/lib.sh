# What every topic uses: checks, and the cluster that they look at.

ACCEPT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${CACHE:-$ACCEPT/../target/accept}
TRIREME=${TRIREME:-$ACCEPT/../target/debug/trireme}
PORT=${PORT:-7643}
REGISTRY=127.0.0.1:${REGISTRY_PORT:-$((PORT + 47))}
# Pods are in 10.NET, Services in 10.(NET + 10): the lower half of each, the upper for a second cluster.
NET=${NET:-72}
WORK=${WORK:-$(mktemp -d /tmp/trireme-accept.XXXXXX)}
DATA=$WORK/data
# A machine on which all this is built has seldom much of its disk left.
EVICTION="memory.available<100Mi,nodefs.available<1%"
export KUBECONFIG=$DATA/kubeconfig
mkdir -p "$CACHE" "$WORK"
CACHE=$(cd "$CACHE" && pwd)

# --- Checks. Each prints one line, and is counted in $WORK/results.

ok() { printf 'ok    %s\n' "$1" | tee -a "$WORK/results"; }
skip() { printf 'skip  %s: %s\n' "$1" "$2" | tee -a "$WORK/results"; }
bad() { # NAME OUTPUT
  printf 'FAIL  %s\n' "$1" | tee -a "$WORK/results"
  printf '%s\n' "$2" | tail -n 12 | cut -c1-400 | sed 's/^/      | /'
}

attempt() { # COMMAND...: also a function
  if [ "$(type -t "$1")" = function ]; then "$@"; else timeout "${PATIENCE:-60}" "$@"; fi
}

# The command ends well.
check() { # NAME COMMAND...
  local name=$1 out
  shift
  if out=$(attempt "$@" 2>&1); then ok "$name"; else bad "$name" "$out"; fi
}

# The command ends well and what it prints matches.
says() { # NAME REGEX COMMAND...
  local name=$1 regex=$2 out code=0
  shift 2
  out=$(attempt "$@" 2>&1) || code=$?
  if [ $code = 0 ] && grep -qE -e "$regex" <<<"$out"; then ok "$name"; else bad "$name" "exit $code, wanted /$regex/: $out"; fi
}

# The command fails, and says why.
fails() { # NAME REGEX COMMAND...
  local name=$1 regex=$2 out code=0
  shift 2
  out=$(attempt "$@" 2>&1) || code=$?
  if [ $code != 0 ] && [ $code != 124 ] && grep -qE -e "$regex" <<<"$out"; then ok "$name"; else bad "$name" "exit $code, wanted failure /$regex/: $out"; fi
}

# The command comes to print what matches, in time.
comes() { # NAME SECONDS REGEX COMMAND...
  local name=$1 end=$((SECONDS + $2)) regex=$3 out
  shift 3
  while :; do
    out=$(PATIENCE=20 attempt "$@" 2>&1) && grep -qE -e "$regex" <<<"$out" && { ok "$name"; return; }
    [ $SECONDS -lt $end ] || { bad "$name" "never /$regex/: $out"; return; }
    sleep 0.3
  done
}

# --- The cluster.

up() { # [FLAG...]
  "$TRIREME" up --data-dir "$DATA" --https-listen-port "$PORT" --cluster-cidr "10.$NET.0.0/17" \
    --service-cidr "10.$((NET + 10)).0.0/17" --kubelet-port 0 --eviction-hard "$EVICTION" "$@" >>"$WORK/up.log" 2>&1 &
  UP=$!
  echo $UP >"$WORK/up.pid"
  local end=$((SECONDS + 60))
  until kubectl get --raw /readyz >/dev/null 2>&1; do
    kill -0 $UP 2>/dev/null && [ $SECONDS -lt $end ] || { cat "$WORK/up.log" >&2; return 1; }
    sleep 0.1
  done
}

ended() { # PID SECONDS: the process has ended in time
  local end=$((SECONDS + $2))
  while kill -0 "$1" 2>/dev/null; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

stop_up() { # SIGNAL: ends Trireme alone
  local pid
  pid=$(cat "$WORK/up.pid" 2>/dev/null) || return 0
  kill -"$1" "$pid" 2>/dev/null
  ended "$pid" 20 || kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  rm -f "$WORK/up.pid"
}

# --- A registry on loopback.

registry() { # NAME ADDRESS [HTPASSWD]
  local dir=$WORK/registry-$1
  mkdir -p "$dir"
  {
    printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n'
    printf 'storage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s"}\n' "$dir/data" "$2"
    [ -z "${3:-}" ] || printf 'auth: {htpasswd: {realm: accept, path: %s}}\n' "$3"
  } >"$dir/config.yml"
  docker-registry serve "$dir/config.yml" >"$dir/log" 2>&1 &
  echo $! >"$dir/pid"
  local end=$((SECONDS + 20))
  until curl -s "http://$2/v2/" >/dev/null; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}

# --- What a machine has, so that nothing is left behind.

machine() {
  echo "mounts:"; awk '{print $5}' /proc/self/mountinfo | sort
  echo "links:"; ls /sys/class/net | sort
  echo "nft:"; nft list tables 2>/dev/null | sort
  echo "cgroups:"; find /sys/fs/cgroup -maxdepth 2 -type d \( -name 'trireme*' -o -name 'k8s.io' -o -name 'kubepods*' \) | sort
  echo "netns:"; ls /run/netns 2>/dev/null | sort
  echo "loops:"; losetup -nO NAME 2>/dev/null | sort
}
