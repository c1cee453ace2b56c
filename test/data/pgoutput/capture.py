#!/usr/bin/env python3
"""Makes the captures of this folder again: what real servers send for one small workload.

    test/data/pgoutput/capture.py [MAJOR...]

A capture is NAME.txt with two lines for each message: its bytes in hexadecimal, and what they mean. The meaning comes
from the reader below, written apart from the one in C, which test_pgoutput.c compares with it.
"""
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))
from support.cluster import Cluster  # noqa: E402

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE plain (id int PRIMARY KEY, name text, big text, feeling mood DEFAULT 'sad', price numeric(8,2));
ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
CREATE TABLE whole (a int, b text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE "Odd ""name" (a int NOT NULL, b text NOT NULL);
CREATE UNIQUE INDEX odd ON "Odd ""name" (b);
ALTER TABLE "Odd ""name" REPLICA IDENTITY USING INDEX odd;
CREATE TABLE bare (a int);
CREATE TABLE no_columns ();
CREATE TABLE heavy (id int PRIMARY KEY, feeling mood, load text);
ALTER TABLE heavy ALTER load SET STORAGE EXTERNAL;
CREATE PUBLICATION p FOR TABLE plain, whole, "Odd ""name";
CREATE PUBLICATION p_insert FOR TABLE bare, no_columns WITH (publish = 'insert,truncate');
"""

ROWS = [
    "INSERT INTO plain VALUES (1, 'ä', repeat('0123456789', 210), 'happy', 1.50), (2, '', NULL, DEFAULT, 'NaN')",
    "BEGIN; UPDATE plain SET name = 'b' WHERE id = 1; UPDATE plain SET id = 3 WHERE id = 2; "
    "DELETE FROM plain WHERE id = 3; COMMIT",
    "INSERT INTO whole VALUES (1, 'x'), (NULL, NULL)",
    "UPDATE whole SET b = E'tab\\tand\\\\' WHERE a = 1",
    "DELETE FROM whole WHERE a IS NULL",
    "INSERT INTO \"Odd \"\"name\" VALUES (1, 'k')",
    "UPDATE \"Odd \"\"name\" SET b = 'l'",
    "DELETE FROM \"Odd \"\"name\"",
    "INSERT INTO bare VALUES (7); INSERT INTO no_columns DEFAULT VALUES",
    "TRUNCATE plain, whole RESTART IDENTITY CASCADE",
    "TRUNCATE bare",
    "SELECT pg_replication_origin_create('far away')",
    "SELECT pg_replication_origin_session_setup('far away')",
    "BEGIN; SELECT pg_replication_origin_xact_setup('16/B374D848', '2026-01-01'); INSERT INTO bare VALUES (8); COMMIT",
    "SELECT pg_replication_origin_session_reset()",
    "SELECT pg_replication_origin_drop('far away')",
]
MESSAGES = [
    "SELECT pg_logical_emit_message(false, 'free', 'at once')",
    "BEGIN; SELECT pg_logical_emit_message(true, 'bound', E'a\\\\000b'::bytea); COMMIT",
]
INSERT_HEAVY = ("INSERT INTO heavy SELECT i, 'happy', repeat(md5(i::text), 1000) "
                "FROM generate_series({0}, {0} + 2) i; ")
STREAMED = [
    "BEGIN; SAVEPOINT s; " + INSERT_HEAVY.format(100) + "ROLLBACK TO s; " + INSERT_HEAVY.format(1) +
    "SELECT pg_logical_emit_message(true, 'in', 'stream'); SAVEPOINT s2; UPDATE heavy SET id = 10 WHERE id = 1; "
    "DELETE FROM heavy WHERE id = 2; TRUNCATE heavy; " + INSERT_HEAVY.format(20) + "COMMIT",
    "BEGIN; " + INSERT_HEAVY.format(200) + "ROLLBACK",
]
TWO_PHASE = [
    "BEGIN; INSERT INTO bare VALUES (9); PREPARE TRANSACTION 'kept'", "COMMIT PREPARED 'kept'",
    "BEGIN; INSERT INTO bare VALUES (10); PREPARE TRANSACTION 'thrown away'", "ROLLBACK PREPARED 'thrown away'",
]
STREAMED_TWO_PHASE = ["BEGIN; " + INSERT_HEAVY.format(300) + "PREPARE TRANSACTION 'large'", "COMMIT PREPARED 'large'"]


class Reader:
    """Reads one message by the documentation of its format."""

    def __init__(self, data):
        self.data = data

    def get(self, form):
        values = struct.unpack_from(">" + form, self.data)
        self.data = self.data[struct.calcsize(">" + form):]
        return values[0] if len(values) == 1 else values

    def string(self):
        text, self.data = self.data.split(b"\0", 1)
        return text

    def bytes(self, count):
        taken, self.data = self.data[:count], self.data[count:]
        assert len(taken) == count
        return taken

    def row(self):
        values = []
        for _ in range(self.get("H")):
            kind = self.get("c").decode()
            values.append(kind + (":" + printable(self.bytes(self.get("I"))) if kind in "tb" else ""))
        return "(" + ",".join(values) + ")"


def printable(data):
    return "".join(chr(c) if 33 <= c <= 126 and c not in b"\\,()" else f"\\{c:02x}" for c in data)


def lsn(number):
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def transaction(kind, reader):
    forms = {"B": ("QqI", "lsn time xid"), "C": ("bQQq", "zero lsn end time"), "S": ("Ib", "xid first"), "E": ("", ""),
             "c": ("IbQQq", "xid zero lsn end time"), "A": ("II", "xid subxid"), "b": ("QQqI", "lsn end time xid"),
             "P": ("bQQqI", "zero lsn end time xid"), "r": ("bQQqqI", "zero lsn end zero time xid")}
    forms["K"] = forms["p"] = forms["P"]
    form, names = forms[kind]
    if kind == "A" and len(reader.data) > 8:
        form, names = "IIQq", "xid subxid lsn time"
    values = dict.fromkeys("lsn end time xid subxid first".split(), 0)
    values.update(zip(names.split(), struct.unpack_from(">" + form, reader.data)))
    reader.data = reader.data[struct.calcsize(">" + form):]
    gid = printable(reader.string()) if kind in "bPKrp" else ""
    return (f"lsn={lsn(values['lsn'])} end={lsn(values['end'])} time={values['time']} xid={values['xid']} "
            f"subxid={values['subxid']} first={values['first']} gid={gid}")


def relation(kind, reader):
    text = f"oid={reader.get('I')} {printable(reader.string())}.{printable(reader.string())}"
    if kind == "R":
        text += f" identity={reader.get('c').decode()}"
        for _ in range(reader.get("H")):
            key, name, oid, modifier = reader.get("b"), reader.string(), *reader.get("Ii")
            text += f" {printable(name)}{'*' if key else ''}:{oid}:{modifier}"
    return text


def change(kind, reader):
    if kind == "T":
        count, flags = reader.get("IB")
        tables = ",".join(str(reader.get("I")) for _ in range(count))
        return f"cascade={flags & 1} restart={flags >> 1} oids={tables}"
    if kind == "M":
        flags, where, prefix = *reader.get("bQ"), reader.string()
        content = reader.bytes(reader.get("I"))
        return f"bound={flags} lsn={lsn(where)} {printable(prefix)}:{printable(content)}"
    text = f"oid={reader.get('I')}"
    while reader.data:
        text += " " + reader.get("c").decode() + reader.row()
    return text


def meaning(data, in_stream):
    reader = Reader(data)
    kind = reader.get("c").decode()
    if kind == "O":
        reader.get("Q")
        text = printable(reader.string())
    elif kind in "RYIUDTM":
        text = f"stream={reader.get('I') if in_stream else 0} "
        text += relation(kind, reader) if kind in "RY" else change(kind, reader)
    else:
        text = transaction(kind, reader)
    assert not reader.data, f"{kind}: {reader.data!r} is left"
    return f"{kind} {text}"


def capture(cluster, name, statements, options, settings=(), two_phase=False):
    db = f"capture_{len(name)}_{abs(hash(name))}"
    cluster.sql(f"CREATE DATABASE {db}")
    with cluster.connect(db) as conn:
        conn.execute(SCHEMA)
        columns = "(id, feeling)" if cluster.major >= 15 else ""
        conn.execute(f"CREATE PUBLICATION p_heavy FOR TABLE heavy {columns}")
        arguments = ", false, true" if two_phase else ""
        conn.execute(f"SELECT pg_create_logical_replication_slot('s', 'pgoutput'{arguments})")
        for statement in statements:
            conn.execute(statement)
        for setting in settings:
            conn.execute(f"SET {setting}")
        pairs = [("publication_names", "p,p_insert,p_heavy"), *options]
        words = ", ".join(f"'{k}', '{v}'" for k, v in pairs)
        rows = conn.execute(f"SELECT data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, {words})").fetchall()
        conn.execute("SELECT pg_drop_replication_slot('s')")
    in_stream = False
    with open(os.path.join(HERE, name + ".txt"), "w", encoding="ascii") as file:
        for (data,) in rows:
            file.write(f"{data.hex()}\n{meaning(data, in_stream)}\n")
            in_stream = data[:1] == b"S" or (in_stream and data[:1] != b"E")
    print(f"{name}: {len(rows)} messages, {''.join(sorted({chr(row[0][0]) for row in rows}))}")


def captures(cluster):
    major = cluster.major
    messages = MESSAGES if major >= 14 else []
    asked = [("messages", "true")] if major >= 14 else []
    capture(cluster, f"{major}_text", ROWS + messages, [("proto_version", "1"), *asked])
    if major < 15:
        return
    small = ["logical_decoding_work_mem = '64kB'"]
    if major >= 16:
        small.append("debug_logical_replication_streaming = immediate")
    parallel = major >= 16
    version = ("proto_version", "4" if parallel else "3")
    streaming = ("streaming", "parallel" if parallel else "on")
    capture(cluster, f"{major}_binary", ROWS, [("proto_version", "1"), ("binary", "true")])
    capture(cluster, f"{major}_streamed", STREAMED, [version, streaming, *asked], small)
    capture(cluster, f"{major}_two_phase", TWO_PHASE, [version, ("two_phase", "on")], (), True)
    capture(cluster, f"{major}_streamed_two_phase", STREAMED_TWO_PHASE, [version, streaming, ("two_phase", "on")],
            small, True)


def main():
    for major in map(int, sys.argv[1:] or ["13", "15", "18"]):
        cluster = Cluster("capture", major)
        try:
            captures(cluster.start())
        finally:
            cluster.remove()


if __name__ == "__main__":
    main()
