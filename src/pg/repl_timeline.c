/* System identifier, timeline and the history of timelines, by a replication connection. */
#include "pg/repl_timeline.h"

#include "common/vec.h"
#include "pg/repl_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A history has a line per fail-over. */
enum { SWITCHES_MAX = 10000 };

typedef VEC(ReplSwitch) SwitchVec;

/* "TIMELINE <tab> LSN <tab> reason": the reason is for people. */
static bool parse_line(Arena *arena, const char *line, ReplSwitch *ret_switch) {
    char *end = NULL;

    errno = 0;
    long long timeline = strtoll(line, &end, 10);
    if (end == line || errno != 0 || timeline <= 0 || timeline > UINT32_MAX)
        return false;
    end += strspn(end, " \t");
    ReplSwitch found = {.timeline = timeline};
    if (!lsn_parse(arena_strndup(arena, end, strcspn(end, " \t\r")), &found.lsn))
        return false;
    *ret_switch = found;
    return true;
}

bool repl_history_parse(Arena *arena, const char *text, ReplSwitch **ret_switches, size_t *ret_count, Error *err) {
    SwitchVec switches = {0};

    while (*text != '\0') {
        const char *line = arena_strndup(arena, text, strcspn(text, "\n"));
        const char *first = line + strspn(line, " \t\r");
        ReplSwitch found;

        text += strlen(line);
        text += *text == '\n';
        if (*first == '\0' || *first == '#')
            continue;
        if (switches.len == SWITCHES_MAX || !parse_line(arena, first, &found))
            return error_set(err, REASON_WIRE_BAD, "the source's timeline history has a line that is none: %.80s",
                             first);
        vec_push(arena, &switches, found);
    }
    *ret_switches = switches.items;
    *ret_count = switches.len;
    return true;
}

static bool read_history(DbConn *conn, Arena *arena, ReplSystem *system, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    ReplSwitch *switches = NULL;

    if (system->timeline <= 1)
        return true; /* the first one has no file */
    if (!db_query_last(conn, arena_printf(arena, "TIMELINE_HISTORY %lld", (long long)system->timeline), &rows, err))
        return error_wrap(err, "reading the history of the source's timeline %lld", (long long)system->timeline);
    if (db_rows(rows) != 1)
        return error_set(err, REASON_WIRE_BAD, "the source gave no history of its timeline");
    if (!repl_history_parse(arena, db_text(rows, 0, 1), &switches, &system->switches_count, err))
        return false;
    system->switches = switches;
    return true;
}

bool repl_identify(const DbTarget *source, const Stop *stop, Arena *arena, ReplSystem *ret_system, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    CLEANUP(db_result_freep) DbResult *identity = NULL;
    CLEANUP(db_result_freep) DbResult *recovery = NULL;
    ReplSystem system = {0};

    if (!repl_connect(source, "timeline", stop, &conn, err))
        return false;
    if (!db_query_last(conn, "SELECT pg_catalog.pg_is_in_recovery()", &recovery, err) ||
        !db_query_last(conn, "IDENTIFY_SYSTEM", &identity, err))
        return error_wrap(err, "asking the source who it is");
    if (db_rows(recovery) != 1 || db_rows(identity) != 1 || !lsn_parse(db_text(identity, 0, 2), &system.end))
        return error_set(err, REASON_WIRE_BAD, "the source does not say who it is");
    system.identifier = arena_strdup(arena, db_text(identity, 0, 0));
    system.timeline = db_int64(identity, 0, 1);
    system.in_recovery = db_bool(recovery, 0, 0);
    if (!read_history(conn, arena, &system, err))
        return false;
    *ret_system = system;
    return true;
}
