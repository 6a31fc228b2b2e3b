#!/usr/bin/env python3
"""The Kubernetes project's Python client against a running server: python_client.py KUBECONFIG"""
import sys

from kubernetes import client, config, watch

config.load_kube_config(sys.argv[1])
core, apps, auth = client.CoreV1Api(), client.AppsV1Api(), client.AuthorizationV1Api()
scaling, scaling2 = client.AutoscalingV1Api(), client.AutoscalingV2Api()
space = "python-client"


def refused(code, call):
    try:
        call()
    except client.ApiException as e:
        assert e.status == code, e
        return
    raise AssertionError("not refused: %d expected" % code)


version = client.VersionApi().get_code()
assert version.major == "1", version
assert "apps" in [g.name for g in client.ApisApi().get_api_versions().groups]

core.create_namespace({"metadata": {"name": space}})
try:
    # Objects: made, read, listed in pages, changed, refused.
    for n in range(5):
        core.create_namespaced_config_map(space, {"metadata": {"name": "m%d" % n, "labels": {"t": "1"}}, "data": {"n": str(n)}})
    page = core.list_namespaced_config_map(space, label_selector="t=1", limit=2)
    names = [m.metadata.name for m in page.items]
    while page.metadata._continue:
        page = core.list_namespaced_config_map(space, label_selector="t=1", limit=2, _continue=page.metadata._continue)
        names += [m.metadata.name for m in page.items]
    assert names == ["m%d" % n for n in range(5)], names
    refused(409, lambda: core.create_namespaced_config_map(space, {"metadata": {"name": "m0"}}))
    refused(404, lambda: core.read_namespaced_config_map("none", space))
    refused(422, lambda: core.create_namespaced_config_map(space, {"metadata": {"name": "Not A Name"}}))
    m = core.read_namespaced_config_map("m0", space)
    m.data["n"] = "changed"
    core.replace_namespaced_config_map("m0", space, m)
    refused(409, lambda: core.replace_namespaced_config_map("m0", space, m))
    core.patch_namespaced_config_map("m1", space, {"data": {"n": None, "k": "v"}})
    assert core.read_namespaced_config_map("m1", space).data == {"k": "v"}

    # A watch from a list.
    since = core.list_namespaced_config_map(space).metadata.resource_version
    core.delete_namespaced_config_map("m4", space)
    w = watch.Watch()
    for event in w.stream(core.list_namespaced_config_map, space, resource_version=since, timeout_seconds=20):
        assert (event["type"], event["object"].metadata.name) == ("DELETED", "m4"), event
        w.stop()

    # Other groups and subresources.
    pod = {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [{"name": "c", "image": "example/c:1"}]}}
    apps.create_namespaced_deployment(space, {"metadata": {"name": "w"}, "spec": {
        "selector": {"matchLabels": {"app": "w"}}, "template": pod}})
    apps.patch_namespaced_deployment_scale("w", space, {"spec": {"replicas": 2}})
    assert apps.read_namespaced_deployment("w", space).spec.replicas == 2
    scaling.create_namespaced_horizontal_pod_autoscaler(space, {"metadata": {"name": "w"}, "spec": {
        "maxReplicas": 3, "targetCPUUtilizationPercentage": 60, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}}})
    metric = scaling2.read_namespaced_horizontal_pod_autoscaler("w", space).spec.metrics[0]
    assert metric.resource.target.average_utilization == 60, metric
    review = auth.create_self_subject_access_review({"spec": {"resourceAttributes": {"verb": "create", "resource": "pods"}}})
    assert review.status.allowed
finally:
    core.delete_namespace(space)
print("the Python client: all well")
