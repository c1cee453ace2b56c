#!/usr/bin/env python3
"""Checks who includes whom in src/ against tools/layers.def, and a few rules of the same kind."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
# Comments and literals become blanks, so that only code is looked at; line ends stay for the numbers.
NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
ALLOCATOR = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|vasprintf)\s*\(")

# Headers of libraries that only some places may see.
ONLY_IN = [
    (re.compile(r"^(libpq-fe\.h|libpq/|libpq-events\.h|pg_config)"), ("pg/",), "only src/pg talks to libpq"),
    (re.compile(r"^event2/"), ("http/", "common/loop.c"), "only src/http and common/loop.c see libevent"),
    (re.compile(r"^llhttp\.h$"), ("http/",), "only src/http parses HTTP"),
    (re.compile(r"^openssl/"), ("http/",), "only src/http drives TLS"),
    (re.compile(r"^jansson\.h$"), ("common/json.h",), "only src/common/json.h includes it"),
    (re.compile(r"^sqlite3(ext)?\.h$"), ("store/store_sqlite.c",), "only the store's SQLite backend talks to it"),
    (re.compile(r"^curl/"), ("client/",), "only src/client asks over HTTP"),
    (re.compile(r"^yaml\.h$"), ("client/yaml.c",), "only client/yaml.c reads and writes YAML"),
    (re.compile(r"^sodium(\.h$|/)"), ("secrets/",), "only src/secrets does cryptography"),
]
MAY_ALLOCATE = ("common/", "pg/")


def read_rules(path):
    rules = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            line = line.split("#", 1)[0].strip()
            if line:
                folder, _, allowed = line.partition(":")
                rules[folder.strip()] = set(allowed.split())
    return rules


def layer_of(path, rules):
    """The longest folder of the rules that holds the path (relative to src); None when there is none."""
    holding = [rule for rule in rules if path == rule or path.startswith(rule + "/")]
    return max(holding, key=len, default=None)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def check_include(path, layer, quote, header, rules):
    for pattern, places, why in ONLY_IN:
        if pattern.match(header) and not path.startswith(places):
            return f"includes {header}: {why}"
    if quote == "<" or header == "config.h":
        return None
    if "/" not in header or header.startswith("."):
        return f'includes "{header}": includes are by path from src'
    if not os.path.exists(os.path.join(ROOT, "src", header)):
        return f'includes "{header}", which is not in src'
    target = layer_of(header, rules)
    if target is None:
        return f'includes "{header}", whose folder is not in layers.def'
    if target != layer and target not in rules[layer]:
        return f"{layer} may not include {target} ({header})"
    return None


def check_file(path, rules):
    layer = layer_of(path, rules)
    if layer is None:
        yield 1, "its folder is not in layers.def"
        return
    with open(os.path.join(ROOT, "src", path), encoding="utf-8") as file:
        text = file.read()
    for number, line in enumerate(text.split("\n"), 1):
        found = INCLUDE.match(line)
        problem = check_include(path, layer, found.group(1), found.group(2), rules) if found else None
        if problem:
            yield number, problem
    if not path.startswith(MAY_ALLOCATE):
        for number, line in enumerate(NOT_CODE.sub(blank, text).split("\n"), 1):
            for found in ALLOCATOR.finditer(line):
                yield number, f"calls {found.group(1)}: memory comes from an arena here"


def main():
    rules = read_rules(os.path.join(ROOT, "tools", "layers.def"))
    problems = files = 0
    for folder, allowed in rules.items():
        for name in allowed - rules.keys():
            print(f"tools/layers.def: {folder} names {name}, which has no line of its own")
            problems += 1
    for where, _, names in sorted(os.walk(os.path.join(ROOT, "src"))):
        for name in sorted(names):
            if not name.endswith((".c", ".h", ".def")):
                continue
            files += 1
            path = os.path.relpath(os.path.join(where, name), os.path.join(ROOT, "src"))
            for number, problem in check_file(path, rules):
                print(f"src/{path}:{number}: {problem}")
                problems += 1
    print(f"layers: {files} files, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
