/*
 * From nothing to an instance.
 *
 * One table of steps; each sees for itself whether it was done. So a create that died is begun again from the top:
 *
 *   place      folders: made when they are not there. The journal begins here, before anything is made.
 *   programs, machine: noted, nothing is made.
 *   tls        there as a whole or not at all (tls.c).
 *   port       noted before it is used; another one when it is taken by then.
 *   data       noted as not made, then made; thrown away where it is not noted as made (data.c).
 *   marker     of LOAD, before the settings of LOAD. A stale one is removed: data that was just made is durable, or is
 *              of LOAD (initdb --no-sync only then).
 *   start      settings and server; one that was started by a create that died is taken as it is.
 *   password   the spec's, or the one of this call: an earlier one that was made up and not told is replaced.
 *   created    from now on it is reconfigured, never made, unless it is DAMAGED.
 *
 * DAMAGED: "made" and "created" are struck first, so that what is left to do is the same as above; port and
 * certificate are noted or there, and stay.
 */
#include "provision/local/internal.h"
#include "provision/local/local.h"
#include "provision/local/port.h"
#include "provision/local/settings.h"

#include <string.h>

enum { PORT_TRIES = 3 };

static bool is_created(const Local *local) {
    return provision_journal_get(local->journal, "created") != NULL;
}

static bool note_programs(Local *local, Error *err) {
    json_t *noted = json_pack("{s:s, s:i}", "folder", local->bindir, "major", local->spec->major);

    return provision_journal_note(local->journal, "programs", noted, err);
}

static bool note_machine(Local *local, Error *err) {
    if (provision_journal_get(local->journal, "machine") != NULL)
        return true;
    Machine machine = settings_machine(local->folder);
    return provision_journal_note(local->journal, "machine", json_pack("{s:I}", "disk_mb", (json_int_t)machine.disk_mb),
                                  err);
}

static bool assign_port(Local *local, Error *err) {
    return server_is_running(local, &local->primary, NULL) || port_assign(local, &local->primary, err);
}

static bool set_marker(Local *local, Error *err) {
    return local->spec->mode == PROVISION_LOAD ? mode_set_mark(local, err) : mode_remove_mark(local, err);
}

/* Somebody may have taken the port since it was seen to be free. One whose clients know it already keeps it. */
static bool start(Local *local, Error *err) {
    for (int tries = 0; !mode_settle(local, err); tries++) {
        bool taken = err->reason == REASON_PROVISION_FAILED && !port_is_free(local->primary.port) &&
                     !server_is_running(local, &local->primary, NULL);
        if (!taken || tries == PORT_TRIES)
            return false;
        Error ignored;
        local_tell(local, "%s", err->message);
        if (!port_assign(local, &local->primary, &ignored))
            return false;
    }
    return true;
}

static bool set_password(Local *local, Error *err) {
    if (local->spec->password == NULL && local->made_up == NULL &&
        (local->made_up = data_new_password(local->arena)) == NULL)
        return error_errno(err, REASON_SYSTEM, "cannot make up a password");
    return session_password(local, err);
}

static bool note_created(Local *local, Error *err) {
    local_tell(local, "instance %s: created, at port %d", local->id, local->primary.port);
    return provision_journal_note(local->journal, "created", json_object(), err);
}

static const LocalStep steps[] = {
    {"programs", note_programs}, {"place", place_make},     {"machine", note_machine}, {"tls", tls_make},
    {"port", assign_port},       {"data", data_make},       {"marker", set_marker},    {"start", start},
    {"password", set_password},  {"created", note_created},
};

/* The data goes first: while it is not noted as made, nothing that is there is taken for an instance. */
static bool forget_damaged(Local *local, Error *err) {
    json_t *details = json_pack("{s:i, s:b}", "port", local->primary.port, "made", 0);

    local_tell(local, "instance %s: went down in load mode, and is made anew", local->id);
    return provision_journal_note(local->journal, "server", details, err) &&
           provision_journal_strike(local->journal, "created", err) &&
           provision_journal_strike(local->journal, "applied", err);
}

static bool refuse_removed(const Local *local, Error *err) {
    error_set(err, REASON_PROVISION_REFUSED, "instance %s is being removed", local->id);
    return error_remedy(err, "let its removal come to an end, and make one of another id");
}

bool local_open_checked(ProvisionCall *call, const ProvisionSpec *spec, Local *ret_local, Error *err) {
    Local local;

    if (!local_open(call, spec->id, spec, &local, err) || !check_spec(&local, err))
        return false;
    if (provision_journal_get(local.journal, "removing") != NULL)
        return refuse_removed(&local, err);
    *ret_local = local;
    return true;
}

bool local_require_created(const Local *local, Error *err) {
    if (is_created(local))
        return true;
    error_set(err, REASON_PROVISION_FAILED, "instance %s was not made to its end", local->id);
    return error_remedy(err, "create it again, which goes on from where it is");
}

bool local_create(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err) {
    LoadMark mark = MARK_NONE;
    bool damaged = false;
    Local local;

    if (!local_open_checked(call, spec, &local, err))
        return false;
    if (is_created(&local) && !mode_is_damaged(&local, &mark, &damaged, err))
        return false;
    if (damaged && !forget_damaged(&local, err))
        return false;
    if (is_created(&local) ? !mode_converge(&local, err) : !local_steps(&local, "create", steps, COUNT_OF(steps), err))
        return false;
    return local_status(&local, ret_status, err);
}

bool local_reconfigure(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err) {
    Local local;

    return local_open_checked(call, spec, &local, err) && local_require_created(&local, err) &&
           mode_converge(&local, err) && local_status(&local, ret_status, err);
}
