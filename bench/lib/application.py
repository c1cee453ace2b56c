"""An application that keeps writing: to the source until it is told the new address, and then to the destination.

It knows what was acknowledged to it, and when. The address is a file with one word in it, as a pooler's configuration or
a name server would be; whoever moves the database changes it.
"""
import os
import threading
import time

from lib.follower import connect

TABLES = """
CREATE TABLE ack (id bigserial PRIMARY KEY, writer integer NOT NULL, n bigint NOT NULL, UNIQUE (writer, n));
CREATE SCHEMA after;
CREATE TABLE after.ack (id bigserial PRIMARY KEY, writer integer NOT NULL, n bigint NOT NULL, UNIQUE (writer, n));
"""
# A changed row and a new one; what is written after the move stands apart, so that the rest can be compared.
WRITE = {
    "source": "WITH changed AS (UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = %(n)s %% %(rows)s + 1)"
              " INSERT INTO ack (writer, n) VALUES (%(writer)s, %(n)s)",
    "dest": "INSERT INTO after.ack (writer, n) VALUES (%(writer)s, %(n)s)",
}
RETRY = 0.005


class Application:
    def __init__(self, clusters, databases, address, writers, rate, rows):
        self.clusters, self.databases, self.address, self.rows = clusters, databases, address, rows
        self.period = writers / rate
        self.acknowledged = {"source": [], "dest": []}  # (moment, writer, n); appending is atomic
        self.failures = []  # (moment, text): what the application saw
        self.halt = threading.Event()
        self.threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(writers)]
        self.move_to("source")

    def move_to(self, place):
        with open(self.address + ".new", "w", encoding="ascii") as file:
            file.write(place)
        os.replace(self.address + ".new", self.address)

    def start(self):
        for thread in self.threads:
            thread.start()

    def finish(self):
        self.halt.set()
        for thread in self.threads:
            thread.join()

    def place(self):
        with open(self.address, encoding="ascii") as file:
            return file.read().strip()

    def _write(self, writer):
        """One statement each period; after a failure it asks for the address and tries again at once."""
        session, place, n = None, None, 0
        due = time.monotonic() + writer * self.period / len(self.threads)
        while not self.halt.is_set():
            n += 1
            try:
                now = self.place()
                if session is None or now != place:
                    session, place = self._reconnect(session, now), now
                session.execute(WRITE[place], {"writer": writer, "n": n, "rows": self.rows})
                self.acknowledged[place].append((time.monotonic(), writer, n))
            except Exception as problem:  # whatever it is, an application tries again
                self.failures.append((time.monotonic(), str(problem).strip().splitlines()[0] if str(problem) else "?"))
                self._close(session)
                session = None
                self.halt.wait(RETRY)
                due = time.monotonic()
                continue
            due = max(due + self.period, time.monotonic() - 1)
            self.halt.wait(max(0.0, due - time.monotonic()))
        self._close(session)

    def _reconnect(self, session, place):
        self._close(session)
        session = connect(self.clusters[place], self.databases[place])
        session.execute("SET statement_timeout = '10s'")
        return session

    @staticmethod
    def _close(session):
        if session is not None:
            session.close()

    def outage(self):
        """Seconds from the last write acknowledged by the source to the first one by the destination: of all writers
        together, and of the writer that was worst off."""
        if not self.acknowledged["source"] or not self.acknowledged["dest"]:
            raise RuntimeError("the application did not write to both servers")
        last, first = {}, {}
        for moment, writer, _ in self.acknowledged["source"]:
            last[writer] = max(moment, last.get(writer, 0.0))
        for moment, writer, _ in self.acknowledged["dest"]:
            first[writer] = min(moment, first.get(writer, float("inf")))
        worst = max(first.get(writer, float("inf")) - last[writer] for writer in last)
        return min(first.values()) - max(last.values()), worst

    def rate_before(self, seconds):
        """Acknowledged writes a second at the source, in the seconds before the last of them."""
        moments = [moment for moment, _, _ in self.acknowledged["source"]]
        return sum(1 for moment in moments if moment > max(moments) - seconds) / seconds if moments else 0.0

    def lost(self, dest):
        """Acknowledged, and not in the destination: (writer, n) of each. `dest`: rows (writer, n) of both tables."""
        said = {(writer, n) for place in self.acknowledged.values() for _, writer, n in place}
        return sorted(said - dest)
