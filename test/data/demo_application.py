#!/usr/bin/python3
"""The application of ./quickstart: customers who keep ordering, on whichever server the address file names.

usage: demo_application.py ADDRESS_FILE FOLDER

Several sessions place orders until SIGTERM. When a write fails the session closes, asks for the address and tries again,
as any application behind a pooler or a name would. At the end FOLDER/acknowledged holds the number of each order that a
server said is committed, and standard output a summary. libpq is called directly: nothing else needs to be installed.
"""
import ctypes
import ctypes.util
import os
import signal
import sys
import threading
import time

SESSIONS = 4
PAUSE = 0.02  # between two orders of a session
RETRY = 0.01
CONNECTION_OK, TUPLES_OK = 0, 2

# All statements of one call are one transaction. The order's number comes from a sequence.
ORDER = """
UPDATE shop.product SET price = price + 0.01 WHERE id = 1 + {n} % 6000;
UPDATE shop.customer SET preferences = preferences || '{{"orders": {n}}}' WHERE id = 1 + {n} * 7 % 120000;
DELETE FROM shop.review WHERE id = md5('review ' || {n})::uuid AND {n} % 5 = 0;
WITH placed AS (INSERT INTO shop.purchase
    VALUES (nextval('shop.invoice_number'), 1 + {n} * 7 % 120000, clock_timestamp(), 'new', {n}, 'session {session}')
    RETURNING id, placed_at)
INSERT INTO shop.purchase_item SELECT id, placed_at, 1, 1 + {n} % 6000, 1, 9.99 FROM placed RETURNING purchase_id;
"""


NoticeProcessor = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
QUIET = NoticeProcessor(lambda _argument, _message: None)  # why a session ended is counted, not shown


def load_libpq():
    libpq = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
    for name, result, arguments in (
            ("PQconnectdb", ctypes.c_void_p, [ctypes.c_char_p]), ("PQstatus", ctypes.c_int, [ctypes.c_void_p]),
            ("PQfinish", None, [ctypes.c_void_p]), ("PQexec", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
            ("PQresultStatus", ctypes.c_int, [ctypes.c_void_p]), ("PQclear", None, [ctypes.c_void_p]),
            ("PQgetvalue", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]),
            ("PQerrorMessage", ctypes.c_char_p, [ctypes.c_void_p]),
            ("PQsetNoticeProcessor", ctypes.c_void_p, [ctypes.c_void_p, NoticeProcessor, ctypes.c_void_p])):
        function = getattr(libpq, name)
        function.restype, function.argtypes = result, arguments
    return libpq


class Session(threading.Thread):
    def __init__(self, libpq, address, number, halt):
        super().__init__(daemon=True)
        self.libpq, self.address, self.number, self.halt = libpq, address, number, halt
        self.place, self.connection = None, None
        self.orders = []  # (moment, server, number)
        self.failures = []

    def run(self):
        n = self.number
        while not self.halt.is_set():
            order = self.write(n)
            n += SESSIONS
            if order is not None:
                self.orders.append((time.monotonic(), self.place, order))
            self.halt.wait(PAUSE if order is not None else RETRY)
        self.close()

    def write(self, n):
        """The order's number when the server says that it is committed, else None."""
        with open(self.address, encoding="utf-8") as file:
            place = file.read().strip()
        if self.connection is None or place != self.place:
            self.close()
            self.place = place
            self.connection = self.libpq.PQconnectdb(place.encode())
            self.libpq.PQsetNoticeProcessor(self.connection, QUIET, None)
        if self.libpq.PQstatus(self.connection) != CONNECTION_OK:
            return self.failed()
        result = self.libpq.PQexec(self.connection, ORDER.format(n=n, session=self.number).encode())
        try:
            if self.libpq.PQresultStatus(result) == TUPLES_OK:
                return int(self.libpq.PQgetvalue(result, 0, 0))
            return self.failed()
        finally:
            self.libpq.PQclear(result)

    def failed(self):
        words = self.libpq.PQerrorMessage(self.connection).decode("utf-8", "replace").strip().splitlines()
        self.failures.append(words[0] if words else "no reason given")
        self.close()
        return None

    def close(self):
        if self.connection is not None:
            self.libpq.PQfinish(self.connection)
            self.connection = None


def summarise(sessions, folder):
    orders = sorted(order for session in sessions for order in session.orders)
    with open(os.path.join(folder, "acknowledged"), "w", encoding="ascii") as file:
        file.writelines(f"{number}\n" for _, _, number in orders)
    places = list(dict.fromkeys(place for _, place, _ in orders))
    for place in places:
        print(f"  {sum(1 for order in orders if order[1] == place):7} orders placed on {place}")
    if len(places) == 2:
        last = max(moment for moment, place, _ in orders if place == places[0])
        first = min(moment for moment, place, _ in orders if place == places[1])
        print(f"  {first - last:7.2f} s between the last order there and the first one here")
    failures = [text for session in sessions for text in session.failures]
    print(f"  {len(failures):7} attempts had to be repeated meanwhile")
    return 0 if len(places) == 2 else 1


def main():
    address, folder = sys.argv[1:]
    halt = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: halt.set())
    libpq = load_libpq()
    sessions = [Session(libpq, address, number, halt) for number in range(SESSIONS)]
    for session in sessions:
        session.start()
    halt.wait()
    for session in sessions:
        session.join()
    return summarise(sessions, folder)


if __name__ == "__main__":
    sys.exit(main())
