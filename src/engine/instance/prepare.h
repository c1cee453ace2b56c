/*
 * What the files share that prepare a destination: roles as both sides have them, attempts, notes.
 *
 * Everything that concerns roles is one transaction of the destination (prepare.c). An attempt that the server refuses
 * costs its savepoint only; a lost connection, a stop, or what may be tried again ends the step.
 */
#pragma once

#include "engine/instance/notes.h"

/* X(attribute as SQL has it, what its absence is called, its column, has it to be allowed to whoever gives it?) */
#define ROLE_FLAGS(X)                                                                                                  \
    X(SUPERUSER, "NOSUPERUSER", rolsuper, true)                                                                        \
    X(CREATEDB, "NOCREATEDB", rolcreatedb, true)                                                                       \
    X(CREATEROLE, "NOCREATEROLE", rolcreaterole, true)                                                                 \
    X(REPLICATION, "NOREPLICATION", rolreplication, true)                                                              \
    X(BYPASSRLS, "NOBYPASSRLS", rolbypassrls, true)                                                                    \
    X(INHERIT, "NOINHERIT", rolinherit, false)                                                                         \
    X(LOGIN, "NOLOGIN", rolcanlogin, false)

typedef enum RoleFlag {
#define X(flag, absent, column, privileged) ROLE_##flag,
    ROLE_FLAGS(X)
#undef X
        ROLE_FLAG_MAX_,
} RoleFlag;

typedef struct InstanceRole {
    const char *name;
    bool flags[ROLE_FLAG_MAX_];
    int64_t limit;           /* of connections, -1 = none */
    const char *valid_until; /* of the password; NULL = for ever */
    const char *comment;     /* NULL = none */
    bool bootstrap;          /* the superuser that initdb made: each server has one */
    bool theirs;             /* the provider's */
    bool made;               /* by this run */
} InstanceRole;

typedef VEC(InstanceRole) InstanceRoleVec;

typedef struct Prepare {
    Arena *arena;
    DbConn *source, *dest;
    const InstanceInput *input;
    const InstanceList *list;
    InstanceMade *made;
    Notes notes;
    InstanceRoleVec source_roles; /* by name; without pg_* */
    InstanceRoleVec dest_roles;   /* by name; all, read anew when some were made */
    const char *user;             /* the destination's role */
    bool superuser;               /* it is one */
} Prepare;

/* Runs `sql` in a savepoint of the destination's transaction. *ret_why: what the server said when it refused, for
 * people; ret_why may be NULL. */
NODISCARD bool prepare_try(Prepare *p, const char *sql, bool *ret_done, const char **ret_why, Error *err);
/* The server said no, and would say so again. */
bool prepare_is_refusal(const DbConn *conn, const Error *err);

/* How long a lock of the destination is waited for: a role or database of the same name, in a transaction that is open.
 * Whoever waits for us (a promote, the end of a job) is told what it is, and it is tried again. */
#define PREPARE_LOCK_TIMEOUT "5s"
/* Of a lock that was waited for in vain: names the sessions that may hold the lock. Without a transaction that is open;
 * always false.
 *
 * Relied upon: whoever changes a shared catalog keeps ROW EXCLUSIVE on it until his transaction ends, and pg_locks
 * shows that to everybody. */
NODISCARD bool prepare_name_holders(Arena *arena, DbConn *dest, Error *err);

/* --- list.c --- */

NODISCARD bool instance_database_names(Arena *arena, DbConn *conn, StringVec *ret_names, Error *err);

/* --- roles.c --- */

NODISCARD bool roles_read(Arena *arena, DbConn *conn, InstanceRoleVec *ret_roles, Error *err);
/* NULL when there is none. */
const InstanceRole *role_find(const InstanceRoleVec *roles, const char *name);
/* CREATE ROLE with everything but the password; without `privileged` only what every creator of roles may give. Pure.
 */
char *role_create_sql(Arena *arena, const InstanceRole *role, bool privileged);
/* What `there` has otherwise than `here`, in words; NULL when nothing. *ret_fix: the statement that makes it so. Pure.
 */
const char *role_difference(Arena *arena, const InstanceRole *here, const InstanceRole *there, const char **ret_fix);
NODISCARD bool roles_make(Prepare *p, Error *err);
void roles_compare(Prepare *p);
/* The destination's role of that name is what its administrator and pgcrane work as: whom a statement about the
 * source's role of the same name could shut out. Of the destination, in words; NULL = it is neither. */
const char *role_is_administrator(const Prepare *p, const char *name);
/* It is a superuser there, and is none on the source: its members would be superusers, too. */
bool role_gains_superuser(const Prepare *p, const char *name);

/* --- passwords.c --- */

NODISCARD bool passwords_move(Prepare *p, Error *err);

/* Of one server's roles. */
typedef struct Verifiers {
    bool readable;
    DbResult *rows; /* role, verifier; those that have one */
} Verifiers;

NODISCARD bool verifiers_read(DbConn *conn, Verifiers *ret_verifiers, Error *err);
void verifiers_fini(Verifiers *verifiers);
/* Borrowed; NULL when the role has none, or nobody may know. */
const char *verifier_of(const Verifiers *known, const char *role);

/* --- members.c --- */

/* Options of a membership: -1 = not said. */
typedef struct Membership {
    const char *role, *member;
    const char *grantor; /* NULL = not known */
    bool by_bootstrap;   /* granted by the superuser that initdb made */
    bool theirs;         /* the role is the provider's */
    int admin, inherit, set;
} Membership;

/* GRANT role TO member with those options that are said. modern: the destination is 16 or later. Pure. */
char *membership_sql(Arena *arena, const Membership *membership, bool modern, bool with_grantor);
NODISCARD bool members_move(Prepare *p, Error *err);
/* pgcrane's own role becomes a member of those who own databases, or anything in them. */
NODISCARD bool members_join_owners(Prepare *p, Error *err);

/* --- role_settings.c --- */

NODISCARD bool role_settings_move(Prepare *p, Error *err);
NODISCARD bool parameter_grants_move(Prepare *p, Error *err);
NODISCARD bool note_labels(Prepare *p, Error *err);

/* --- create.c --- */

/* CREATE DATABASE as the source has it; with_owner: its owner, too. Pure. */
char *database_create_sql(Arena *arena, const InstanceDatabase *database, int dest_major, bool with_owner);
