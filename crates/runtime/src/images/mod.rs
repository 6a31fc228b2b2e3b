//! Images: from a name in a registry to a mounted root file system.
