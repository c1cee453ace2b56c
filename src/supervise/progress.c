/*
 * What a job shows of its databases' progress.
 *
 * NOTES
 * The last words of a session that has failed are of a time that is over: nothing of them that is about now is shown.
 * But its slot stays, and what that holds on the source grows with whatever is written there, of whichever database:
 * they share the WAL. So a session that lives tells by the source's position how much has come to it since.
 */
#include "supervise/progress.h"

#include "common/clock.h"
#include "common/lsn.h"

#include <stdlib.h>
#include <string.h>

typedef enum Kind { SUM, RATE, MOST, LEAST } Kind;
static const int64_t switch_us = 1 * USEC_PER_SEC; /* what a promote takes without any lag (bench/run-promote) */

/* -1 = this seat does not know. */
typedef struct Numbers {
#define X(key, kind, meaning) double key;
    PROGRESS_FIELDS(X)
#undef X
} Numbers;

enum { FIELDS = sizeof(Numbers) / sizeof(double) };

static const struct {
    const char *key;
    Kind kind;
} fields[FIELDS] = {
#define X(key, kind, meaning) {#key, kind},
    PROGRESS_FIELDS(X)
#undef X
};

typedef union Row {
    Numbers numbers;
    double all[FIELDS];
} Row;

static double known(int64_t number) {
    return number < 0 ? -1 : (double)number;
}

static double seconds(int64_t us) {
    return us < 0 ? -1 : (double)us / (double)USEC_PER_SEC;
}

static void fill_copy(Numbers *numbers, const Progress *progress) {
    numbers->bytesDone = known(progress->bytes_done);
    numbers->bytesTotal = known(progress->bytes_total);
    numbers->rowsDone = known(progress->rows_done);
    numbers->tablesDone = known(progress->tables_done);
    numbers->tablesTotal = known(progress->tables_total);
    numbers->indexesDone = known(progress->indexes_done);
    numbers->indexesTotal = known(progress->indexes_total);
    numbers->bytesPerSecond = progress->bytes_per_second;
    numbers->etaSeconds = seconds(progress->eta_us);
}

static void fill_following(Numbers *numbers, const CdcProgress *cdc) {
    if (cdc->state == CDC_NONE)
        return;
    numbers->bytesPerSecond = -1;
    numbers->etaSeconds = seconds(cdc->eta_us);
    numbers->lagBytes = known(cdc->lag_bytes);
    numbers->lagSeconds = seconds(cdc->lag_us);
    numbers->retainedBytes = known(cdc->retained_bytes);
    numbers->retainedLimitBytes = known(cdc->limit_bytes);
    numbers->headroomSeconds = known(cdc->limit_seconds);
    numbers->catalogAge = known(cdc->catalog_age);
    numbers->promoteSeconds = cdc->lag_us < 0 ? -1 : seconds(cdc->lag_us + switch_us);
    numbers->insertsPerSecond = cdc->inserts_rate;
    numbers->updatesPerSecond = cdc->updates_rate;
    numbers->deletesPerSecond = cdc->deletes_rate;
}

static Lsn source_position(const SeatPicture *picture) {
    const char *text = picture->has_status ? picture->status.progress.cdc.source_lsn : NULL;
    Lsn lsn = 0;

    return text != NULL && lsn_parse(text, &lsn) ? lsn : 0;
}

/* The newest that a session which lives has seen; 0 = none knows. */
static Lsn source_now(const SeatPicture *pictures, size_t count) {
    Lsn newest = 0;

    for (size_t at = 0; at < count; at++)
        if (seat_is_alive(pictures[at].seat.state))
            newest = MAX(newest, source_position(&pictures[at]));
    return newest;
}

static void leave_what_is_over(Numbers *numbers, const SeatPicture *picture, Lsn now) {
    const Lsn then = source_position(picture);

    numbers->bytesPerSecond = numbers->etaSeconds = numbers->promoteSeconds = -1;
    numbers->lagBytes = numbers->lagSeconds = numbers->headroomSeconds = -1;
    numbers->insertsPerSecond = numbers->updatesPerSecond = numbers->deletesPerSecond = -1;
    if (numbers->retainedBytes >= 0 && then > 0 && now > then)
        numbers->retainedBytes += (double)(now - then);
}

/* Whose slot is gone, as its error says, or of whose slot nobody can know. */
static bool lacks_slot(const SeatPicture *picture) {
    static const ErrorReason reasons[] = {REASON_SLOT_LOST, REASON_RETAINED_LIMIT, REASON_NO_DATABASE};

    for (size_t at = 0; picture->has_error && at < COUNT_OF(reasons); at++)
        if (picture->error.reason == reasons[at])
            return true;
    return false;
}

static Row row_of(const SeatPicture *picture, Lsn now) {
    Row row;

    for (size_t at = 0; at < FIELDS; at++)
        row.all[at] = -1;
    if (picture->has_status && picture->status.has_progress) {
        fill_copy(&row.numbers, &picture->status.progress);
        fill_following(&row.numbers, &picture->status.progress.cdc);
    }
    if (seat_has_failed(picture))
        leave_what_is_over(&row.numbers, picture, now);
    if (seat_has_failed(picture) && lacks_slot(picture))
        row.numbers.retainedBytes = -1;
    const json_t *promoted = json_get_object(picture->said, "promoted");
    if (json_get_bool(promoted, "ok", false))
        row.numbers.promoteSeconds = seconds(json_get_int(promoted, "outage_us", -1));
    return row;
}

static double together(Kind kind, double before, double more) {
    switch (kind) {
    case MOST:
        return MAX(before, more);
    case LEAST:
        return MIN(before, more);
    case SUM:
    case RATE:
    default:
        return before + more;
    }
}

static void add(Row *sum, const Row *row) {
    for (size_t at = 0; at < FIELDS; at++)
        if (row->all[at] >= 0)
            sum->all[at] = sum->all[at] < 0 ? row->all[at] : together(fields[at].kind, sum->all[at], row->all[at]);
}

/* ---- Tables ---- */

typedef struct Busy {
    const char *database;
    const CdcTable *table;
} Busy;
typedef VEC(Busy) BusyVec;

static int64_t work_of(const CdcTable *table) {
    return table->inserts + table->updates + table->deletes + table->truncates;
}

static int busiest_first(const void *left, const void *right) {
    const Busy *a = left, *b = right;
    int64_t one = work_of(a->table), other = work_of(b->table);

    return one < other ? 1 : one > other ? -1 : strcmp(a->table->name, b->table->name);
}

static json_t *table_to_json(const Busy *busy) {
    const CdcTable *table = busy->table;

    return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "database", json_string_lossy(busy->database), "name",
                     json_string_lossy(table->name), "inserts", (json_int_t)table->inserts, "updates",
                     (json_int_t)table->updates, "deletes", (json_int_t)table->deletes, "truncates",
                     (json_int_t)table->truncates);
}

static json_t *tables_of(Arena *arena, const SeatPicture *pictures, size_t count) {
    json_t *list = json_array();
    BusyVec all = {0};

    for (size_t at = 0; at < count; at++) {
        const CdcTableVec *tables = &pictures[at].status.progress.cdc.tables;

        for (size_t of = 0; pictures[at].has_status && of < tables->len; of++)
            vec_push(arena, &all, ((Busy){.database = pictures[at].database, .table = &tables->items[of]}));
    }
    if (all.len > 0)
        qsort(all.items, all.len, sizeof(all.items[0]), busiest_first);
    for (size_t at = 0; at < all.len && at < PROGRESS_TABLES_MAX; at++)
        (void)json_array_append_new(list, table_to_json(&all.items[at]));
    return list;
}

/* A session that came no further than to its checks has none, unless one before had. */
static bool has_slot(const SeatPicture *picture) {
    const CdcProgress *cdc = &picture->status.progress.cdc;

    return picture->has_followed || cdc->state != CDC_NONE || cdc->retained_bytes > 0;
}

static bool is_of_no_database(const SeatPicture *picture) {
    return picture->has_error && picture->error.reason == REASON_NO_DATABASE;
}

/* That it is measured no more is to be known: a source whose disk is full stops. Of a source database that was renamed
 * the slot stays, of one that was dropped it cannot. */
static const char *slot_text(Arena *arena, const SeatPicture *picture, Lsn now) {
    const JobStatus *status = &picture->status;
    const char *id = json_get_string(json_get_object(picture->said, "migration"), "job_id", "");

    if (!picture->has_status || !status->has_progress || status->progress.cdc.retained_bytes < 0 || !has_slot(picture))
        return "";
    if (is_of_no_database(picture))
        return arena_printf(arena,
                            "; its slot%s%s still holds WAL on the source, unless its database was dropped there",
                            id[0] != '\0' ? " pgcrane_" : "", id);
    if (lacks_slot(picture))
        return "";
    return arena_printf(arena, "; its slot%s%s still holds WAL on the source%s%s", id[0] != '\0' ? " pgcrane_" : "", id,
                        now > 0 && source_position(picture) > 0 ? ", reckoned from what the others see since "
                                                                : ", not measured since ",
                        status->updated_at);
}

/* The first that has: somebody has to do something. NULL = none. */
static const char *failed_text(Arena *arena, const SeatPicture *pictures, size_t count) {
    const char *text = NULL;
    size_t more = 0;

    for (size_t at = 0; at < count; at++) {
        if (!seat_has_failed(&pictures[at]))
            continue;
        if (text != NULL)
            more++;
        else
            text = arena_printf(arena, "%s%s", seat_failure_text(arena, &pictures[at]),
                                slot_text(arena, &pictures[at], source_now(pictures, count)));
    }
    return more > 0 ? arena_printf(arena, "%s; and so have %zu more", text, more) : text;
}

/* What is left on the source of one that was taken out holds WAL there, whatever the job is about. NULL = none. */
static const char *removal_text(Arena *arena, const SeatPicture *pictures, size_t count) {
    for (size_t at = 0; at < count; at++)
        if (seat_removal_has_failed(&pictures[at]))
            return arena_printf(arena,
                                "database %s was taken out, and what was made for it could not be removed; that is"
                                " tried again by itself: %s%s%s",
                                pictures[at].database, pictures[at].error.message,
                                pictures[at].error.remedy[0] != '\0' ? "; " : "", pictures[at].error.remedy);
    for (size_t at = 0; at < count; at++)
        if (pictures[at].seat.removing && seat_is_alive(pictures[at].seat.state))
            return arena_printf(arena, "database %s was taken out: what was made for it is being removed",
                                pictures[at].database);
    return NULL;
}

/* The first that is in the way, and of which database. */
const char *progress_waiting_for(Arena *arena, const SeatPicture *pictures, size_t count) {
    const char *failed = failed_text(arena, pictures, count);

    if (failed != NULL)
        return failed;
    const char *removal = removal_text(arena, pictures, count);
    if (removal != NULL)
        return removal;
    for (size_t at = 0; at < count; at++) {
        const SeatPicture *picture = &pictures[at];
        const CdcProgress *cdc = &picture->status.progress.cdc;

        if (picture->seat.state == SEAT_IDLE && picture->seat.due != DUE_NOTHING)
            return arena_printf(arena, "database %s waits for its turn", picture->database);
        if (!picture->has_status || !seat_is_alive(picture->seat.state))
            continue;
        if (cdc->state == CDC_RETRYING || cdc->state == CDC_COPYING_AGAIN)
            return arena_printf(arena, "database %s: %s", picture->database, cdc_state_help(cdc->state));
        if (cdc->promote_step != NULL && cdc->promote_step[0] != '\0')
            return arena_printf(arena, "database %s: %s", picture->database, cdc->promote_step);
    }
    return "";
}

static json_t *number(double value) {
    return value == (double)(int64_t)value ? json_integer((json_int_t)value) : json_real(value);
}

json_t *progress_of_job(Arena *arena, const SeatPicture *pictures, size_t count) {
    json_t *progress = json_object();
    Row sum;

    for (size_t at = 0; at < FIELDS; at++)
        sum.all[at] = -1;
    for (size_t at = 0; at < count; at++) {
        const Row row = row_of(&pictures[at], source_now(pictures, count));
        add(&sum, &row);
    }
    for (size_t at = 0; at < FIELDS; at++)
        if (sum.all[at] >= 0)
            (void)json_object_set_new(progress, fields[at].key, number(sum.all[at]));
    (void)json_object_set_new(progress, "tables", tables_of(arena, pictures, count));
    (void)json_object_set_new(progress, "waitingFor", json_string_lossy(progress_waiting_for(arena, pictures, count)));
    return progress;
}
