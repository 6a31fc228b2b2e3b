"""Runs a command in a terminal, as a person does: [--resize ROWSxCOLUMNS] LINE WANTED COMMAND...

Types LINE once the command is there (after the resize), and ends well when WANTED comes after it.
"""

import fcntl, os, pty, re, select, struct, sys, termios, time

arguments = sys.argv[1:]
size = None
if arguments[0] == "--resize":
    size = tuple(map(int, arguments[1].split("x")))
    arguments = arguments[2:]
line, wanted, command = arguments[0], arguments[1], arguments[2:]
pid, master = pty.fork()
if pid == 0:
    os.execvp(command[0], command)


def resize(rows, columns):
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read(seconds):
    if not select.select([master], [], [], seconds)[0]:
        return b""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""


resize(24, 80)
seen = b""
# The prompt (an attached program may have none).
end = time.monotonic() + 5
while time.monotonic() < end and not re.search(rb"[#$] $", seen):
    seen += read(0.2)
if size:
    resize(*size)
end = time.monotonic() + 15
typed = 0.0
while wanted.encode() not in seen and time.monotonic() < end:
    # The size comes by another way than what is typed: it may be behind.
    if time.monotonic() - typed > 1:
        os.write(master, line.encode() + b"\n")
        typed = time.monotonic()
    seen += read(0.2)
os.write(1, seen)
os.write(master, b"exit\n")
os.close(master)
sys.exit(0 if wanted.encode() in seen else 1)
