# The same with Debian sid's kubectl, when the machine's is another.

newer=$(sid_kubectl) || { skip "kubectl of Debian sid" "it cannot be fetched"; return 0; }
[ "$(command -v kubectl)" != "$newer" ] || { skip "kubectl of Debian sid" "it is the machine's already"; return 0; }
KUBECTL_BIN=$newer
. "$ACCEPT/topics/40-kubectl.sh"
