//! One request pipeline for every kind of the Kubernetes API.
