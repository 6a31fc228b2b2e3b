#!/usr/bin/env bash
# Replays what a real kube-apiserver answered (../shared/vectors/server) against an API server of its own, and compares the
# differences with tests/replay/exceptions.txt. A difference that is not listed fails, and so does a listed one that is gone.
#
#   accept/replay.sh [FILE|DIRECTORY…]    without arguments, all; with some, only these, and lines that are gone do not count
set -euo pipefail
cd "$(dirname "$0")/.."
shared=${TRIREME_SHARED:-../shared}
if [ ! -d "$shared/vectors/server" ]; then
  echo "skipped: there are no recordings at $shared/vectors/server"
  exit 0
fi
lab=${TRIREME_LAB:-target/debug/trireme-lab}
# All binaries: their crates are then built as the tests have built them.
[ -n "${TRIREME_LAB:-}" ] || cargo build --locked --workspace --bins
told=$(mktemp)
trap 'rm -f "$told"' EXIT
whole=1
[ $# = 0 ] || whole=0
[ $# -gt 0 ] || set -- "$shared/vectors/server"
# The replay's own status says only that there are differences.
"$lab" 127.0.0.1:0 bash -c \
  'python3 "$0/tools/replay.py" --server "$SERVER" --token "$TOKEN" --insecure --show 2 --max 1000000 "$@"' "$shared" "$@" \
  >"$told" 2>&1 || true
python3 - "$told" tests/replay/exceptions.txt "$whole" <<'PYTHON'
import re
import sys

told, listed, whole = open(sys.argv[1]).read(), sys.argv[2], sys.argv[3] == "1"
passed = re.search(r"^passed +(\d+) / +(\d+) +(\d+) / +(\d+)", told, re.M)
if not passed:
    sys.exit("the replay did not end:\n" + told[-4000:])
found, scenario = {}, ""
for line in told.splitlines():
    if match := re.match(r"FAIL (\S+)", line):
        scenario = match[1]
    elif match := re.match(r"  step (\S+) ", line):
        key = (scenario, match[1])
        found[key] = [line]
    elif line.startswith("    ") and scenario:
        found[key].append(line)
exceptions, sometimes = {}, set()
for number, line in enumerate(open(listed), 1):
    if line.strip() and not line.startswith("#"):
        parts = line.rstrip("\n").split("\t")
        if len(parts) != 3 or not parts[2].strip():
            sys.exit(f"{listed}:{number}: not scenario, step and reason with tabs between")
        key = (parts[0], parts[1].rstrip("?"))
        exceptions[key] = parts[2]
        if parts[1].endswith("?"):
            sometimes.add(key)
new = [key for key in found if key not in exceptions]
gone = [key for key in exceptions if key not in found and key not in sometimes] if whole else []
for key in new:
    print(f"DIFFERENT {key[0]}\n" + "\n".join(found[key]))
for key in gone:
    print(f"NO LONGER DIFFERENT {key[0]} step {key[1]}: take it out of {listed}")
print(f"{passed[1]} of {passed[2]} scenarios, {passed[3]} of {passed[4]} steps; {len(found)} differences, "
      f"{len(found) - len(new)} of them listed")
sys.exit(1 if new or gone else 0)
PYTHON
