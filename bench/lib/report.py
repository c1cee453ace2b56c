"""Results as tables: for the terminal and, as Markdown, for README.md."""
import os
import platform
import statistics

from lib.tools import TOOLS


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
    }


def summarise(document):
    """One row for each data set and family of tools: of several variants the one with the best median."""
    rows = []
    for dataset in document["datasets"]:
        best = {}
        for name in document["tools"]:
            row = summary_row(document, dataset["name"], name)
            family = best.get(row["family"])
            if family is None or (row["median"] or float("inf")) < (family["median"] or float("inf")):
                best[row["family"]] = row
        add_ratios(best)
        rows += best.values()
    return rows


def summary_row(document, dataset, name):
    records = [one for one in document["results"] if one["dataset"] == dataset and one["tool"] == name]
    failed = [one for one in records if one["failure"]]
    good = [one for one in records if not one["failure"]]
    row = {"dataset": dataset, "tool": name, "family": TOOLS[name].family, "median": None, "note": ""}
    if failed or not good:
        row["note"] = "FAILED: " + failed[0]["failure"] if failed else document["skipped"].get(name, "not run")
        return row
    seconds = [one["seconds"] for one in good]
    row.update(median=statistics.median(seconds), low=min(seconds), high=max(seconds),
               hwm=max(one["hwm_bytes"] for one in good), rss=max(one["peak_rss_bytes"] for one in good),
               cpu=statistics.median(one["cpu_seconds"] for one in good))
    left = sorted({name for one in good for name in one["left_behind"]})
    row["note"] = "left running: " + ", ".join(left) if left else ""
    return row


def add_ratios(best):
    ours = best.get("pgcrane", {}).get("median")
    floor = best.get("floor", {}).get("median")
    for row in best.values():
        row["ours_to_this"] = ours / row["median"] if ours and row["median"] else None
        row["to_floor"] = row["median"] / floor if floor and row["median"] else None


HEADER = ["data set", "tool", "median s", "min", "max", "pgcrane / this", "this / floor", "peaks MB", "at once MB",
          "client CPU s", "note"]


def cells(row):
    if row["median"] is None:
        return [row["dataset"], TOOLS[row["tool"]].title] + ["-"] * (len(HEADER) - 3) + [row["note"]]
    return [row["dataset"], TOOLS[row["tool"]].title, f"{row['median']:.2f}", f"{row['low']:.2f}", f"{row['high']:.2f}",
            ratio(row["ours_to_this"]), ratio(row["to_floor"]), f"{row['hwm'] / 2**20:.0f}",
            f"{row['rss'] / 2**20:.0f}", f"{row['cpu']:.1f}", row["note"]]


def ratio(value):
    return "-" if value is None else f"{value:.2f}"


def text_table(document):
    table = [HEADER] + [[cell.replace("\\|", "|") for cell in cells(row)] for row in summarise(document)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    return "\n".join(lines)


def markdown_table(document):
    place, run = document["machine"], document["arguments"]
    lines = ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * 2 + " ---: |" * (len(HEADER) - 3) + " --- |"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in summarise(document)]
    lines += ["", f"{run['rounds']} rounds, {run['jobs']} jobs, scale {run['scale']:g}; "
              f"PostgreSQL {document['postgres']}; "
              f"{place['processor']}, {place['cores']} cores, {place['memory_gb']} GB, "
              f"Linux {place['kernel']}; {document['date']}."]
    lines += [f"`{document['command']}`"]
    return "\n".join(lines)
