"""The table of a job's life as doc/job-states.md has it, and walks through it that take every row.

A walk is what one job goes through from its creation on. It goes from row to row, so that the way to a state is made of rows,
too, and each of them is checked where it is taken.
"""
import os
import re
from collections import deque
from dataclasses import dataclass, field, replace

from support.cluster import ROOT

ATTEMPTS_MAX = 5  # JOB_ATTEMPTS_MAX in src/jobs/job.h
WALK_MAX = 9  # rows; a walk ends with a delete
CONTINUOUS, ONE_TIME, UNPREPARED = "CONTINUOUS", "ONE_TIME", "UNPREPARED"  # the last: its destination is yet to be made


@dataclass(frozen=True)
class Row:
    source: str  # "RUNNING/CDC"
    event: str
    condition: str
    to: str
    action: str
    comment: str

    def __str__(self):
        return f"{self.source} {self.event}{' ' + self.condition if self.condition else ''}"


def cells(line):
    parts = [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]
    return [re.sub(r"\\(.)", r"\1", part).replace("`", "") for part in parts]


def read_tables():
    """{title: [[cell]]}, heads left out."""
    tables, title = {}, None
    with open(os.path.join(ROOT, "doc", "job-states.md"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("## "):
                title = line[3:].strip()
                tables[title] = []
            elif line.startswith("|") and not line.startswith("| ---"):
                tables[title].append(cells(line))
    return tables


def read_rows():
    return [Row(*line) for line in read_tables()["Transitions"][1:]]


def read_answers():
    """{state: {verb: "met", "refused" or where it leads to}}"""
    head, *lines = read_tables()["Wishes"]
    return {line[0]: dict(zip(head[1:], line[1:])) for line in lines}


# --- what a job does next ---


@dataclass(frozen=True)
class View:
    """All of a job that its next row depends on."""

    kind: str
    place: str = "CREATING"
    losses: int = 0
    failed: bool = False  # by an error that may have been one that passes


CONDITIONS = {
    "": lambda view: True,
    "CONTINUOUS": lambda view: view.kind != ONE_TIME,
    "UNPREPARED": lambda view: view.kind == UNPREPARED,
    "MAY_RETRY": lambda view: view.losses + 1 < ATTEMPTS_MAX,
    "RECOVERABLE": lambda view: view.failed,
    "SOME_FAILED": lambda view: False,  # of one database, with which the job fails
}
FORWARD = ("DUMP_DONE", "CAUGHT_UP", "PROMOTE_DONE")


def happens(view, row):
    """A destination that is yet to be made is never made today; one that is there is ready at once."""
    if row.source != "CREATING":
        return True
    return (row.event == "PREPARED") == (view.kind != UNPREPARED)


def rows_from(rows, view):
    """The first that fits of each event."""
    taken = set()
    for row in rows:
        if row.source == view.place and row.event not in taken and CONDITIONS[row.condition](view):
            taken.add(row.event)
            if happens(view, row):
                yield row


def after(view, row):
    forget = row.event.startswith("USER_") or row.event in FORWARD
    losses = 0 if forget else view.losses + (row.event == "WORKER_LOST")
    return replace(view, place=row.to, losses=losses, failed=row.event == "FATAL")


def is_last(row):
    """Behind it the job has a database that no session was begun for, or is over."""
    return row.event == "VERIFY_REFUSED" and row.source.startswith("RESUMING") or row.to == "DELETING"


# --- walks ---


@dataclass
class Walk:
    kind: str
    rows: list = field(default_factory=list)
    how: dict = field(default_factory=dict)  # "end": by what its last session ends; "abort": with what its removal fails once

    def view(self):
        view = View(self.kind)
        for row in self.rows:
            view = after(view, row)
        return view

    def add(self, rows):
        self.rows += rows
        return self


def way(rows, view, wanted):
    """The shortest list of rows whose last one is wanted; None = there is none."""
    seen, queue = {view}, deque([(view, [])])
    while queue:
        here, path = queue.popleft()
        for row in rows_from(rows, here):
            if wanted(row):
                return [*path, row]
            there = after(here, row)
            if there not in seen and not is_last(row):
                seen.add(there)
                queue.append((there, [*path, row]))
    return None


def go_on(rows, walk, left):
    """Takes what is left of rows, as long as the walk is not too long."""
    while not (walk.rows and is_last(walk.rows[-1])):
        more = way(rows, walk.view(), lambda row: row in left and row.event != "USER_DELETE")
        if more is None or walk.rows and len(walk.rows) + len(more) > WALK_MAX:
            return
        walk.add(more)
        left.difference_update(more)


def end(rows, walk, left):
    """By a delete that was not taken yet, if one is near."""
    there = way(rows, walk.view(), lambda row: row in left and row.event == "USER_DELETE")
    if there is None or walk.rows and len(there) > 2 or is_ended(walk):
        there = way(rows, walk.view(), lambda row: row.event == "USER_DELETE" and row.source == walk.view().place)
    left.difference_update(there)
    return walk.add(there)


def is_ended(walk):
    return bool(walk.rows) and is_last(walk.rows[-1])


def make_walks(rows, unreachable):
    """Walks that take every row but those that are unreachable and those of a job that is being deleted."""
    rows = [row for row in rows if row not in unreachable]
    left = {row for row in rows if row.source != "DELETING"}
    walks = []
    for kind in (CONTINUOUS, ONE_TIME, UNPREPARED):
        while True:
            walk = Walk(kind)
            go_on(rows, walk, left)
            if not walk.rows:
                break
            walks.append(end(rows, walk, left))
    for kind in (CONTINUOUS, UNPREPARED):
        while way(rows, View(kind), lambda row: row in left):
            walks.append(end(rows, Walk(kind), left))
    assert not left, f"no walk leads to {', '.join(map(str, left))}"
    return walks
