# exec, attach, port-forward, cp and logs: by terminals, with much data, and many at once.

. "$ACCEPT/streams.sh"
streams $((PORT + 6))
