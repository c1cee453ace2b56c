/*
 * Applies what a slot has to a destination, in one thread, for the integration tests:
 *
 *     apply_probe SOURCE DEST JOB SLOT PUBLICATIONS ROWS [UNTIL]
 *
 * PUBLICATIONS: names with commas. ROWS: a batch ends when it has so many changes; in the middle of a transaction the
 * parts are applied and the transaction goes on, at its end they are committed with the position. UNTIL: an LSN; else
 * the source's flushed end at the start. The first run begins at the slot's position, a later one at the ledger's.
 * Prints one JSON object; the exit code is 0 when all was applied.
 */
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "engine/apply/apply.h"
#include "engine/ledger/position.h"
#include "pg/repl.h"
#include "support/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TABLES_MAX = 1000, PUBLICATIONS_MAX = 8, BATCH_MAX = 64 << 20 };

struct Probe {
    Arena *arena, *message_arena;
    DbTarget source_target, dest_target;
    const char *publications[PUBLICATIONS_MAX + 1];
    const char *slot;
    size_t rows;
    Lsn until;
    DbConn *source, *dest;
    ReplStream *stream;
    Ledger ledger;
    Stop stop;
    Batch *batch;
    ApplyTable *tables[TABLES_MAX];
    size_t tables_count;
    Position position;
    ApplyCounts counts;
    bool open;        /* a destination transaction */
    size_t open_rows; /* applied in it */
    int64_t waiting;  /* source transactions in it */
    int64_t apply_us, batches;
};

/* --- applying --- */

static bool begin(Probe *probe, Error *err) {
    if (probe->open)
        return true;
    probe->open = apply_begin(probe->dest, &probe->ledger, err);
    return probe->open;
}

static bool apply_batch(Probe *probe, Error *err) {
    const BatchPart *parts = NULL;
    size_t count = 0;

    if (batch_changes(probe->batch) == 0)
        return true;
    int64_t start = clock_now_us();
    bool ok = batch_seal(probe->batch, &parts, &count, err) && begin(probe, err) &&
              apply_parts(probe->dest, parts, count, &probe->counts, err);
    probe->apply_us += clock_now_us() - start;
    probe->open_rows += batch_changes(probe->batch);
    probe->batches++;
    batch_clear(probe->batch);
    return ok;
}

static bool commit(Probe *probe, Lsn to, Error *err) {
    if (!apply_batch(probe, err))
        return false;
    int64_t start = clock_now_us();
    if (!begin(probe, err) || !apply_commit(probe->dest, 0, probe->position.lsn, to, probe->waiting, err))
        return false;
    probe->apply_us += clock_now_us() - start;
    probe->position.lsn = to;
    probe->open = false;
    probe->open_rows = 0;
    probe->waiting = 0;
    repl_acknowledge(probe->stream, to);
    return true;
}

/* --- messages --- */

static ApplyTable **find_table(Probe *probe, uint32_t oid) {
    for (size_t i = 0; i < probe->tables_count; i++)
        if (probe->tables[i]->batch.relation == oid)
            return &probe->tables[i];
    return NULL;
}

static bool on_relation(Probe *probe, const PgoRelation *relation, Error *err) {
    ApplyTable *table = NULL;
    ApplyTable **at = find_table(probe, relation->oid);

    if (!apply_batch(probe, err) || !apply_table_load(probe->dest, probe->arena, relation, false, &table, err))
        return false;
    if (at == NULL && probe->tables_count == TABLES_MAX)
        return error_set(err, REASON_INTERNAL, "too many tables");
    if (at == NULL)
        at = &probe->tables[probe->tables_count++];
    *at = table;
    return true;
}

static bool on_row(Probe *probe, const PgoMessage *message, Error *err) {
    ApplyTable **table = find_table(probe, message->row.relation);

    if (table == NULL)
        return error_set(err, REASON_INTERNAL, "a row of an unknown relation");
    return batch_add(probe->batch, &(*table)->batch, message->type, &message->row, err) &&
           (batch_changes(probe->batch) < probe->rows || apply_batch(probe, err));
}

static bool on_truncate(Probe *probe, const PgoTruncate *truncate, Error *err) {
    const ApplyTable **tables = arena_array(probe->message_arena, const ApplyTable *, truncate->relations_count);

    for (uint32_t i = 0; i < truncate->relations_count; i++) {
        ApplyTable **table = find_table(probe, truncate->relations[i]);

        if (table == NULL)
            return error_set(err, REASON_INTERNAL, "a TRUNCATE of an unknown relation");
        tables[i] = *table;
    }
    const ApplyTruncate all = {.tables = tables,
                               .count = truncate->relations_count,
                               .cascade = truncate->cascade,
                               .restart_identity = truncate->restart_identity};
    return apply_batch(probe, err) && begin(probe, err) && apply_truncate(probe->dest, &all, &probe->counts, err);
}

static bool on_message(Probe *probe, const PgoMessage *message, Error *err) {
    int type = (int)message->type;

    if (type == PGO_RELATION)
        return on_relation(probe, &message->relation, err);
    if (type == PGO_INSERT || type == PGO_UPDATE || type == PGO_DELETE)
        return on_row(probe, message, err);
    if (type == PGO_TRUNCATE)
        return on_truncate(probe, &message->truncate, err);
    if (type != PGO_COMMIT)
        return true;
    probe->waiting++;
    size_t rows = probe->open_rows + batch_changes(probe->batch);
    return rows < probe->rows || commit(probe, message->transaction.end_lsn, err);
}

static bool follow(Probe *probe, Error *err) {
    for (;;) {
        ReplData data = {0};
        PgoMessage message;

        if (repl_receive(probe->stream, clock_now_us() + 60 * USEC_PER_SEC, &data, err) != REPL_DATA)
            return err->message[0] == '\0' ? error_set(err, REASON_INTERNAL, "nothing came") : false;
        if (data.is_keepalive) {
            if (data.end_lsn >= probe->until)
                return commit(probe, MAX(data.end_lsn, probe->position.lsn), err);
            continue;
        }
        arena_reset(probe->message_arena);
        if (!pgo_decode(probe->message_arena, data.bytes, data.len, false, &message, err) ||
            !on_message(probe, &message, err))
            return false;
    }
}

/* --- start and end --- */

static bool open_all(Probe *probe, const char *job_id, Error *err) {
    const LedgerIdentity identity = {
        .job_id = job_id, .source_system = "1", .source_database = "probe", .fingerprint = "", .owner = ""};
    const char *const slot[] = {probe->slot};
    char *text = NULL;
    Lsn start = 0;
    bool found = false, replica = false;

    return stop_init(&probe->stop, err) && db_open(&probe->source_target, "probe", &probe->stop, &probe->source, err) &&
           db_open(&probe->dest_target, "probe", &probe->stop, &probe->dest, err) &&
           db_query_value(probe->source, probe->arena,
                          "SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1,
                          slot, &text, err) &&
           lsn_parse(text, &start) &&
           (probe->until != 0 || (db_query_value(probe->source, probe->arena,
                                                 "SELECT pg_catalog.pg_current_wal_flush_lsn()", 0, NULL, &text, err) &&
                                  lsn_parse(text, &probe->until))) &&
           ledger_take(probe->dest, probe->arena, &identity, &probe->ledger, err) &&
           position_init(probe->dest, &probe->ledger, 0, start, err) &&
           position_read(probe->dest, 0, &found, &probe->position, err) &&
           apply_session_setup(probe->dest, &replica, err) &&
           repl_stream_open(&probe->source_target,
                            &(ReplStart){.slot = probe->slot,
                                         .publications = probe->publications,
                                         .lsn = probe->position.lsn,
                                         .feedback_interval_us = USEC_PER_SEC},
                            &probe->stop, &probe->stream, err);
}

/* CPU seconds of a process of this machine, 0 when it cannot be seen. */
static double cpu_of(Arena *arena, int pid) {
    char text[1024] = "";
    unsigned long user = 0, system = 0;
    FILE *file = fopen(arena_printf(arena, "/proc/%d/stat", pid), "re");

    if (file == NULL)
        return 0;
    size_t len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    const char *end = strrchr(text, ')');
    if (end == NULL || sscanf(end, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void say_counts(const Probe *probe, int64_t wall_us) {
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    int64_t cpu = (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * USEC_PER_SEC + usage.ru_utime.tv_usec +
                  usage.ru_stime.tv_usec;
    const ApplyCounts *c = &probe->counts;
    say(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "inserts", (json_int_t)c->inserts, "updates",
                  (json_int_t)c->updates, "deletes", (json_int_t)c->deletes, "truncates", (json_int_t)c->truncates,
                  "serial", (json_int_t)c->serial_parts, "batches", (json_int_t)probe->batches, "wall",
                  (double)wall_us / 1e6, "apply", (double)probe->apply_us / 1e6, "cpu", (double)cpu / 1e6, "backend",
                  cpu_of(probe->arena, db_backend_pid(probe->dest))));
}

static bool run(Probe *probe, const char *job_id, Error *err) {
    if (!open_all(probe, job_id, err))
        return false;
    int64_t start = clock_now_us();
    if (!follow(probe, err))
        return false;
    say_counts(probe, clock_now_us() - start);
    return true;
}

int main(int argc, char **argv) {
    if (argc < 7)
        return 64;
    Error err = {0};
    Probe probe = {
        .arena = arena_new(),
        .message_arena = arena_new(),
        .source_target = {.side = DB_SOURCE, .conninfo = argv[1], .job_id = argv[3]},
        .dest_target = {.side = DB_DEST, .conninfo = argv[2], .job_id = argv[3]},
        .slot = argv[4],
        .rows = strtoul(argv[6], NULL, 10),
        .batch = batch_new(BATCH_MAX),
    };
    char *rest = argv[5];

    for (size_t i = 0; i < PUBLICATIONS_MAX && rest != NULL; i++)
        probe.publications[i] = strsep(&rest, ",");
    log_init(STDERR_FILENO, LOG_INFO);
    bool good = (argc < 8 || lsn_parse(argv[7], &probe.until)) && run(&probe, argv[3], &err);
    if (!good)
        say_error(&err);
    repl_stream_closep(&probe.stream);
    db_close(probe.source);
    db_close(probe.dest);
    batch_freep(&probe.batch);
    stop_fini(&probe.stop);
    arena_free(probe.message_arena);
    arena_free(probe.arena);
    return good ? 0 : 1;
}
