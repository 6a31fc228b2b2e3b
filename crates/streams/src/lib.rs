//! Remote-command and port-forward streams over WebSocket and SPDY/3.1, both ends.
