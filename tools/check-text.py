#!/usr/bin/env python3
"""Fails when a file names a path of one machine, or when the sources hold marks of unfinished work."""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Written in parts, so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:" + "wor" + "k|far" + r"m)/|(?<![\w.$}])/hom" + r"e/[a-z][\w-]*")
UNFINISHED = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|X" + r"XX)\b")


def files():
    """What git tracks or would track; without git every file below the root."""
    try:
        run = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", "-coz", "--exclude-standard"],
                             cwd=ROOT, capture_output=True, check=True)
        return sorted(set(run.stdout.decode("utf-8", "surrogateescape").split("\0")) - {""})
    except (OSError, subprocess.CalledProcessError):
        found = []
        for where, dirs, names in os.walk(ROOT):
            dirs[:] = [d for d in dirs if not d.startswith(("build", ".git", "__pycache__", "test-logs"))]
            found += [os.path.relpath(os.path.join(where, name), ROOT) for name in names]
        return sorted(found)


def main():
    problems = 0
    for path in files():
        try:
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            continue # removed, or not text
        for number, line in enumerate(text.split("\n"), 1):
            if MACHINE_PATH.search(line):
                print(f"{path}:{number}: names a path of one machine: {line.strip()[:100]}")
                problems += 1
            if path.startswith("src/") and UNFINISHED.search(line):
                print(f"{path}:{number}: unfinished: {line.strip()[:100]}")
                problems += 1
    print(f"text: {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
