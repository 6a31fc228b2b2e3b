//! Keys, certificates and kubeconfigs of a cluster.
