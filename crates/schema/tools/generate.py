#!/usr/bin/env python3
"""Writes api/*.api, the Kubernetes API as data, from the facts in ../shared/facts.

usage: crates/schema/tools/generate.py FACTS_DIR

The files are reviewed and committed; the build never runs this. A new Kubernetes release means new facts, one run, and
a diff that a person can read. The form of the files is described in src/source.rs."""
import json, os, re, sys

facts_dir = sys.argv[1]
here = os.path.dirname(os.path.abspath(__file__))
out_dir = os.path.join(here, "..", "api")
facts = json.load(open(os.path.join(facts_dir, "kube-api-facts-1.36.json")))
resources = json.load(open(os.path.join(facts_dir, "resources.json")))["resources"]
tables = json.load(open(os.path.join(facts_dir, "recorded", "tables.json")))

# Empty ones mean another thing than absent ones.
KEEPS_EMPTY = {("HPAScalingRules", "policies"), ("CertificateSigningRequestSpec", "request")}

# Packages by their short names. What is not listed is not part of the API (Go-only types).
SHORT = [
    (r"io\.k8s\.api\.", ""),
    (r"io\.k8s\.apimachinery\.pkg\.apis\.meta\.", "meta."),
    (r"io\.k8s\.apiextensions-apiserver\.pkg\.apis\.apiextensions\.", "apiextensions."),
    (r"io\.k8s\.kube-aggregator\.pkg\.apis\.apiregistration\.", "apiregistration."),
    (r"io\.k8s\.metrics\.pkg\.apis\.", ""),
    (r"io\.k8s\.apiserver\.pkg\.apis\.", "apiserver."),
]


def short(type_id):
    for pattern, prefix in SHORT:
        m = re.match(pattern, type_id)
        if m:
            return prefix + type_id[m.end():]
    return None


# Fields by their descriptions: what a column says of itself is mostly what the field says that it shows.
described = {}
openapi = json.load(open(os.path.join(facts_dir, "recorded", "openapi", "v2.json")))["definitions"]
for type_id, definition in openapi.items():
    for field, value in definition.get("properties", {}).items():
        text = value.get("description", "").split("\n\nPossible enum values")[0].strip()
        described.setdefault(text, []).append("%s.%s" % (short(type_id), field))


def about(column, package):
    """Where a column's description comes from: a field, preferably of the same package, or a text of its own."""
    text = column["description"]
    if not text:
        return ""
    group, version = package.split(".")

    def far(name):
        words = name.split(".")
        return words[0] != group, words[0] != "meta", words[1] != version, words[1] != "v1", len(name), name
    found = described.get(text.strip())
    return " about " + (min(found, key=far) if found else json_text(text))


def type_text(text, package):
    if text.startswith("list<"):
        return "[" + type_text(text[5:-1], package) + "]"
    if text.startswith("map<string,"):
        return "{" + type_text(text[11:-1], package) + "}"
    if "." not in text:
        return text
    name = short(text)
    if name is None:
        return "any"
    return name[len(package) + 1:] if name.rsplit(".", 1)[0] == package else name


def json_text(value):
    return json.dumps(value, separators=(",", ":"))


def local(type_id, package):
    name = short(type_id) or type_id.rsplit(".", 1)[-1]
    return name[len(package) + 1:] if name.rsplit(".", 1)[0] == package else name


def field_line(f, package, owner):
    if f.get("jsonSkip"):
        return None
    words = [f["name"] or "-", type_text(f["type"], package), str(f.get("tag", "-"))]
    for flag, word in [("ptr", "ptr"), ("omitempty", "omit"), ("omitzero", "omitzero"), ("required", "req"), ("inline", "inline")]:
        if f.get(flag):
            words.append(word)
    if (owner, f["name"]) in KEEPS_EMPTY:
        words.append("empty")
    if f.get("wire") in ("fixed64", "fixed32"):
        words.append("fixed")
    if "listType" in f:
        words.append("list=" + f["listType"] + (":" + ",".join(f["listMapKeys"]) if f.get("listMapKeys") else ""))
    if "mapType" in f:
        words.append("map=" + f["mapType"])
    if "structType" in f:
        words.append("struct=" + f["structType"])
    if "patchStrategy" in f or "patchMergeKey" in f:
        words.append("patch=" + f.get("patchStrategy", "") + (":" + f["patchMergeKey"] if f.get("patchMergeKey") else ""))
    if "enum" in f:
        words.append("enum=" + local(f["enum"], package))
    if "named" in f:
        words.append("named=" + f["named"])
    if "wrap" in f:
        words.append("wrap")
    if "elemWrap" in f:
        words.append("elemwrap")
    if "pname" in f and not f.get("inline"):
        words.append("pname=" + f["pname"])
    if f.get("inline") and "go" in f:
        words.append("go=" + f["go"])
    if "default" in f:
        words.append("default=" + json_text(f["default"]))
    return "  " + " ".join(words)


packages = {}
for type_id in facts["types"]:
    name = short(type_id)
    if name:
        packages.setdefault(name.rsplit(".", 1)[0], []).append(type_id)
package_of = {}
kinds = {}
for kind in facts["kinds"]:
    name = short(kind["type"])
    if not name:
        continue
    package = name.rsplit(".", 1)[0]
    # A kind is listed in its own package; meta kinds that every group registers are found without a listing.
    gv = (kind["group"] + "/" if kind["group"] else "") + kind["version"]
    own = kind["type"].rsplit(".", 1)[-1]
    kinds.setdefault(gv, []).append((kind["kind"], name))
    if not package.startswith("meta."):
        package_of.setdefault(gv, package)
gv_of = {}
for gv, package in package_of.items():
    gv_of.setdefault(package, gv)


def verbs(v):
    return ",".join(v)


def columns(r):
    root = "/api/" + r["version"] if not r["group"] else "/apis/%s/%s" % (r["group"], r["version"])
    return tables.get(root + "/" + r["plural"])


os.makedirs(out_dir, exist_ok=True)
for old in os.listdir(out_dir):
    os.remove(os.path.join(out_dir, old))
for package in sorted(packages):
    lines = ["package " + package]
    gv = gv_of.get(package)
    if gv:
        lines.append("group " + gv)
        listed = [k if t == package + "." + k else k + "=" + t for k, t in sorted(kinds[gv])]
        for i in range(0, len(listed), 8):
            lines.append("kinds " + " ".join(listed[i:i + 8]))
        for r in resources:
            if (r["group"] + "/" if r["group"] else "") + r["version"] != gv or r.get("since"):
                continue
            table = columns(r)
            words = ["resource", r["plural"], r["kind"], r["singular"], "namespaced" if r["namespaced"] else "cluster"]
            words.append("verbs=" + verbs(r["verbs"]))
            if r.get("shortNames"):
                words.append("short=" + ",".join(r["shortNames"]))
            if r.get("categories"):
                words.append("categories=" + ",".join(r["categories"]))
            selectors = [f.split(" ")[0] for f in r.get("fieldSelectors", []) if not f.startswith("metadata.")]
            if selectors:
                words.append("fields=" + ",".join(selectors))
            if table is not None:
                words.append("served")
            lines += ["", " ".join(words)]
            for s in r.get("subresources", []):
                kind = s["kind"]
                if s.get("group") is not None and "version" in s:
                    kind = (s["group"] + "/" if s["group"] else "") + s["version"] + "." + kind
                lines.append("  subresource %s %s verbs=%s" % (s["name"], kind, verbs(s["verbs"])))
            for c in table or []:
                flags = (" format=" + c["format"] if c["format"] else "") + (" wide" if c["priority"] else "")
                lines.append("  column %s %s%s%s" % (json_text(c["name"]), c["type"], flags, about(c, package)))
    enums = sorted(e for e in facts["enums"] if (short(e) or "").rsplit(".", 1)[0] == package)
    if enums:
        lines.append("")
    for e in enums:
        v = facts["enums"][e]
        lines.append("enum %s %s %s" % (e.rsplit(".", 1)[-1], "closed" if v["closed"] else "open", json_text(v["values"])))
    for type_id in sorted(packages[package]):
        t = facts["types"][type_id]
        words = ["type", type_id.rsplit(".", 1)[-1]]
        if t.get("structType"):
            words.append("struct=" + t["structType"])
        lines += ["", " ".join(words)]
        lines += [line for line in (field_line(f, package, words[1]) for f in t["fields"]) if line]
    with open(os.path.join(out_dir, package + ".api"), "w") as f:
        f.write("\n".join(lines) + "\n")
print(len(packages), "packages")
