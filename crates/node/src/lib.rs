//! The node agent: pod workers, probes, status, and the kubelet API.
