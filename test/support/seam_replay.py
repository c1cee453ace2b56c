"""Copy under a snapshot plus the slot's changes = the source? A small model of a destination, for the tests of the seam.

The stream is what the slot of the seam delivers (pgoutput, protocol 1, as text). Whether a change was in the copy already
is decided by the program's own code (seam_probe decide). Everything else is written plainly here: a row that is inserted
twice, or that is changed and not there, is a failure at once.
"""
import os
import struct
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from support.program import find_program
from support.seam import ALL, KEYS, SLOT

UNCHANGED = object()  # a TOAST value that the stream leaves out


class Different(AssertionError):
    """The model and the stream, or the model and the source, do not agree."""


# --- the stream ---


@dataclass
class Change:
    kind: str  # I, U, D, T
    oids: tuple
    old: tuple = None
    new: tuple = None


@dataclass
class Transaction:
    commit: int  # where the commit record begins
    xid: int
    changes: list = field(default_factory=list)


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        values = struct.unpack_from("!" + layout, self.data, self.at)
        self.at += struct.calcsize("!" + layout)
        return values if len(values) > 1 else values[0]

    def char(self):
        return self.take("c").decode()

    def tuple(self):
        values = []
        for _ in range(self.take("h")):
            kind = self.char()
            if kind == "t":
                length = self.take("i")
                values.append(self.data[self.at:self.at + length].decode())
                self.at += length
            else:
                values.append({"n": None, "u": UNCHANGED}[kind])
        return tuple(values)


def read_change(kind, message):
    if kind == "T":
        count, _ = message.take("iB")
        oids = message.take(f"{count}I")
        return Change(kind, oids if count > 1 else (oids,))
    change = Change(kind, (message.take("I"),))
    part = message.char()
    if part in "KO":
        change.old = message.tuple()
        part = message.char() if kind == "U" else None
    if part == "N":
        change.new = message.tuple()
    return change


def decode(messages):
    """Transactions in the order of their commits."""
    found = []
    for data in messages:
        message = Bytes(data)
        kind = message.char()
        if kind == "B":
            commit, _, xid = message.take("qqI")
            found.append(Transaction(commit, xid))
        elif kind in "IUDT":
            found[-1].changes.append(read_change(kind, message))
    return found


def peek(database, slot=SLOT, publications=f"{ALL},{KEYS}"):
    return decode(bytes(data) for (data,) in database.sql(
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1', 'publication_names', %s)",
        (slot, publications)))


# --- what the copy has already ---


def lsn_text(lsn):
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_value(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def decide(questions):
    """[(picture, w, commit, xid)] -> [True = the copy has it], by the program's own code."""
    probe = os.path.join(os.path.dirname(find_program()), "seam_probe")
    text = "".join(f"{picture} {w} {lsn_text(commit)} {xid}\n" for picture, w, commit, xid in questions)
    run = subprocess.run([probe, "decide"], input=text, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    answers = [line == "1" for line in run.stdout.split()]
    assert len(answers) == len(questions)
    return answers


# --- a destination ---


class Table:
    """One table at the model's destination. keys: positions of the identity's columns; none: the whole row counts."""

    def __init__(self, keys, rows, picture, w):
        self.keys, self.picture, self.w = keys, picture, w
        self.rows = {self.key(row): row for row in rows} if keys else Counter(rows)
        if keys and len(self.rows) != len(rows):
            raise Different("two rows with one key in a copy")

    def key(self, row):
        return tuple(row[i] for i in self.keys)

    def contents(self):
        return Counter(self.rows.values()) if self.keys else +self.rows

    def insert(self, row):
        if not self.keys:
            self.rows[row] += 1
        elif self.key(row) in self.rows:
            raise Different(f"inserted twice: {self.key(row)}")
        else:
            self.rows[self.key(row)] = row

    def delete(self, image):
        if not self.keys:
            if self.rows[image] < 1:
                raise Different(f"not there: {image}")
            self.rows[image] -= 1
            return image
        row = self.rows.pop(self.key(image), None)
        if row is None:
            raise Different(f"not there: {self.key(image)}")
        return row

    def apply(self, change):
        if change.kind == "T":
            self.rows.clear()
        elif change.kind == "I":
            self.insert(change.new)
        else:
            before = self.delete(change.old or change.new)
            if change.kind == "U":
                self.insert(tuple(old if new is UNCHANGED else new for old, new in zip(before, change.new)))


def replay(tables, transactions, in_copy=None):
    """Applies the stream to {oid: Table}; counts what was done. in_copy: another judge than the program's (questions ->
    answers), to see what it would lose."""
    questions, where = [], []
    for transaction in transactions:
        for change in transaction.changes:
            for oid in change.oids:
                if oid in tables:
                    questions.append((tables[oid].picture, tables[oid].w, transaction.commit, transaction.xid))
                    where.append((tables[oid], change))
    counts = defaultdict(int)
    for (table, change), skip in zip(where, (in_copy or decide)(questions)):
        counts["skipped" if skip else "applied"] += 1
        if not skip:
            table.apply(change)
    return counts


# --- the copy ---

KEY_POSITIONS = """SELECT c.oid, c.relreplident::text, ARRAY(
    SELECT rank FROM (SELECT attnum, row_number() OVER (ORDER BY attnum) - 1 AS rank FROM pg_attribute
                      WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a
    WHERE attnum = ANY (i.indkey::int2[])) FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.oid
    AND (i.indisprimary AND c.relreplident = 'd' OR i.indisreplident) WHERE c.oid = %s::regclass"""

FILES = """SELECT relfilenode, pg_relation_filenode(oid) FROM pg_class WHERE oid = %s::regclass"""


def read_rows(connection, table):
    """As COPY, so as the stream writes values."""
    with connection.cursor().copy(f"COPY (SELECT * FROM ONLY {table}) TO STDOUT") as copy:
        return list(copy.rows())


def copy_table(connection, table, picture, w, check_file=True):
    """In a transaction that has imported the snapshot and holds the table's lock: (oid, Table), or None when the table
    was rewritten or truncated since the snapshot."""
    [(as_of_snapshot, now)] = connection.execute(FILES, (table,)).fetchall()
    if check_file and as_of_snapshot != now:
        return None
    [(oid, _, keys)] = connection.execute(KEY_POSITIONS, (table,)).fetchall()
    return oid, Table(tuple(keys), read_rows(connection, table), picture, w)


def assert_same(database, tables, names):
    """The model's rows are the source's, table by table. names: {oid: name}."""
    with database.connect(autocommit=False) as connection:
        connection.isolation_level = 2  # repeatable read: one moment
        for oid, name in names.items():
            left, right = Counter(read_rows(connection, name)), tables[oid].contents()
            if left != right:
                raise Different(f"{name}: only at the source {list((left - right).items())[:3]}, only at the destination "
                                f"{list((right - left).items())[:3]} (of {(left - right).total()} and "
                                f"{(right - left).total()})")
