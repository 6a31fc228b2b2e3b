"""A client of streams that is not kubectl: [--forward PORT] PROTOCOL POD [COMMAND...]

Runs COMMAND in the pod and types "typed\n", or asks a port for its page; prints CHANNEL: TEXT for each channel heard.
An empty PROTOCOL offers none.
"""

import base64, json, os, socket, ssl, struct, subprocess, sys, tempfile, urllib.parse

arguments = sys.argv[1:]
forward = None
if arguments[0] == "--forward":
    forward, arguments = arguments[1], arguments[2:]
protocol, pod, command = arguments[0], arguments[1], arguments[2:]
config = json.loads(subprocess.check_output(["kubectl", "config", "view", "--raw", "-o", "json"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
place = urllib.parse.urlparse(cluster["server"])

files = []


def file(data):
    out = tempfile.NamedTemporaryFile()
    out.write(base64.b64decode(data))
    out.flush()
    files.append(out)
    return out.name


context = ssl.create_default_context(cafile=file(cluster["certificate-authority-data"]))
context.load_cert_chain(file(user["client-certificate-data"]), file(user["client-key-data"]))
plain = socket.create_connection((place.hostname, place.port), timeout=20)
connection = context.wrap_socket(plain, server_hostname=place.hostname)
if forward:
    path = f"portforward?ports={forward}"
else:
    path = "exec?" + urllib.parse.urlencode([("command", c) for c in command] + [("stdin", 1), ("stdout", 1), ("stderr", 1)])
lines = [
    f"GET /api/v1/namespaces/default/pods/{pod}/{path} HTTP/1.1",
    f"Host: {place.netloc}",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(),
]
if protocol:
    lines.append(f"Sec-WebSocket-Protocol: {protocol}")
connection.sendall("\r\n".join(lines + ["", ""]).encode())
received = connection.makefile("rb")
status = received.readline().decode().strip()
headers = {}
while (line := received.readline().decode().strip()):
    name, value = line.split(":", 1)
    headers[name.lower()] = value.strip()
if " 101 " not in status:
    sys.exit(f"{status}: {received.read(int(headers.get('content-length', 0))).decode()}")
assert headers.get("sec-websocket-protocol", "") == protocol, headers
in_base64 = "base64" in protocol


def send(channel, data):
    text = (str(channel).encode() + base64.b64encode(data)) if in_base64 else bytes([channel]) + data
    mask = os.urandom(4)
    assert len(text) < 126
    head = bytes([0x81 if in_base64 else 0x82, 0x80 | len(text)])
    connection.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))


def message():
    head = received.read(2)
    if len(head) < 2 or head[0] & 15 == 8:
        return None
    length = head[1] & 127
    if length == 126:
        length = struct.unpack(">H", received.read(2))[0]
    elif length == 127:
        length = struct.unpack(">Q", received.read(8))[0]
    data = received.read(length)
    return data if head[0] & 15 in (1, 2) else b""


send(0, b"GET / HTTP/1.0\r\n\r\n" if forward else b"typed\n")
heard = {}
while (data := message()) is not None:
    if not data:
        continue
    channel = data[0] - ord("0") if in_base64 else data[0]
    heard[channel] = heard.get(channel, b"") + (base64.b64decode(data[1:]) if in_base64 else data[1:])
for channel, data in sorted(heard.items()):
    print(f"{channel}: {data.decode(errors='replace')}")
