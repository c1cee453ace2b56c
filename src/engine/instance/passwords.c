/*
 * Verifiers of passwords, for the roles that this run made: the source's, or where those cannot be read, and it was
 * asked for, those of new passwords.
 *
 * New passwords come from a seed that whoever gives them out keeps (secrets/new_passwords.h), so a run that dies leaves
 * none behind. Which roles have one is told before COMMIT. Killed between the two, the roles do not exist, and the next
 * run makes them and tells the same; killed behind COMMIT, it was told. Only a machine that dies in that instant, with
 * the session that was told, leaves roles whose passwords nobody is told of: \password, by whoever may.
 *
 * A verifier is nearly a secret, and must not stand in a log. Statements do: by log_statement, with an error, in
 * pg_stat_activity, in pg_stat_statements. So it is in none that we send: all verifiers go by one COPY into a temporary
 * table (binary, as a failing COPY shows lines of text in the log), and one DO block gives them to their roles there.
 * What runs inside of it is logged only as the context of an error or warning: errors are caught in the block, and the
 * one warning there is, about MD5 (18 on), is turned off. log_statement itself need not be touched, which only a
 * superuser may.
 */
#include "common/log.h"
#include "engine/instance/prepare.h"
#include "pg/password.h"
#include "pg/quote.h"

enum { VERIFIERS_MAX = 64 << 20 };

/* Both may be refused, or not be known: then there is nothing to turn off, or nobody but a superuser can. */
static const struct {
    int major;
    const char *sql;
} quiet[] = {
    {18, "SET LOCAL md5_password_warnings = off"},
    {10, "SET LOCAL pg_stat_statements.track_utility = off"},
};

#define TABLE_SQL                                                                                                      \
    "CREATE TEMPORARY TABLE pgcrane_verifier (role text PRIMARY KEY, verifier text, refused text) ON COMMIT DROP"
#define COPY_SQL "COPY pg_temp.pgcrane_verifier (role, verifier) FROM STDIN (FORMAT binary)"
#define GIVE_SQL                                                                                                       \
    "DO $do$ DECLARE v record; BEGIN"                                                                                  \
    " FOR v IN SELECT t.role, t.verifier FROM pg_temp.pgcrane_verifier t LOOP BEGIN"                                   \
    "  EXECUTE pg_catalog.format('ALTER ROLE %I PASSWORD %L', v.role, v.verifier);"                                    \
    " EXCEPTION WHEN OTHERS THEN"                                                                                      \
    "  UPDATE pg_temp.pgcrane_verifier SET refused = SQLERRM WHERE role = v.role;"                                     \
    " END; END LOOP; END $do$"

/* ---- Binary COPY ---- */

static void put_number(Buf *rows, uint32_t number, int bytes) {
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        buf_append_char(rows, (char)(number >> shift));
}

static void put_text(Buf *rows, const char *text) {
    put_number(rows, (uint32_t)strlen(text), 4);
    buf_append_str(rows, text);
}

static void put_header(Buf *rows) {
    static const char signature[] = "PGCOPY\n\377\r\n"; /* its last byte is the NUL */

    buf_append(rows, signature, sizeof(signature));
    put_number(rows, 0, 4); /* flags */
    put_number(rows, 0, 4); /* length of what else the header has */
}

/* ---- What is known of passwords ---- */

void verifiers_fini(Verifiers *verifiers) {
    db_result_free(verifiers->rows);
}

bool verifiers_read(DbConn *conn, Verifiers *ret_verifiers, Error *err) {
    CLEANUP(db_result_freep) DbResult *may = NULL;

    if (!db_query(conn, "SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')", 0,
                  NULL, &may, err))
        return error_wrap(err, "asking whether verifiers of passwords can be read");
    if (!db_bool(may, 0, 0))
        return true;
    if (!db_query(conn,
                  "SELECT a.rolname, a.rolpassword FROM pg_catalog.pg_authid a WHERE a.rolpassword IS NOT NULL"
                  " ORDER BY a.rolname",
                  0, NULL, &ret_verifiers->rows, err))
        return error_wrap(err, "reading the verifiers of passwords");
    ret_verifiers->readable = true;
    return true;
}

const char *verifier_of(const Verifiers *known, const char *role) {
    for (int i = 0; i < db_rows(known->rows); i++)
        if (strcmp(db_text(known->rows, i, 0), role) == 0)
            return db_text(known->rows, i, 1);
    return NULL;
}

/* ---- Giving ---- */

static bool was_made(const Prepare *p, const char *name) {
    const InstanceRole *role = role_find(&p->source_roles, name);

    return role != NULL && role->made;
}

static int64_t put_verifiers(const Prepare *p, const Verifiers *source, Buf *rows) {
    int64_t count = 0;

    put_header(rows);
    for (int i = 0; i < db_rows(source->rows); i++) {
        if (!was_made(p, db_text(source->rows, i, 0)))
            continue;
        put_number(rows, 2, 2); /* fields */
        put_text(rows, db_text(source->rows, i, 0));
        put_text(rows, db_text(source->rows, i, 1));
        count++;
    }
    put_number(rows, UINT16_MAX, 2); /* the end */
    return count;
}

static bool send_verifiers(Prepare *p, const Buf *rows, Error *err) {
    int64_t count = 0;

    return (db_copy_in_begin(p->dest, COPY_SQL, err) && db_copy_in_put(p->dest, rows->data, rows->len, err) &&
            db_copy_in_end(p->dest, &count, err)) ||
           error_wrap(err, "sending the verifiers of passwords");
}

static const char *password_fix(Arena *arena, const char *role) {
    return arena_printf(arena, "\\password %s", sql_ident(arena, role));
}

static void note_password(Prepare *p, const char *role, const char *why) {
    log_warning("role %s: the password did not come along: %s", role, why);
    note_refused(&p->notes, NOTE_ROLE_PASSWORD, sql_ident(p->arena, role), why, password_fix(p->arena, role));
}

static bool note_refused_verifiers(Prepare *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(p->dest,
                  "SELECT t.role, t.refused FROM pg_temp.pgcrane_verifier t WHERE t.refused IS NOT NULL ORDER BY 1", 0,
                  NULL, &rows, err))
        return error_wrap(err, "asking which passwords were refused");
    for (int i = 0; i < db_rows(rows); i++)
        note_password(p, db_text(rows, i, 0), db_text(rows, i, 1));
    return true;
}

static void note_all_refused(Prepare *p, const Verifiers *source, const char *why) {
    for (int i = 0; i < db_rows(source->rows); i++)
        if (was_made(p, db_text(source->rows, i, 0)))
            note_password(p, db_text(source->rows, i, 0), why);
}

static bool be_quiet(Prepare *p, Error *err) {
    bool done = false;

    for (size_t i = 0; i < COUNT_OF(quiet); i++)
        if (db_major(p->dest) >= quiet[i].major && !prepare_try(p, quiet[i].sql, &done, NULL, err))
            return false;
    return true;
}

/* *ret_done false: none was taken, *ret_why says why. */
static bool give_rows(Prepare *p, const Buf *rows, bool *ret_done, const char **ret_why, Error *err) {
    *ret_why = "";
    return buf_ok(rows, "the verifiers of passwords", err) && be_quiet(p, err) &&
           prepare_try(p, TABLE_SQL, ret_done, ret_why, err) &&
           (!*ret_done || (send_verifiers(p, rows, err) && prepare_try(p, GIVE_SQL, ret_done, ret_why, err))) &&
           (!*ret_done || note_refused_verifiers(p, err));
}

static bool give_verifiers(Prepare *p, const Verifiers *source, Error *err) {
    CLEANUP(buf_fini) Buf rows;
    const char *why = "";
    bool done = false;

    buf_init(&rows, VERIFIERS_MAX);
    if (put_verifiers(p, source, &rows) == 0)
        return true;
    if (!give_rows(p, &rows, &done, &why, err))
        return false;
    if (!done)
        note_all_refused(p, source, why);
    return true;
}

/* ---- New ones ---- */

static bool put_new(Prepare *p, const InstanceRole *role, Buf *rows, Error *err) {
    const char *verifier = NULL;
    char *password = NULL;

    if (!p->input->new_password(p->input->context, p->arena, role->name, &password, err))
        return false;
    bool ok = db_encrypt_password(p->dest, p->arena, role->name, password, &verifier, err);
    explicit_bzero(password, strlen(password));
    if (!ok)
        return false;
    put_number(rows, 2, 2);
    put_text(rows, role->name);
    put_text(rows, verifier);
    return true;
}

/* Only of roles that this run made: a password that somebody has set stays. */
static bool put_all_new(Prepare *p, Buf *rows, StringVec *names, Error *err) {
    put_header(rows);
    for (size_t i = 0; i < p->source_roles.len; i++) {
        const InstanceRole *role = &p->source_roles.items[i];

        if (!role->made || !role->flags[ROLE_LOGIN] || role->theirs)
            continue;
        if (!put_new(p, role, rows, err))
            return false;
        vec_push(p->arena, names, role->name);
    }
    put_number(rows, UINT16_MAX, 2);
    return true;
}

static bool is_given(DbConn *dest, const char *role, bool *ret_given, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!db_query(dest, "SELECT 1 FROM pg_temp.pgcrane_verifier t WHERE t.role = $1 AND t.refused IS NULL", 1,
                  (const char *const[]){role}, &row, err))
        return error_wrap(err, "asking which passwords were taken");
    *ret_given = db_rows(row) > 0;
    return true;
}

static bool tell_new(Prepare *p, const StringVec *names, Error *err) {
    StringVec *given = &p->made->new_passwords;

    for (size_t i = 0; i < names->len; i++) {
        bool taken = false;

        if (!is_given(p->dest, names->items[i], &taken, err))
            return false;
        if (!taken)
            continue;
        vec_push(p->arena, given, names->items[i]);
        note_add(&p->notes, NOTE_NEW_PASSWORD, sql_ident(p->arena, names->items[i]), "");
    }
    return given->len == 0 || p->input->new_passwords_told(p->input->context, given, err);
}

static bool give_new(Prepare *p, Error *err) {
    CLEANUP(buf_fini) Buf rows;
    StringVec names = {0};
    const char *why = "";
    bool done = false;

    buf_init(&rows, VERIFIERS_MAX);
    if (!put_all_new(p, &rows, &names, err))
        return false;
    if (names.len == 0)
        return true;
    if (!give_rows(p, &rows, &done, &why, err))
        return false;
    for (size_t i = 0; !done && i < names.len; i++)
        note_password(p, names.items[i], why);
    return !done || tell_new(p, &names, err);
}

/* ---- What did not come along ---- */

/* The superuser that initdb made is another person's on each server, whatever its name. */
static bool should_have_one(const Prepare *p, const InstanceRole *role) {
    return role->flags[ROLE_LOGIN] && !role->theirs && (!role->bootstrap || role->made) &&
           role_find(&p->dest_roles, role->name) != NULL;
}

/* Says the same when it is asked again after a crash: by what both servers have, not by what this run did. */
static void note_unreadable(Prepare *p, const Verifiers *dest) {
    for (size_t i = 0; i < p->source_roles.len; i++) {
        const InstanceRole *role = &p->source_roles.items[i];

        if (should_have_one(p, role) && strcmp(role->name, p->user) != 0 &&
            !(role->made && p->input->new_password != NULL) &&
            !(dest->readable && verifier_of(dest, role->name) != NULL))
            note_add(&p->notes, NOTE_ROLE_PASSWORD, sql_ident(p->arena, role->name),
                     password_fix(p->arena, role->name));
    }
}

static void note_lacking(Prepare *p, const Verifiers *source, const Verifiers *dest) {
    for (size_t i = 0; i < p->source_roles.len; i++) {
        const InstanceRole *role = &p->source_roles.items[i];

        if (should_have_one(p, role) && !role->made && verifier_of(source, role->name) != NULL &&
            verifier_of(dest, role->name) == NULL)
            note_refused(&p->notes, NOTE_ROLE_PASSWORD, sql_ident(p->arena, role->name),
                         "it was there before, without one", password_fix(p->arena, role->name));
    }
}

/* A verifier has its salt in it: one that was brought over is the same text, and any other is of another password, or
 * of the same one that was set anew. Which side is right only people know. */
static void note_changed(Prepare *p, const Verifiers *source, const Verifiers *dest) {
    for (size_t i = 0; i < p->source_roles.len; i++) {
        const InstanceRole *role = &p->source_roles.items[i];
        const char *here = verifier_of(source, role->name), *there = verifier_of(dest, role->name);

        if (role->made || there == NULL || !should_have_one(p, role) || strcmp(role->name, p->user) == 0 ||
            (here != NULL && strcmp(here, there) == 0))
            continue;
        const char *name = sql_ident(p->arena, role->name);
        note_add(&p->notes, NOTE_ROLE_PASSWORD_CHANGED,
                 here == NULL ? arena_printf(p->arena, "%s (it has none on the source)", name) : name,
                 here == NULL ? arena_printf(p->arena, "ALTER ROLE %s PASSWORD NULL;", name)
                              : password_fix(p->arena, role->name));
    }
}

bool passwords_move(Prepare *p, Error *err) {
    CLEANUP(verifiers_fini) Verifiers source = {0};
    CLEANUP(verifiers_fini) Verifiers dest = {0};

    if (!verifiers_read(p->source, &source, err) || !verifiers_read(p->dest, &dest, err))
        return false;
    if (!source.readable) {
        if (p->input->new_password != NULL && !give_new(p, err))
            return false;
        note_unreadable(p, &dest);
    } else if (!give_verifiers(p, &source, err))
        return false;
    else if (dest.readable) {
        note_lacking(p, &source, &dest);
        note_changed(p, &source, &dest);
    }
    return true;
}
