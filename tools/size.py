#!/usr/bin/env python3
"""Checks the length of functions and files and the complexity of functions (counted by pmccabe)."""
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FUNCTION_LINES = 100
FILE_LINES = 800
COMPLEXITY_WARN = 20
COMPLEXITY_FAIL = 30
FOLDERS = ("src", "test", "tools", "bench")
SUFFIXES = (".c", ".h", ".py", ".sh")


def source_files():
    for folder in FOLDERS:
        for where, dirs, names in os.walk(os.path.join(ROOT, folder)):
            dirs.sort()
            for name in sorted(names):
                if name.endswith(SUFFIXES):
                    yield os.path.relpath(os.path.join(where, name), ROOT)


def functions(files):
    """(complexity, lines, first line, file, name) of each function."""
    if not files:
        return
    run = subprocess.run(["pmccabe", *files], cwd=ROOT, capture_output=True, text=True, check=True)
    for line in run.stdout.splitlines():
        fields = line.split("\t")
        if len(fields) < 6:
            continue
        file = fields[5].split("(", 1)[0]
        yield int(fields[0]), int(fields[4]), int(fields[3]), file, fields[5].rsplit(": ", 1)[-1]


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0


def main():
    if not shutil.which("pmccabe"):
        print("size: pmccabe is not installed (tools/setup.sh test)")
        return 1
    failed = 0
    files = list(source_files())
    for path in files:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            count = sum(1 for _ in file)
        if count > FILE_LINES:
            print(f"{path}:{FILE_LINES + 1}: file has {count} lines, {FILE_LINES} are allowed")
            failed += 1
    lengths = []
    for complexity, lines, first, path, name in functions([f for f in files if f.endswith(".c")]):
        if path.startswith("src/"):
            lengths.append(lines)
        if lines > FUNCTION_LINES:
            print(f"{path}:{first}: {name} has {lines} lines, {FUNCTION_LINES} are allowed")
            failed += 1
        if complexity > COMPLEXITY_FAIL:
            print(f"{path}:{first}: {name} has complexity {complexity}, {COMPLEXITY_FAIL} is allowed")
            failed += 1
        elif complexity > COMPLEXITY_WARN:
            print(f"{path}:{first}: warning: {name} has complexity {complexity}")
    print(f"size: {len(lengths)} functions in src, median {quantile(lengths, 0.5)} lines, "
          f"p90 {quantile(lengths, 0.9)}, longest {max(lengths, default=0)}; {failed} problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
