#!/usr/bin/env python3
"""Runs the unit tests of a build, and counts test cases for run-tests.

    tools/unit.py BUILDDIR [--tally FILE]          runs every unit-* program of the build
    tools/unit.py --junit FILE.xml --tally FILE    only counts what pytest wrote

The tally has lines "passed N", "failed N", "skipped NAME: REASON" and "failure NAME: WHY".
"""
import argparse
import glob
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

WHY_MAX = 300
CASE = re.compile(r"^(not ok|ok) (\d+)(?: -)? (.*)$")
PLAN = re.compile(r"^1\.\.(\d+)$")


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = []
        self.failures = []

    def fail(self, name, why="", count=1):
        self.failed += count
        self.failures.append(f"{name}: {' '.join(why.split())[:WHY_MAX]}")

    def write(self, path):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"passed {self.passed}\nfailed {self.failed}\n")
                file.writelines(f"skipped {name}\n" for name in self.skipped)
                file.writelines(f"failure {name}\n" for name in self.failures)


def count_tap(name, text, tally):
    """Adds the cases of one program's TAP output; returns how many of them failed, and how many never came."""
    planned = seen = failed = 0
    for line in text.splitlines():
        plan, case = PLAN.match(line), CASE.match(line)
        if plan:
            planned += int(plan.group(1))
        elif case:
            seen += 1
            if case.group(3).startswith("# SKIP"):
                tally.skipped.append(f"{name}: {case.group(3)[6:].strip()}")
            elif case.group(1) == "ok":
                tally.passed += 1
            else:
                failed += 1
    return failed, planned - seen


def run_program(program, tally):
    name = os.path.basename(program)
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    try:
        run = subprocess.run([program], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=300, check=False)
        out, err, status = run.stdout, run.stderr, run.returncode
    except subprocess.TimeoutExpired as late:
        out, err, status = late.stdout or b"", (late.stderr or b"") + b"\ntimed out after 300 s", None
    text = out.decode("utf-8", "replace")
    before = tally.passed
    failed, missing = count_tap(name, text, tally)
    if status != 0 or failed or missing > 0 or text.find("1..") < 0:
        # Died early, or said nothing: at least one failure, whatever was printed before.
        tally.fail(name, f"status {status}, {failed} failed", max(failed, 1))
        print(f"FAIL {name} (status {status})\n{text}{err.decode('utf-8', 'replace')}")
        return
    print(f"ok   {name}: {tally.passed - before} passed")


def count_junit(path, tally):
    for case in ET.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skip = case.find("skipped")
        wrong = [found for kind in ("failure", "error") for found in case.findall(kind)]
        if wrong:
            tally.fail(name, "; ".join(found.get("message") or "" for found in wrong))
        elif skip is not None:
            tally.skipped.append(f"{name}: {' '.join((skip.get('message') or '').split())}")
        else:
            tally.passed += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", nargs="?")
    parser.add_argument("--junit")
    parser.add_argument("--tally")
    args = parser.parse_args()
    tally = Tally()
    if args.junit:
        count_junit(args.junit, tally)
    else:
        programs = [p for p in sorted(glob.glob(os.path.join(args.build, "unit-*")))
                    if os.path.isfile(p) and os.access(p, os.X_OK)]
        for program in programs:
            run_program(os.path.abspath(program), tally)
        print(f"unit: {len(programs)} programs, {tally.passed} passed, {tally.failed} failed, "
              f"{len(tally.skipped)} skipped")
    tally.write(args.tally)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
