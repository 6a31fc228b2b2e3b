//! Pod network, service proxy and cluster DNS.
