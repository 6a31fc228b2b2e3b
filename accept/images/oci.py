#!/usr/bin/env python3
"""OCI images from root file systems, and their way into a registry or an archive.

    oci.py layer ROOT OUT.tar.gz                     one compressed layer
    oci.py push URL NAME:TAG LAYER [KEY=VALUE...]    to a registry (keys: cmd, entrypoint, user, env, auth, corrupt)
    oci.py archive OUT.tar REFERENCE LAYER [KEY=VALUE...]
"""
import base64
import gzip
import hashlib
import io
import json
import sys
import tarfile
import urllib.error
import urllib.request

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(root, out):
    """The same tree gives the same bytes, so that a second push finds all blobs there."""
    with open(out, "wb") as file, gzip.GzipFile("", "wb", 1, file, mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            def owned(entry):
                entry.mtime = 0
                return entry
            tar.add(root, arcname=".", filter=owned)


def image(layer_path, options):
    """The blobs of an image: configuration, layer, manifest."""
    packed = open(layer_path, "rb").read()
    diff = digest(gzip.decompress(packed))
    inner = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/lib/postgresql/15/bin"]}
    for key, name in (("cmd", "Cmd"), ("entrypoint", "Entrypoint")):
        if key in options:
            inner[name] = options[key].split()
    if "env" in options:
        inner["Env"] += options["env"].split(",")
    if "user" in options:
        inner["User"] = options["user"]
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": inner,
                         "rootfs": {"type": "layers", "diff_ids": [diff]}, "history": []}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest(packed), "size": len(packed)}],
    }).encode()
    return config, packed, manifest


def call(method, url, data=None, kind=None, auth=None):
    request = urllib.request.Request(url, data=data, method=method)
    if kind:
        request.add_header("Content-Type", kind)
    if auth:
        request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
    return urllib.request.urlopen(request)


def push(url, reference, layer_path, options):
    name, tag = reference.rsplit(":", 1)
    auth = options.get("auth")
    config, packed, manifest = image(layer_path, options)
    for blob in (config, packed):
        try:
            call("HEAD", f"{url}/v2/{name}/blobs/{digest(blob)}", auth=auth)
            continue
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        place = call("POST", f"{url}/v2/{name}/blobs/uploads/", b"", auth=auth).headers["Location"]
        place += ("&" if "?" in place else "?") + "digest=" + digest(blob)
        call("PUT", place, blob, "application/octet-stream", auth)
    call("PUT", f"{url}/v2/{name}/manifests/{tag}", manifest, MANIFEST, auth)
    print(digest(packed))


def archive(out, reference, layer_path, options):
    config, packed, manifest = image(layer_path, options)
    index = json.dumps({"schemaVersion": 2, "manifests": [{
        "mediaType": MANIFEST, "digest": digest(manifest), "size": len(manifest),
        "annotations": {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference},
    }]}).encode()
    with tarfile.open(out, "w") as tar:
        def put(name, data):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        put("index.json", index)
        for blob in (config, packed, manifest):
            put("blobs/sha256/" + digest(blob)[7:], blob)


def main(arguments):
    what, rest = arguments[0], arguments[1:]
    if what == "layer":
        return layer(*rest)
    options = dict(option.split("=", 1) for option in rest[3:])
    return {"push": push, "archive": archive}[what](*rest[:3], options)


if __name__ == "__main__":
    main(sys.argv[1:])
