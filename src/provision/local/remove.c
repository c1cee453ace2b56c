/*
 * The end of an instance.
 *
 * That it is being removed is noted first, and the journal goes last: whatever happens in between, the next remove()
 * finds the same list and goes through it again. What is gone already is no error. Only names that pgcrane gives are
 * removed, in a folder that has its journal; a folder that holds something else stays, and is told.
 */
#include "provision/local/internal.h"
#include "provision/local/local.h"
#include "provision/local/tree.h"

#include <string.h>

static bool note_removing(Local *local, Error *err) {
    Error none;

    local_tell(local, "instance %s: is removed", local->id);
    if (provision_journal_get(local->journal, "programs") != NULL && !programs_known(local, &none))
        local_tell(local, "instance %s: %s", local->id, none.message);
    return provision_journal_note(local->journal, "removing", json_object(), err);
}

static bool end_standby(Local *local, Error *err) {
    return server_end(local, &local->standby, err);
}

static bool end_server(Local *local, Error *err) {
    return server_end(local, &local->primary, err);
}

static bool remove_standby(Local *local, Error *err) {
    return tree_remove(local->standby.data, err) && tree_remove(local->standby.log, err) &&
           tree_remove(local->standby.run, err);
}

static bool remove_data(Local *local, Error *err) {
    return tree_remove(local->primary.data, err);
}

static bool remove_backups(Local *local, Error *err) {
    return tree_remove(local->backups, err);
}

static bool remove_rest(Local *local, Error *err) {
    static const char *const certificates[] = {"", ".new", ".next", ".next.new"};

    for (size_t at = 0; at < COUNT_OF(certificates); at++)
        if (!tree_remove(arena_printf(local->arena, "%s%s", local->tls, certificates[at]), err))
            return false;
    return tree_remove(local->primary.log, err) && tree_remove(local->primary.run, err) &&
           tree_remove(local->conf, err) &&
           place_remove_file(arena_printf(local->arena, "%s.tmp", local->marker), err) && mode_remove_mark(local, err);
}

static bool remove_journal(Local *local, Error *err) {
    return provision_journal_end(local->journal, err);
}

static const LocalStep steps[] = {
    {"note", note_removing}, {"standby", end_standby},    {"server", end_server}, {"standby_data", remove_standby},
    {"data", remove_data},   {"backups", remove_backups}, {"rest", remove_rest},  {"journal", remove_journal},
};

bool local_remove(ProvisionCall *call, const char *id, Error *err) {
    Local local;

    if (!provision_journal_exists(call->journal))
        return !place_exists(provision_journal_folder(call->journal)) || provision_journal_end(call->journal, err);
    return local_open(call, id, NULL, &local, err) && local_steps(&local, "remove", steps, COUNT_OF(steps), err);
}
