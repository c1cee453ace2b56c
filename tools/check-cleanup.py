#!/usr/bin/env python3
"""A variable that is cleaned up by its scope must be made before the scope can be left.

`CLEANUP(buf_fini) Buf text;` without a value is released on every way out: a return before buf_init() frees what the
stack happened to hold. The compiler does not see it, since the address is taken.
"""
import glob
import re
import sys

DECLARED = re.compile(r"CLEANUP\(\w+\)\s+(?:struct\s+)?\w+\s+\**(\w+);")


def problems(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for found in DECLARED.finditer(text):
        made = re.compile(rf"\w+_init\(&{found.group(1)}\b").search(text, found.end())
        before = text[found.end():made.start() if made else len(text)]
        if re.search(r"\breturn\b", before.split("\n}\n")[0]):
            yield f"{path}:{text[:found.start()].count(chr(10)) + 1}: {found.group(1)} may be released before it is made"


def main():
    files = sorted(glob.glob("src/**/*.c", recursive=True) + glob.glob("test/**/*.c", recursive=True))
    found = [problem for path in files for problem in problems(path)]
    print("\n".join(found + [f"cleanup: {len(files)} files, {len(found)} problems"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
