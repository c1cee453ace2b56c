/*
 * Passwords that the source keeps as MD5 hashes. The verifier arrives as it is, but a server takes it only by lines of
 * pg_hba.conf that say md5 or password: by a line that says scram-sha-256 nobody logs in with it (documentation,
 * "Password Authentication"). Nothing fails before the application comes, which is after the promote: so it is told
 * before anything begins, as long as the source is there to set the passwords anew. A verifier is never shown.
 */
#include "engine/instance/prepare.h"
#include "pg/quote.h"

#include <string.h>

/* Whether any address is asked for SCRAM. *ret_asks stays true when nobody but a superuser may know: managed servers
 * ask for it more often than not. */
static bool asks_for_scram(DbConn *dest, bool *ret_asks, Error *err) {
    CLEANUP(db_result_freep) DbResult *may = NULL;
    CLEANUP(db_result_freep) DbResult *row = NULL;

    *ret_asks = true;
    if (!db_query(dest,
                  "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')"
                  " AND pg_catalog.has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE')",
                  0, NULL, &may, err))
        return error_wrap(err, "asking whether pg_hba.conf of the destination can be read");
    if (!db_bool(may, 0, 0))
        return true;
    if (db_query(dest,
                 "SELECT EXISTS (SELECT FROM pg_catalog.pg_hba_file_rules h WHERE h.type <> 'local'"
                 " AND h.auth_method = 'scram-sha-256')",
                 0, NULL, &row, err))
        *ret_asks = db_bool(row, 0, 0);
    else if (!prepare_is_refusal(dest, err)) /* a file that cannot be opened is no reason to stop */
        return error_wrap(err, "reading pg_hba.conf of the destination");
    return true;
}

typedef struct Md5Look {
    Verifiers source, dest;
    InstanceRoleVec source_roles, dest_roles;
} Md5Look;

static void look_fini(Md5Look *look) {
    verifiers_fini(&look->source);
    verifiers_fini(&look->dest);
}

/* A role that is there keeps its own password: it is one of these only when an earlier run brought it. */
static bool arrives_as_md5(const Md5Look *look, const InstanceRole *role) {
    const char *verifier = verifier_of(&look->source, role->name);

    if (verifier == NULL || strncmp(verifier, "md5", 3) != 0 || !role->flags[ROLE_LOGIN] || role->theirs)
        return false;
    if (role_find(&look->dest_roles, role->name) == NULL)
        return true;
    const char *there = verifier_of(&look->dest, role->name);
    return !role->bootstrap && there != NULL && strcmp(there, verifier) == 0;
}

static void note_roles(const Md5Look *look, Notes *notes) {
    const char *before =
        "-- in psql at the source, before the migration; or let pg_hba.conf say md5: an instance made by"
        " pgcrane does with the flag password_encryption=md5\n"
        "SET password_encryption = 'scram-sha-256';\n";

    for (size_t i = 0; i < look->source_roles.len; i++) {
        const InstanceRole *role = &look->source_roles.items[i];

        if (!arrives_as_md5(look, role))
            continue;
        const char *name = sql_ident(notes->arena, role->name);
        note_add(notes, NOTE_ROLE_MD5, name, arena_printf(notes->arena, "%s\\password %s", before, name));
        before = "";
    }
}

bool instance_check_passwords(Arena *arena, const InstanceInput *input, FindingVec *findings, Error *err) {
    CLEANUP(look_fini) Md5Look look = {0};
    Notes notes = {.arena = arena};
    bool asks = false;

    if (!verifiers_read(input->source, &look.source, err))
        return false;
    if (!look.source.readable)
        return true;
    if (!asks_for_scram(input->dest, &asks, err) || !verifiers_read(input->dest, &look.dest, err) ||
        !roles_read(arena, input->source, &look.source_roles, err) ||
        !roles_read(arena, input->dest, &look.dest_roles, err))
        return false;
    if (asks)
        note_roles(&look, &notes);
    notes_to_findings(&notes, findings);
    return true;
}
