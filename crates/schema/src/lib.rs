//! The Kubernetes API as data: kinds, types and fields, and the codecs, selectors, quantities and documents that follow from them.
