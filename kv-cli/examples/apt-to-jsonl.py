#!/usr/bin/env python3
"""Turn Debian's package index into JSONL that `kv-cli load` reads.

    apt-cache dumpavail | ./apt-to-jsonl.py | kv-cli load
    apt-cache dumpavail | ./apt-to-jsonl.py --sample 420 --longest 4096 --drop Maintainer

One record a line: the key is the name of the package (NAME=VERSION for a further version of one
that came before, NAME=VERSION#N should even that repeat), the value the record as apt printed it,
byte for byte, without the empty line behind it. A record that is no UTF-8 goes out as `value_b64`.
Reads as a stream, so the size of the index does not matter.
"""

import argparse
import base64
import json
import sys


def records(stream):
    """The paragraphs of a stream in Debian's control format, as bytes."""
    lines = []
    for line in stream:
        if line in (b"\n", b"\r\n"):
            if lines:
                yield b"".join(lines)
            lines = []
        else:
            lines.append(line)
    if lines:
        yield b"".join(lines)


def field(record, name):
    """The first line of one field, or None."""
    wanted = name.lower() + b":"
    for line in record.split(b"\n"):
        if line[: len(wanted)].lower() == wanted:
            return line[len(wanted) :].strip()
    return None


def without(record, names):
    """The record without some of its fields, their continuation lines included."""
    unwanted = tuple(name.lower().encode() + b":" for name in names)
    kept, dropping = [], False
    for line in record.splitlines(keepends=True):
        if not line.startswith((b" ", b"\t")):
            dropping = line.lower().startswith(unwanted)
        if not dropping:
            kept.append(line)
    return b"".join(kept)


def keys_of(stream, seen):
    """Pairs of a unique key and its record; paragraphs without a name are counted as skipped."""
    for record in records(stream):
        name = field(record, b"Package")
        if not name:
            seen["skipped"] += 1
            continue
        key = name
        if key in seen["keys"]:
            key = name + b"=" + (field(record, b"Version") or b"")
        base, number = key, 2
        while key in seen["keys"]:
            key = base + b"#" + str(number).encode()
            number += 1
        seen["keys"].add(key)
        yield key, record


def line_of(key, record):
    """One line of JSONL for one record."""
    out = {}
    for name, data in (("key", key), ("value", record)):
        try:
            out[name] = data.decode("utf-8")
        except UnicodeDecodeError:
            out[name + "_b64"] = base64.b64encode(data).decode("ascii")
    return json.dumps(out, ensure_ascii=False, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sample", type=int, metavar="N", help="only N records, evenly spread")
    parser.add_argument("--longest", type=int, metavar="BYTES", help="leave out longer records")
    parser.add_argument("--drop", action="append", default=[], metavar="FIELD", help="leave out")
    options = parser.parse_args()

    seen = {"keys": set(), "skipped": 0}
    pairs = keys_of(sys.stdin.buffer, seen)
    if options.drop:
        pairs = ((key, without(record, options.drop)) for key, record in pairs)
    if options.longest:
        pairs = (pair for pair in pairs if len(pair[1]) <= options.longest)
    if options.sample:
        everything = list(pairs)
        step = max(1.0, len(everything) / options.sample)
        chosen = (int(i * step) for i in range(options.sample))
        pairs = [everything[i] for i in chosen if i < len(everything)]

    count = 0
    out = sys.stdout.buffer
    try:
        for key, record in pairs:
            out.write(line_of(key, record).encode("utf-8") + b"\n")
            count += 1
        out.flush()
    except BrokenPipeError:
        # Whoever read us has enough. Python would complain again when it closes standard output.
        sys.stderr.close()
        return 0
    skipped = f", {seen['skipped']} without a name left out" if seen["skipped"] else ""
    print(f"{count} records{skipped}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
