#!/usr/bin/env python3
"""Writes src/bootstrap.txt, the RBAC policy that every cluster has, from recorded facts.

usage: crates/apiserver/tools/generate_bootstrap.py FACTS_DIR

The file is reviewed and committed; the build never runs this. Its form is described in src/bootstrap.rs."""
import json, os, sys

facts = os.path.join(sys.argv[1], "recorded", "bootstrap")
out = []


def load(name):
    return sorted(json.load(open(os.path.join(facts, name + ".json")))["items"], key=lambda o: (o["metadata"].get("namespace", ""), o["metadata"]["name"]))


def head(word, o):
    m = o["metadata"]
    place = m["name"] if "namespace" not in m else m["namespace"] + "/" + m["name"]
    labels = {k: v for k, v in m.get("labels", {}).items() if k != "kubernetes.io/bootstrapping"}
    return " ".join([word, place] + ["label=%s=%s" % kv for kv in sorted(labels.items())])


def words(items):
    return ",".join(i if i else "core" for i in items)


for word, name in (("clusterrole", "clusterroles"), ("role", "roles")):
    for o in load(name):
        out.append(head(word, o))
        for s in o.get("aggregationRule", {}).get("clusterRoleSelectors", []):
            out.append("  aggregate " + " ".join("%s=%s" % kv for kv in sorted(s["matchLabels"].items())))
        for r in o.get("rules") or []:
            if "nonResourceURLs" in r:
                out.append("  url %s %s" % (words(r["verbs"]), words(r["nonResourceURLs"])))
            else:
                line = "  allow %s %s %s" % (words(r["verbs"]), words(r["apiGroups"]), words(r["resources"]))
                if r.get("resourceNames"):
                    line += " " + words(r["resourceNames"])
                out.append(line)
        out.append("")
for word, name in (("clusterrolebinding", "clusterrolebindings"), ("rolebinding", "rolebindings")):
    for o in load(name):
        out.append(head(word, o))
        out.append("  to %s %s" % (o["roleRef"]["kind"], o["roleRef"]["name"]))
        for s in o.get("subjects") or []:
            out.append("  subject %s %s" % (s["kind"], s["name"] if "namespace" not in s else s["namespace"] + "/" + s["name"]))
        out.append("")
# What Trireme's own components need besides.
out.append("""clusterrole system:trireme:network
  allow list,watch core namespaces,nodes,services
  allow list,watch discovery.k8s.io endpointslices

clusterrolebinding system:trireme:network
  to ClusterRole system:trireme:network
  subject User system:trireme:network
""")
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src", "bootstrap.txt"), "w") as f:
    f.write("\n".join(out))
