/*
 * The standby of a primary that is to be kept available: a streaming copy beside it, with a slot, a port, a log and a
 * folder of its own.
 *
 * Noted as {"port", "made", "hash"} under "standby"; hash: of the settings that it has, which are the primary's. What
 * is there without "made" is thrown away and copied anew; the slot is made before the copy, and one that is there is
 * used, so that the primary keeps what the copy needs. A standby that was away until its slot was given up
 * (max_slot_wal_keep_size) can never catch up: it is copied anew, too.
 *
 * It comes to the primary through the socket, as the user that both run as: no password is written down.
 */
#include "common/failpoint.h"
#include "pg/query.h"
#include "provision/local/internal.h"
#include "provision/local/port.h"
#include "provision/local/tree.h"

#include <string.h>

#define SLOT "pgcrane_standby"

static bool is_made(const Local *local) {
    return json_get_bool(provision_journal_get(local->journal, "standby"), "made", false);
}

static const char *applied_hash(const Local *local) {
    return json_get_string(provision_journal_get(local->journal, "applied"), "hash", "");
}

static bool note_made(Local *local, bool made, Error *err) {
    json_t *details =
        json_pack("{s:i, s:b, s:s}", "port", local->standby.port, "made", (int)made, "hash", applied_hash(local));

    return provision_journal_note(local->journal, "standby", details, err);
}

/* ---- The slot ---- */

/* "lost": what the standby would need is gone. "none": there is no slot. */
static bool slot_state(const Local *local, DbConn *conn, char **ret_state, Error *err) {
    return db_query_value(conn, local->arena,
                          "SELECT coalesce((SELECT coalesce(wal_status, 'lost') FROM pg_catalog.pg_replication_slots "
                          "WHERE slot_name = '" SLOT "'), 'none')",
                          0, NULL, ret_state, err);
}

static bool make_slot(Local *local, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    char *state = NULL;

    if (!session_open(local, &local->primary, &conn, err) || !slot_state(local, conn, &state, err))
        return false;
    if (strcmp(state, "lost") == 0 && !db_exec(conn, "SELECT pg_catalog.pg_drop_replication_slot('" SLOT "')", err))
        return false;
    if (strcmp(state, "lost") != 0 && strcmp(state, "none") != 0)
        return true;
    return db_exec(conn, "SELECT pg_catalog.pg_create_physical_replication_slot('" SLOT "', true)", err);
}

static bool drop_slot(const Local *local, Error *err) {
    return session_exec(local,
                        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots "
                        "WHERE slot_name = '" SLOT "'",
                        err);
}

static bool is_lost(const Local *local, bool *ret_lost, Error *err) {
    CLEANUP(db_closep) DbConn *conn = NULL;
    char *state = NULL;

    if (!session_open(local, &local->primary, &conn, err) || !slot_state(local, conn, &state, err))
        return false;
    *ret_lost = strcmp(state, "lost") == 0 || strcmp(state, "none") == 0;
    return true;
}

/* ---- The copy ---- */

static bool empty_place(Local *local, Error *err) {
    return port_assign(local, &local->standby, err) && note_made(local, false, err) &&
           server_end(local, &local->standby, err) && tree_remove(local->standby.data, err) &&
           place_make_owned(local, local->standby.data, err) && place_make_owned(local, local->standby.log, err) &&
           place_make_owned(local, local->standby.run, err);
}

/* Before there is a slot, which keeps WAL; one that an earlier try has left goes. */
static bool find_room(Local *local, Error *err) {
    Error why;

    if (server_check_room(local, err))
        return true;
    if (!drop_slot(local, &why))
        local_tell(local, "instance %s: the standby's slot stays: %s", local->id, why.message);
    return false;
}

static bool copy(Local *local, Error *err) {
    local_tell(local, "instance %s: the standby is copied", local->id);
    return server_copy(local, local->standby.data, SLOT, err);
}

static bool include(Local *local, Error *err) {
    const char *file = arena_printf(local->arena, "%s/postgresql.conf", local->standby.data);

    return local_append(local, file, arena_printf(local->arena, "include '%s/standby.conf'\n", local->conf), err);
}

static bool finish(Local *local, Error *err) {
    return note_made(local, true, err);
}

static const LocalStep steps[] = {
    {"place", empty_place}, {"room", find_room},  {"slot", make_slot}, {"conf", conf_write_standby},
    {"copy", copy},         {"include", include}, {"made", finish}};

bool standby_keep(Local *local, Error *err) {
    bool lost = false;

    if (is_made(local) && !is_lost(local, &lost, err))
        return false;
    if ((!is_made(local) || lost) && !local_steps(local, "standby", steps, COUNT_OF(steps), err))
        return error_wrap(err, "the standby of instance %s", local->id);
    const char *hash = json_get_string(provision_journal_get(local->journal, "standby"), "hash", "");
    if (strcmp(hash, applied_hash(local)) == 0)
        return server_start(local, &local->standby, err);
    return server_restart(local, &local->standby, err) && note_made(local, true, err);
}

bool standby_remove(Local *local, Error *err) {
    if (provision_journal_get(local->journal, "standby") == NULL)
        return true;
    local_tell(local, "instance %s: the standby is removed", local->id);
    return server_end(local, &local->standby, err) && drop_slot(local, err) && tree_remove(local->standby.data, err) &&
           tree_remove(local->standby.log, err) && tree_remove(local->standby.run, err) &&
           provision_journal_strike(local->journal, "standby", err);
}
