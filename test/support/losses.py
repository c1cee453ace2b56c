"""Many ways to lose something, in one migration: each test brings the tables and the changes of one rule, one run of
`pgcrane migrate --follow` and `pgcrane promote` moves them all, then each test looks at its own.

    book = Book()

    @book.rule("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)", "UPDATE t SET n = 2")
    def test_updates(loss):
        loss.equal()

Each rule has its tables twice, in two schemas: the changes of one are made while pgcrane follows, one transaction after
another; those of the other all together while it is away, so that it finds them as one backlog and joins them. A change is
a text (one transaction, or several with their own BEGIN and COMMIT), or a function that is given a Writing.
"""
import contextlib
import os

from support import compare
from support.cluster import quote_ident
from support.following import Following
from support.program import Program

MODES = ("live", "late")
# What makes texts of values differ from session to session, if they are not set by whoever reads and writes them.
HOSTILE = ("DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Kathmandu'", "extra_float_digits = -5",
           "bytea_output = 'escape'", "xmloption = 'document'", "default_transaction_isolation = 'serializable'",
           "default_transaction_deferrable = on", "statement_timeout = '20s'", "lock_timeout = '15s'",
           "idle_in_transaction_session_timeout = '10s'", "synchronous_commit = off", "row_security = on")


class Rule:
    def __init__(self, test, tables, changes, during, since):
        self.name = test.__name__.removeprefix("test_")
        self.tables, self.changes, self.during, self.since = tables, changes, during, since

    def schema(self, mode):
        return f"{self.name}_{mode}"


class Book:
    """The rules of one file."""

    def __init__(self):
        self.rules = {}

    def rule(self, tables, *changes, during=None, since=13):
        """during: a function that is given the Loss when all is applied, before the promote; what it returns is the Loss's
        `seen`. since: the first major that knows the statements."""
        def take(test):
            rule = Rule(test, tables, changes, during, since)
            self.rules[rule.name] = rule
            return test
        return take


class Writing:
    """What a change that is a function is given."""

    def __init__(self, database, rule, mode):
        self.database, self.rule, self.mode, self.schema = database, rule, mode, rule.schema(mode)
        self.kept = {}

    @contextlib.contextmanager
    def connect(self, **options):
        with contextlib.closing(self.database.connect(**options)) as conn:
            conn.execute(compare.SESSION)
            conn.execute(f"SET search_path = {quote_ident(self.schema)}, public; SET default_transaction_isolation = 'read committed'")
            if not conn.autocommit:
                conn.commit()
            yield conn

    def sql(self, text):
        with self.connect() as conn:
            return conn.execute(text)

    def run(self, change):
        if callable(change):
            change(self)
        else:
            self.sql(change)


class Loss:
    """One rule of one session, in both modes."""

    def __init__(self, session, rule):
        self.session, self.rule, self.major = session, rule, session.source.cluster.major

    @property
    def seen(self):
        """What `during` returned; raises what it raised."""
        value = self.session.seen[self.rule.name]
        if isinstance(value, Exception):
            raise value
        return value

    def rows(self, database, mode, text):
        with Writing(database, self.rule, mode).connect() as conn:
            return conn.execute(text).fetchall()

    def both(self, text):
        """Of the destination; the same in both modes."""
        live, late = (self.rows(self.session.dest, mode, text) for mode in MODES)
        assert live == late, f"{text}: {live} of what was followed, {late} of what was caught up with"
        return live

    def values(self, text):
        """The first column of both()."""
        return [row[0] for row in self.both(text)]

    def tried(self, text):
        """What the destination says to statements that are rolled back: the rows of the last one, the same in both modes."""
        found = []
        for mode in MODES:
            with Writing(self.session.dest, self.rule, mode).connect(autocommit=False) as conn:
                cursor = conn.execute(text)
                while cursor.nextset():
                    pass
                found.append(cursor.fetchall() if cursor.description else [])
                conn.rollback()
        assert found[0] == found[1], found
        return found[0]

    def equal(self):
        """Every row of every table of the rule, compared with the source; and sequences."""
        assert not self.session.failed.get(self.rule.name), self.session.failed[self.rule.name]
        problems = []
        for mode in MODES:
            with contextlib.ExitStack() as stack:
                sides = [OneSchema(database.uri, self.rule.schema(mode))
                         for database in (self.session.source, self.session.dest)]
                for side in sides:
                    stack.callback(side.conn.close)
                problems += compare.data_differing(*sides)
                problems += compare.maps_differing("sequence", *(side.sequences() for side in sides))
                assert sides[0].tables(), "there are no tables"
        assert not problems, "\n".join(problems)


class OneSchema(compare.Side):
    def __init__(self, uri, schema):
        super().__init__(uri, ())
        self.only = schema

    def tables(self):
        return {key: value for key, value in super().tables().items() if key[0] == self.only}

    def sequences(self):
        return {key: value for key, value in super().sequences().items() if key[0] == self.only}


class Session:
    """The migration of all rules of a book."""

    def __init__(self, book, program, source, dest, *flags):
        self.program, self.source, self.dest = program, source, dest
        self.rules = [rule for rule in book.rules.values() if rule.since <= source.cluster.major]
        self.writing = {(rule.name, mode): Writing(source, rule, mode) for rule in self.rules for mode in MODES}
        self.following = Following(program, source, dest, "--pg-bindir", source.cluster.bin, *flags)
        self.seen, self.failed, self.promoted = {}, {}, None

    def define(self, *statements):
        for database in (self.source, self.dest):
            for setting in HOSTILE:
                database.sql(f"ALTER DATABASE {quote_ident(database.name)} SET {setting}")
        for writing in self.writing.values():
            self.source.sql(f"CREATE SCHEMA {quote_ident(writing.schema)}")
            writing.run(writing.rule.tables)
        for statement in statements:
            self.source.sql(statement)

    def change(self, mode):
        """What fails is the rule's own failure, and told by its test."""
        for rule in self.rules:
            for change in rule.changes:
                try:
                    self.writing[(rule.name, mode)].run(change)
                except Exception as error:  # pylint: disable=broad-except
                    self.failed.setdefault(rule.name, []).append(f"{mode}: {change}: {error}")

    def look(self):
        for rule in self.rules:
            if rule.during:
                try:
                    self.seen[rule.name] = rule.during(Loss(self, rule))
                except Exception as error:  # pylint: disable=broad-except
                    self.seen[rule.name] = error

    def run(self):
        following = self.following.start()
        following.wait_following()
        self.change("live")
        following.wait_applied()
        following.stop()
        self.change("late")
        following.again()
        following.wait_caught_up()
        following.wait_applied()
        self.look()
        self.promoted = following.promoted(following.promote("--recopy-limit", "1GB"))
        return self

    def differences(self):
        """Of everything, but for the setting that keeps the source from being written to."""
        pg_dump = os.path.join(self.source.cluster.bin, "pg_dump")
        return [text for text in compare.differences(self.source.uri, self.dest.uri, pg_dump=pg_dump)
                if not text.startswith("settings of")]


def forget_subscriptions(database):
    """A database that has some cannot be dropped."""
    with contextlib.closing(database.connect()) as conn:
        conn.execute("SET default_transaction_read_only = off")
        for (name,) in conn.execute("SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database"
                                    " WHERE datname = current_database())").fetchall():
            for statement in ("DISABLE", "SET (slot_name = NONE)"):
                conn.execute(f"ALTER SUBSCRIPTION {quote_ident(name)} {statement}")
            conn.execute(f"DROP SUBSCRIPTION {quote_ident(name)}")


@contextlib.contextmanager
def migrated(book, clusters, folder, *flags, whole=()):
    """A Session that has run, between new databases of the two servers; whole: statements besides the rules'."""
    databases = [cluster.createdb() for cluster in clusters]
    program = Program(folder / "state")
    try:
        made = Session(book, program, *databases, *flags)
        made.define(*whole)
        yield made.run()
    finally:
        program.end_all()
        for database in databases:
            forget_subscriptions(database)
            database.drop()
