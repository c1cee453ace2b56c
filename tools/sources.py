#!/usr/bin/env python3
"""Prints every *.c file below the named folders, one a line, sorted: what meson.build takes as sources."""
import os
import sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for folder in sys.argv[1:]:
    found = []
    for where, _, names in os.walk(os.path.join(root, folder)):
        found += [os.path.relpath(os.path.join(where, n), root) for n in names if n.endswith(".c")]
    for path in sorted(found):
        print(path)
