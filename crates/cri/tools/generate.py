#!/usr/bin/env python3
"""Writes api/runtime.v1.cri, the Container Runtime Interface as data, from a proto file.

usage: crates/cri/tools/generate.py FILE.proto

The file is reviewed and committed; the build never runs this. Its form is described in build.rs."""
import os, re, sys

text = re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", open(sys.argv[1]).read(), flags=re.S))
tokens = re.findall(r'"[^"]*"|[\w.]+|[^\s\w]', text)
out = []
at = 0


def until(stop):
    global at
    words = []
    while tokens[at] != stop:
        words.append(tokens[at])
        at += 1
    at += 1
    return words


def body(path):
    global at
    lines, nested = [], []
    while tokens[at] != "}":
        word = tokens[at]
        if word == "message":
            name = tokens[at + 1]
            at += 3
            nested.append(("message", path + "." + name, body(path + "." + name)))
        elif word == "enum":
            name = tokens[at + 1]
            at += 3
            nested.append(("enum", path + "." + name, values()))
        elif word in ("reserved", "option"):
            until(";")
        elif word == "oneof":
            group = tokens[at + 1]
            at += 3
            while tokens[at] != "}":
                lines.append(field(until(";")) + " oneof=" + group)
            at += 1
        else:
            lines.append(field(until(";")))
    at += 1
    return lines, nested


def field(words):
    line = " ".join(words).split(" [")[0]
    many = line.startswith("repeated ")
    line = line.removeprefix("repeated ").removeprefix("optional ")
    m = re.match(r"map < (\S+) , (\S+) > (\S+) = (\d+)", line)
    if m:
        return "%s {%s,%s} %s" % (m[3], m[1], m[2], m[4])
    kind, name, number = re.match(r"(\S+) (\S+) = (\d+)", line).groups()
    return "%s %s %s" % (name, "[%s]" % kind if many else kind, number)


def values():
    global at
    lines = []
    while tokens[at] != "}":
        words = until(";")
        if words[0] not in ("option", "reserved"):
            lines.append("%s %s" % (words[0], words[2]))
    at += 1
    return lines, []


def emit(kind, name, content):
    lines, nested = content
    out.append("%s %s" % (kind, name))
    out.extend("  " + line for line in lines)
    for item in nested:
        emit(*item)


while at < len(tokens):
    word = tokens[at]
    if word == "service":
        out.append("service " + tokens[at + 1])
        at += 3
        while tokens[at] != "}":
            words = []
            while tokens[at] not in "{;":
                words.append(tokens[at])
                at += 1
            if tokens[at] == "{":
                until("}")
            else:
                at += 1
            m = re.match(r"rpc (\S+) \( (\S+) \) returns \( (stream )?(\S+) \)", " ".join(words))
            if m:
                out.append("  %s %s %s%s" % (m[1], m[2], m[4], " stream" if m[3] else ""))
        at += 1
    elif word in ("message", "enum"):
        name = tokens[at + 1]
        at += 3
        emit(word, name, body(name) if word == "message" else values())
    else:
        at += 1
here = os.path.dirname(os.path.abspath(__file__))
open(os.path.join(here, "..", "api", "runtime.v1.cri"), "w").write("\n".join(out) + "\n")
