"""Reads what `pgcrane migrate --json` prints: JSON lines, the report among them."""
import json


def read_lines(text):
    """All JSON objects of the output, in order; other lines are left out."""
    found = []
    for line in text.splitlines():
        if line.lstrip().startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                pass
    return found


def find_phases(lines):
    """The phases of the last object that has them: name -> {elapsed_us, busy_us, ...}."""
    for line in reversed(lines):
        phases = find_key(line, "phases")
        if isinstance(phases, dict):
            return phases
        if isinstance(phases, list):
            return {phase.get("name") or phase.get("phase", ""): phase for phase in phases}
    return {}


def find_key(value, key):
    """The first value of that key at any depth, None when there is none."""
    if isinstance(value, dict) and key in value:
        return value[key]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        found = find_key(part, key)
        if found is not None:
            return found
    return None
