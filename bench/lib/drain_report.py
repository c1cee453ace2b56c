"""Results of run-drain as tables: for the terminal and, as Markdown, for README.md."""
import statistics

from lib.drain import TOOLS

HEADER = ["backlog", "tool", "median s", "min", "max", "this / pgcrane", "this / ceiling", "source CPU s",
          "destination CPU s", "client CPU s", "client peak MB", "note"]
LEFT = 2  # columns of text in front


def summarise(document):
    rows = []
    for workload in document["workloads"]:
        mine = [summary_row(document, workload["name"], tool) for tool in document["tools"]]
        median = {row["tool"]: row.get("seconds") for row in mine}
        for row in mine:
            row["to_ours"] = ratio(row.get("seconds"), median.get("pgcrane"))
            row["to_ceiling"] = ratio(row.get("seconds"), median.get("ceiling"))
        rows += mine
    return rows


def summary_row(document, workload, tool):
    records = [one for one in document["results"] if one["workload"] == workload and one["tool"] == tool]
    failed = [one["failure"] for one in records if one["failure"]]
    row = {"workload": workload, "tool": tool, "note": ""}
    if failed or not records:
        row["note"] = "FAILED: " + failed[0] if failed else document["skipped"].get(tool, "not run")
        return row
    for key in ("seconds", "source_cpu", "dest_cpu", "client_cpu", "confirmed_seconds"):
        row[key] = statistics.median(one[key] for one in records)
    row.update(low=min(one["seconds"] for one in records), high=max(one["seconds"] for one in records),
               peak=max(one["hwm_bytes"] for one in records))
    return row


def ratio(one, other):
    return f"{one / other:.2f}" if one and other else "-"


def cells(row):
    title = TOOLS[row["tool"]].title
    if "seconds" not in row:
        return [row["workload"], title] + ["-"] * (len(HEADER) - 3) + [row["note"]]
    dest = f"{row['dest_cpu']:.1f}" if TOOLS[row["tool"]].applies else "-"
    peak = f"{row['peak'] / 2**20:.0f}" if row["peak"] else "-"
    return [row["workload"], title, f"{row['seconds']:.2f}", f"{row['low']:.2f}", f"{row['high']:.2f}",
            row["to_ours"], row["to_ceiling"], f"{row['source_cpu']:.1f}", dest, f"{row['client_cpu']:.1f}", peak,
            row["note"]]


def text_table(document):
    table = [HEADER] + [cells(row) for row in summarise(document)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)


def markdown_table(document):
    place, run = document["machine"], document["arguments"]
    lines = ["| " + " | ".join(HEADER) + " |",
             "|" + " --- |" * LEFT + " ---: |" * (len(HEADER) - LEFT - 1) + " --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in summarise(document)]
    sizes = ", ".join(f"{one['name']} {one['wal_bytes'] / 2**20:.0f} MB" for one in document["workloads"])
    lines += ["", f"WAL of the backlogs: {sizes}.", "",
              f"{run['rounds']} rounds, scale {run['scale']:g}; PostgreSQL {document['postgres']}; "
              f"{place['processor']}, {place['cores']} cores, {place['memory_gb']} GB, Linux {place['kernel']}; "
              f"{document['date']}.", f"`{document['command']}`"]
    return "\n".join(lines)
