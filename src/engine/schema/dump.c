/*
 * Runs pg_dump for the definitions under our snapshot.
 *
 * - The connection's parameters, password included, go through a service file that has no name: never through argv, the
 *   environment or a folder. pg_dump finds it by its descriptor; with the last process that has it open it is gone,
 *   whatever killed that one.
 * - The archive is made with standard_conforming_strings = on whatever the role's or the database's default, so that
 * its text has one reading (sqlscan.h). That goes in by libpq's `options`, with time-outs off from the first moment;
 * where a pooler refuses that parameter, it goes on without.
 * - Its encoding is UTF8, as that of our sessions; of a database without an encoding it holds the bytes as they are.
 * - Waiting for a table's lock is bounded: an ALTER that runs for an hour must be named, not waited for.
 */
#include "engine/schema/dump.h"

#include "common/fd.h"
#include "common/proc.h"
#include "pg/conn.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SERVICE_FILE_MAX = 64 * 1024,
    OPTIONS_LINE_MAX = 900, /* libpq refuses a longer line of a service file */
};

#define LOCK_WAIT "30s"

static const char our_options[] = "-c standard_conforming_strings=on -c row_security=off -c statement_timeout=0 "
                                  "-c lock_timeout=0 -c idle_in_transaction_session_timeout=0";

/* --- the service file --- */

enum { SERVICE_FD = 3 }; /* in pg_dump */

/* pg_dump may come with a libpq that is older than ours and refuses a service file with a parameter it does not know.
 * Those are left out where they say the default. */
static bool is_new_default(const char *line, size_t len) {
    static const char *const lines[] = {
        "ssl_min_protocol_version=TLSv1.2",
        "channel_binding=prefer", /* 13 */
        "sslsni=1",               /* 14 */
        "load_balance_hosts=disable",
        "sslcertmode=allow",       /* 16 */
        "gssdelegation=0",         /* 16 */
        "sslnegotiation=postgres", /* 17 */
    };
    for (size_t i = 0; i < COUNT_OF(lines); i++)
        if (strlen(lines[i]) == len && strncmp(line, lines[i], len) == 0)
            return true;
    return false;
}

static void append_without_new_defaults(Buf *out, const char *service) {
    for (const char *line = service; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        if (!is_new_default(line, len)) {
            buf_append(out, line, len);
            buf_append_char(out, '\n');
        }
        line += len + (line[len] == '\n' ? 1 : 0);
    }
}

/* The user's own `options` come first, so that ours win. */
static void append_with_options(Buf *out, const char *service) {
    static const char key[] = "options=";
    bool merged = false;
    for (const char *line = service; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        buf_append(out, line, len);
        if (strncmp(line, key, strlen(key)) == 0 && len + sizeof(our_options) < OPTIONS_LINE_MAX) {
            buf_printf(out, " %s", our_options);
            merged = true;
        } else if (strncmp(line, key, strlen(key)) == 0) {
            merged = true; /* no room: the user's stay as they are */
        }
        buf_append_char(out, '\n');
        line += len + (line[len] == '\n' ? 1 : 0);
    }
    if (!merged)
        buf_printf(out, "%s%s\n", key, our_options);
}

static bool write_service_file(const SchemaDump *dump, bool with_options, int *ret_fd, Error *err) {
    CLEANUP(buf_fini) Buf all;
    CLEANUP(buf_fini) Buf service;
    CLEANUP(buf_fini) Buf text;
    buf_init(&all, SERVICE_FILE_MAX);
    buf_init(&service, SERVICE_FILE_MAX);
    buf_init(&text, SERVICE_FILE_MAX);
    if (!db_service_file(dump->conninfo, &all, err))
        return false;
    append_without_new_defaults(&service, all.data);
    if (with_options)
        append_with_options(&text, service.data);
    else
        buf_append(&text, service.data, service.len);
    if (!buf_ok(&text, "the service file for pg_dump", err))
        return false;
    CLEANUP(fd_close) int fd = memfd_create("service", MFD_CLOEXEC);
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot make a file in memory");
    if (!fd_write_all(fd, text.data, text.len, err))
        return false;
    *ret_fd = fd;
    fd = -1;
    return true;
}

/* --- pg_dump's words --- */

typedef struct Advice {
    const char *said; /* part of pg_dump's error */
    bool retryable;
    const char *remedy;
} Advice;

static const Advice advices[] = {
    {"due to statement timeout", true,
     "another session holds a lock on a table of the source for more than " LOCK_WAIT
     ": see pg_stat_activity and pg_blocking_pids() there, then run the same command again"},
    {"due to lock timeout", true,
     "another session holds a lock on a table of the source: see pg_stat_activity and pg_blocking_pids() there, then "
     "run "
     "the same command again"},
    {"out of shared memory", false,
     "the source's lock table is too small for so many tables: ALTER SYSTEM SET max_locks_per_transaction = 1024, "
     "restart "
     "the source, then run the same command again"},
    {"permission denied for schema", false, "on the source: GRANT USAGE ON SCHEMA name TO user"},
    {"permission denied for", false,
     "on the source: GRANT SELECT ON ALL TABLES IN SCHEMA name TO user, or connect as a member of pg_read_all_data"},
    {"server version mismatch", false,
     "install pg_dump of the source's major version or newer, or name its folder with "
     "--pg-bindir"},
    {"invalid snapshot identifier", true, "the snapshot on the source is gone: run the same command again"},
    {"snapshot \"", true, "the snapshot on the source is gone: run the same command again"},
};

/* The source, not its definitions: what any lost connection is. */
static const char *const lost_words[] = {
    "server closed the connection",         "terminating connection", "connection to server",
    "no connection to the server",          "could not receive data", "could not send data",
    "the database system is shutting down", "SSL SYSCALL error",
};

static bool is_lost_connection(const char *said) {
    for (size_t i = 0; i < COUNT_OF(lost_words); i++)
        if (strstr(said, lost_words[i]) != NULL)
            return true;
    return false;
}

static void give_advice(const char *said, Error *err) {
    for (size_t i = 0; i < COUNT_OF(advices); i++) {
        if (strstr(said, advices[i].said) == NULL)
            continue;
        err->retryable = advices[i].retryable;
        (void)error_remedy(err, "%s", advices[i].remedy);
        return;
    }
}

/*
 * "PATH failed with status 1: pg_dump: warning: ...\npg_dump: error: query failed: ERROR:  x\npg_dump: detail: ..."
 * to "pg_dump: query failed: ERROR:  x". Without such a line the message stays whole.
 */
static bool explain(Error *err) {
    static const char mark[] = "error: ";
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *whole = arena_strdup(arena, err->message);
    const char *first = strstr(whole, mark);
    if (err->reason != REASON_CLIENT_FAILED)
        return false;
    if (is_lost_connection(whole))
        return error_set(err, REASON_CONNECTION_LOST, "pg_dump lost its connection to the source: %.*s",
                         (int)strcspn(first != NULL ? first : whole, "\n"), first != NULL ? first : whole);
    if (first != NULL) {
        first += strlen(mark);
        error_set(err, REASON_CLIENT_FAILED, "pg_dump cannot read the source's definitions: %.*s",
                  (int)strcspn(first, "\n"), first);
    }
    give_advice(whole, err);
    return false;
}

/* --- the run --- */

/* What is left out or changed when the first try meets something that refuses it. */
typedef struct DumpWay {
    bool with_options;
    const char *encoding;
} DumpWay;

static bool run_pg_dump(Arena *arena, const SchemaDump *dump, const DumpWay *way, int service, const Stop *stop,
                        Buf *archive, Error *err) {
    const char *argv[] = {
        dump->pg_dump,
        "--format=custom",
        "--compress=0",
        "--section=pre-data",
        "--section=post-data",
        "-B", /* no large objects; its long form has another name since 16 */
        arena_printf(arena, "--encoding=%s", way->encoding),
        "--no-sync",
        "--no-password", /* there is nobody to ask */
        "--lock-wait-timeout=" LOCK_WAIT,
        "--exclude-schema=pgcrane",
        arena_printf(arena, "--snapshot=%s", dump->snapshot_id),
        "--dbname=service=pgcrane",
        NULL,
    };
    const char *env[] = {
        arena_printf(arena, "PGSERVICEFILE=/dev/fd/%d", SERVICE_FD),
        "LC_MESSAGES=C", /* explain() looks for English words */
        "LC_ALL=C",
        "LANGUAGE=",
        NULL,
    };
    ProcSpec spec = {.argv = argv, .extra_env = env, .fd3 = service};
    return proc_capture(&spec, stop, archive, err);
}

static bool dump_once(const SchemaDump *dump, const DumpWay *way, const Stop *stop, Buf *archive, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(fd_close) int service = -1;
    size_t before = archive->len;
    if (write_service_file(dump, way->with_options, &service, err) &&
        run_pg_dump(arena, dump, way, service, stop, archive, err))
        return true;
    archive->len = before;
    archive->data[before] = '\0';
    return false;
}

/* Is there another way for this failure? Each is tried once. */
static bool find_other_way(const Error *err, DumpWay *way) {
    if (err->reason != REASON_CLIENT_FAILED)
        return false;
    /* PgBouncer's words for a parameter that it does not pass on. */
    if (way->with_options && strstr(err->message, "unsupported startup parameter") != NULL) {
        way->with_options = false;
        return true;
    }
    /* Only a database without an encoding (SQL_ASCII) checks its bytes on the way out and finds them wanting. */
    if (strcmp(way->encoding, "UTF8") == 0 && strstr(err->message, "invalid byte sequence for encoding") != NULL) {
        way->encoding = "SQL_ASCII";
        return true;
    }
    return false;
}

bool schema_dump(const SchemaDump *dump, const Stop *stop, Buf *ret_archive, Error *err) {
    DumpWay way = {.with_options = true, .encoding = "UTF8"};
    do {
        if (dump_once(dump, &way, stop, ret_archive, err))
            return true;
    } while (find_other_way(err, &way));
    return explain(err);
}
