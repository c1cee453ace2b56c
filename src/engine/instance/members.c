/*
 * Memberships: who is a member of which role, with which options, granted by whom.
 *
 * Until 15 there is one grant for each pair of role and member, and its grantor is a remark. From 16 on there is one
 * for each grantor, who needs ADMIN OPTION on the role: so a grant may have to wait for another, and all are tried in
 * rounds until a round brings nothing. What is still left is granted in the name of whoever may.
 *
 * A grant that is there gets options that it lacks, and loses none: what the source has not is told.
 */
#include "engine/instance/prepare.h"
#include "engine/instance/provider.h"
#include "pg/quote.h"

#define SQL_OWNERS                                                                                                     \
    "SELECT d.datname, r.rolname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba"         \
    " UNION SELECT d.datname, r.rolname FROM pg_catalog.pg_shdepend s"                                                 \
    " JOIN pg_catalog.pg_database d ON d.oid = s.dbid JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid"                \
    " WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.deptype = 'o' ORDER BY 2, 1"

typedef VEC(Membership) MembershipVec;

enum { MODERN = 16 };

/* ---- Reading ---- */

static int option_of(const DbResult *rows, int row, int column) {
    return db_is_null(rows, row, column) ? -1 : db_bool(rows, row, column);
}

static Membership membership_of(Arena *arena, const DbResult *rows, int row) {
    return (Membership){
        .role = arena_strdup(arena, db_text(rows, row, 0)),
        .member = arena_strdup(arena, db_text(rows, row, 1)),
        .grantor = db_is_null(rows, row, 2) ? NULL : arena_strdup(arena, db_text(rows, row, 2)),
        .by_bootstrap = db_bool(rows, row, 3),
        .theirs = db_bool(rows, row, 4),
        .admin = option_of(rows, row, 5),
        .inherit = option_of(rows, row, 6),
        .set = option_of(rows, row, 7),
    };
}

/* Without what PostgreSQL itself has among its own roles, and a provider among its. */
static bool read_memberships(Arena *arena, DbConn *conn, MembershipVec *ret_found, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *options = db_major(conn) >= MODERN ? "a.inherit_option, a.set_option" : "NULL::bool, NULL::bool";
    const char *sql =
        arena_printf(arena,
                     "SELECT r.rolname, m.rolname, g.rolname, a.grantor = 10, %s, a.admin_option, %s"
                     " FROM pg_catalog.pg_auth_members a"
                     " JOIN pg_catalog.pg_roles r ON r.oid = a.roleid"
                     " JOIN pg_catalog.pg_roles m ON m.oid = a.member"
                     " LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantor"
                     " WHERE m.rolname !~ '^pg_' AND NOT %s ORDER BY 1, 2, 3",
                     provider_role_sql(arena, "r.rolname"), options, provider_role_sql(arena, "m.rolname"));

    if (!db_query(conn, sql, 0, NULL, &rows, err))
        return error_wrap(err, "reading the memberships of the %s", db_side_name(db_conn_side(conn)));
    for (int i = 0; i < db_rows(rows); i++)
        vec_push(arena, ret_found, membership_of(arena, rows, i));
    return true;
}

/* ---- Statements ---- */

static char *with_option(Arena *arena, char *options, const char *name, int value) {
    if (value < 0)
        return options;
    return arena_printf(arena, "%s%s%s %s", options, options[0] == '\0' ? " WITH " : ", ", name,
                        value > 0 ? "TRUE" : "FALSE");
}

char *membership_sql(Arena *arena, const Membership *membership, bool modern, bool with_grantor) {
    char *options = arena_strdup(arena, !modern && membership->admin > 0 ? " WITH ADMIN OPTION" : "");
    const char *by = with_grantor && membership->grantor != NULL
                         ? arena_printf(arena, " GRANTED BY %s", sql_ident(arena, membership->grantor))
                         : "";

    if (modern) {
        options = with_option(arena, options, "ADMIN", membership->admin);
        options = with_option(arena, options, "INHERIT", membership->inherit);
        options = with_option(arena, options, "SET", membership->set);
    }
    return arena_printf(arena, "GRANT %s TO %s%s%s", sql_ident(arena, membership->role),
                        sql_ident(arena, membership->member), options, by);
}

/* ---- What is missing ---- */

static bool same_pair(const Membership *left, const Membership *right) {
    return strcmp(left->role, right->role) == 0 && strcmp(left->member, right->member) == 0;
}

static bool same_grantor(const Membership *left, const Membership *right) {
    if (left->by_bootstrap || right->by_bootstrap)
        return left->by_bootstrap && right->by_bootstrap;
    return left->grantor != NULL && right->grantor != NULL && strcmp(left->grantor, right->grantor) == 0;
}

/* Of all grants of the pair, or of those by the same grantor alone, the options that any has. False: there is none. */
static bool sum_up(const MembershipVec *there, const Membership *wanted, bool by_grantor, Membership *ret_sum) {
    bool found = false;

    for (size_t i = 0; i < there->len; i++) {
        const Membership *grant = &there->items[i];

        if (!same_pair(grant, wanted) || (by_grantor && !same_grantor(grant, wanted)))
            continue;
        if (!found)
            *ret_sum = *grant;
        ret_sum->admin = MAX(ret_sum->admin, grant->admin);
        ret_sum->inherit = MAX(ret_sum->inherit, grant->inherit);
        ret_sum->set = MAX(ret_sum->set, grant->set);
        found = true;
    }
    return found;
}

/* 1 when it is wanted and not there, -1 (not said) otherwise. */
static int lacking(int wanted, int there) {
    return wanted > 0 && there == 0 ? 1 : -1;
}

/* *grant becomes what is still to be given; false when nothing is. */
static bool reduce(const MembershipVec *there, bool by_grantor, Membership *grant) {
    Membership sum;

    if (!sum_up(there, grant, by_grantor, &sum))
        return true;
    grant->admin = lacking(grant->admin, sum.admin);
    grant->inherit = lacking(grant->inherit, sum.inherit);
    grant->set = lacking(grant->set, sum.set);
    return grant->admin > 0 || grant->inherit > 0 || grant->set > 0;
}

/* ---- Granting ---- */

typedef struct Grants {
    Prepare *p;
    MembershipVec there;  /* on the destination, and granted by us */
    MembershipVec wanted; /* not granted yet */
    bool modern;          /* the destination */
    bool by_grantor;      /* grants of several grantors are told apart, and in their names */
} Grants;

/* The bootstrap superuser's name is another one on each server; a superuser grants in its name without saying so. */
static bool may_name(const Grants *grants, const Membership *grant) {
    return grant->grantor != NULL && role_find(&grants->p->dest_roles, grant->grantor) != NULL &&
           !(grants->modern && grant->by_bootstrap);
}

static bool is_named_by_default(const Grants *grants, const Membership *grant) {
    return grants->modern && grant->by_bootstrap;
}

/* Grants from before 16 to 16 and later: who granted does not mean what it means there. */
static bool can_name(const Grants *grants, int source_major) {
    return (source_major >= MODERN) == grants->modern;
}

static bool try_grant(Grants *grants, const Membership *grant, bool named, bool *ret_done, const char **ret_why,
                      Error *err) {
    Prepare *p = grants->p;
    const char *sql = membership_sql(p->arena, grant, grants->modern, named && may_name(grants, grant));

    if (!prepare_try(p, sql, ret_done, ret_why, err))
        return false;
    if (*ret_done) {
        vec_push(p->arena, &grants->there, *grant);
        p->made->memberships++;
    }
    return true;
}

/* One round in the grantors' names. */
static bool grant_round(Grants *grants, bool *ret_progress, Error *err) {
    MembershipVec left = {0};

    *ret_progress = false;
    for (size_t i = 0; i < grants->wanted.len; i++) {
        const Membership *grant = &grants->wanted.items[i];
        const char *why = "";
        bool done = false;

        if ((may_name(grants, grant) || is_named_by_default(grants, grant)) &&
            !try_grant(grants, grant, true, &done, &why, err))
            return false;
        *ret_progress = *ret_progress || done;
        if (!done)
            vec_push(grants->p->arena, &left, *grant);
    }
    grants->wanted = left;
    return true;
}

static void note_membership(Prepare *p, const Membership *grant, bool modern, const char *why) {
    note_refused(
        &p->notes, NOTE_ROLE_MEMBERSHIP,
        arena_printf(p->arena, "%s in %s", sql_ident(p->arena, grant->member), sql_ident(p->arena, grant->role)), why,
        arena_printf(p->arena, "%s;", membership_sql(p->arena, grant, modern, false)));
}

/* In our own name, or whichever the server takes. */
static bool grant_rest(Grants *grants, Error *err) {
    for (size_t i = 0; i < grants->wanted.len; i++) {
        Membership grant = grants->wanted.items[i];
        const char *why = "";
        bool done = false;

        if (!reduce(&grants->there, false, &grant))
            continue;
        if (!try_grant(grants, &grant, false, &done, &why, err))
            return false;
        if (!done)
            note_membership(grants->p, &grant, grants->modern, why);
    }
    return true;
}

static bool has_both(Grants *grants, const Membership *grant) {
    Prepare *p = grants->p;
    bool role = role_find(&p->dest_roles, grant->role) != NULL;

    if (role && role_find(&p->dest_roles, grant->member) != NULL)
        return true;
    if (!role && grant->theirs)
        note_add(
            &p->notes, NOTE_PROVIDER_MEMBERSHIP,
            arena_printf(p->arena, "%s in %s", sql_ident(p->arena, grant->member), sql_ident(p->arena, grant->role)),
            "");
    else
        note_membership(p, grant, grants->modern, "one of both is not there");
    return false;
}

/* The source's postgres may be a role like others, and the destination's of that name the server's superuser: who is a
 * member of the one is not meant to be a superuser. */
static bool is_safe(Grants *grants, const Membership *grant) {
    Prepare *p = grants->p;
    const InstanceRole *member = role_find(&p->dest_roles, grant->member);

    if (!role_gains_superuser(p, grant->role) || member->flags[ROLE_SUPERUSER])
        return true;
    note_add(&p->notes, NOTE_ROLE_MEMBERSHIP,
             arena_printf(p->arena, "%s in %s (a superuser there, and none on the source)",
                          sql_ident(p->arena, grant->member), sql_ident(p->arena, grant->role)),
             "");
    return false;
}

/* From before 16: a member inherits by its own attribute, which is the default of such a grant, and may SET ROLE. */
static bool choose_grants(Grants *grants, const MembershipVec *here) {
    for (size_t i = 0; i < here->len; i++) {
        Membership grant = here->items[i];

        if (!has_both(grants, &grant) || !reduce(&grants->there, grants->by_grantor, &grant) ||
            !is_safe(grants, &grant))
            continue;
        vec_push(grants->p->arena, &grants->wanted, grant);
    }
    return grants->wanted.len > 0;
}

/* Both roles are the source's, too, and so it is known what they are to each other there. Memberships of our own role
 * are what makes it able to work (note_own). */
static bool is_comparable(const Prepare *p, const Membership *grant) {
    return strcmp(grant->member, p->user) != 0 && !grant->theirs && role_find(&p->source_roles, grant->role) != NULL &&
           role_find(&p->source_roles, grant->member) != NULL;
}

static bool is_first_of_pair(const MembershipVec *all, size_t at) {
    for (size_t i = 0; i < at; i++)
        if (same_pair(&all->items[i], &all->items[at]))
            return false;
    return true;
}

/* Before anything is granted. */
static void note_left(Prepare *p, const MembershipVec *here, const MembershipVec *there) {
    for (size_t i = 0; i < there->len; i++) {
        const Membership *grant = &there->items[i];
        const char *role = sql_ident(p->arena, grant->role), *member = sql_ident(p->arena, grant->member);
        Membership source, dest;

        if (!is_comparable(p, grant) || !is_first_of_pair(there, i) || !sum_up(there, grant, false, &dest))
            continue;
        bool found = sum_up(here, grant, false, &source);
        if (!found)
            note_add(&p->notes, NOTE_ROLE_MEMBERSHIP_LEFT, arena_printf(p->arena, "%s in %s", member, role),
                     arena_printf(p->arena, "REVOKE %s FROM %s;", role, member));
        else if (dest.admin > 0 && source.admin == 0)
            note_add(&p->notes, NOTE_ROLE_MEMBERSHIP_LEFT,
                     arena_printf(p->arena, "%s in %s, WITH ADMIN OPTION", member, role),
                     arena_printf(p->arena, "REVOKE ADMIN OPTION FOR %s FROM %s;", role, member));
    }
}

bool members_move(Prepare *p, Error *err) {
    Grants grants = {.p = p, .modern = db_major(p->dest) >= MODERN};
    MembershipVec here = {0};
    bool progress = true;

    if (!read_memberships(p->arena, p->source, &here, err) || !read_memberships(p->arena, p->dest, &grants.there, err))
        return false;
    bool named = p->superuser && can_name(&grants, db_major(p->source));
    grants.by_grantor = named && grants.modern;
    note_left(p, &here, &grants.there);
    if (!choose_grants(&grants, &here))
        return true;
    while (named && progress && grants.wanted.len > 0)
        if (!grant_round(&grants, &progress, err))
            return false;
    return grant_rest(&grants, err);
}

/* ---- Our own ---- */

static bool is_moved(const Prepare *p, const char *database) {
    for (size_t i = 0; i < p->list->databases.len; i++)
        if (strcmp(p->list->databases.items[i].name, database) == 0)
            return true;
    return false;
}

/* What ALTER ... OWNER TO and work on the objects afterwards want. */
static bool lacks(Prepare *p, const char *owner, bool *ret_lacks, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    const char *sql =
        db_major(p->dest) >= MODERN
            ? "SELECT NOT (pg_catalog.pg_has_role($1::name, 'SET') AND pg_catalog.pg_has_role($1::name, 'USAGE'))"
            : "SELECT NOT pg_catalog.pg_has_role($1::name, 'USAGE')";

    if (!db_query(p->dest, sql, 1, &owner, &row, err))
        return error_wrap(err, "asking for memberships of the destination's role");
    *ret_lacks = db_bool(row, 0, 0);
    return true;
}

static bool join_owner(Prepare *p, const char *owner, Error *err) {
    bool wanted = false, done = false;
    const char *why = "";
    const char *role = sql_ident(p->arena, owner);
    const char *us = sql_ident(p->arena, p->user);

    if (!lacks(p, owner, &wanted, err))
        return false;
    if (!wanted)
        return true;
    if (!prepare_try(p, arena_printf(p->arena, "GRANT %s TO %s", role, us), &done, &why, err))
        return false;
    if (!done)
        note_refused(&p->notes, NOTE_ROLE_MEMBERSHIP, arena_printf(p->arena, "%s in %s", us, role), why,
                     arena_printf(p->arena, "GRANT %s TO %s;", role, us));
    return true;
}

/* From 16 on who makes a role may administer it: a grant without SET, which is not what this is about. */
static bool note_own(Prepare *p, const StringVec *owners, Error *err) {
    MembershipVec here = {0}, there = {0};

    if (!read_memberships(p->arena, p->source, &here, err) || !read_memberships(p->arena, p->dest, &there, err))
        return false;
    for (size_t i = 0; i < owners->len; i++) {
        Membership own = {.role = owners->items[i], .member = p->user}, sum;

        if (!sum_up(&there, &own, false, &sum) || sum.set == 0 || sum_up(&here, &own, false, &sum))
            continue;
        const char *role = sql_ident(p->arena, own.role);
        const char *us = sql_ident(p->arena, p->user);
        note_add(&p->notes, NOTE_OWN_MEMBERSHIP, arena_printf(p->arena, "%s in %s", us, role),
                 arena_printf(p->arena, "REVOKE %s FROM %s;", role, us));
    }
    return true;
}

/* Nobody but a superuser becomes one; whose databases arrive with another owner is told when they are made. */
static bool can_be_joined(const Prepare *p, const char *owner) {
    const InstanceRole *role = role_find(&p->dest_roles, owner);

    return role != NULL && !role->flags[ROLE_SUPERUSER] && strcmp(owner, p->user) != 0;
}

static bool read_owners(Prepare *p, StringVec *ret_owners, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;

    if (!db_query(p->source, SQL_OWNERS, 0, NULL, &rows, err))
        return error_wrap(err, "reading who owns what on the source");
    for (int i = 0; i < db_rows(rows); i++) {
        const char *owner = db_text(rows, i, 1);
        bool known = ret_owners->len > 0 && strcmp(ret_owners->items[ret_owners->len - 1], owner) == 0;

        if (!known && is_moved(p, db_text(rows, i, 0)) && can_be_joined(p, owner))
            vec_push(p->arena, ret_owners, arena_strdup(p->arena, owner));
    }
    return true;
}

bool members_join_owners(Prepare *p, Error *err) {
    StringVec owners = {0};

    if (p->superuser)
        return true;
    if (!read_owners(p, &owners, err))
        return false;
    for (size_t i = 0; i < owners.len; i++)
        if (!join_owner(p, owners.items[i], err))
            return false;
    return note_own(p, &owners, err);
}
