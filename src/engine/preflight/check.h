/*
 * What the checks share: how one reports, and the two shapes that most have.
 *
 * A check is `bool check_x(Preflight *p, Error *err)`. It reports through finding_add() and returns false only when it
 * could not be made; preflight.c turns that into a finding of its own, unless the connection is lost. So a check asks
 * one question: what belongs to another question is another function, or its failure would hide both.
 * Statements qualify every name: sessions have search_path = '', and a table of a user's schema must never be asked.
 */
#pragma once

#include "engine/preflight/preflight.h"
#include "engine/seam/seam.h"

typedef enum CheckId {
#define X(id, severity, side, function, google, help) CHECK_##id,
#include "engine/preflight/checks.def"
#undef X
    CHECK_MAX_,
} CheckId;

/* One per check in the list; the rest of the objects is only counted. */
enum { FINDINGS_PER_CHECK = 50 };

/* What several checks need to know of a server's role. */
typedef struct RoleFacts {
    const char *name;   /* as the server sees it (current_user) */
    const char *quoted; /* for SQL */
    bool superuser;
    bool managed; /* member of a cloud's stand-in for superusers: it may do what we cannot look up */
    bool sees_sessions, sees_settings; /* sight.c */
} RoleFacts;

typedef struct Preflight {
    Arena *arena;   /* what outlives the run: the findings */
    Arena *scratch; /* emptied after each check */
    const PreflightInput *input;
    FindingVec *findings;
    size_t counts[CHECK_MAX_];
    RoleFacts source_role, dest_role;
    bool filtered;        /* some filter is set */
    int64_t source_bytes; /* preflight_source_bytes' answer, -1 = not asked yet */
    Estimate estimate;
} Preflight;

/* `message` and `fix` are copied. Past FINDINGS_PER_CHECK it only counts. */
void finding_add(Preflight *p, CheckId check, const char *object, const char *message, const char *fix);

DbConn *preflight_conn(const Preflight *p, DbSide side);
NODISCARD bool preflight_query(Preflight *p, DbSide side, const char *sql, DbResult **ret_result, Error *err);
/* Does an object of this name pass the filters? */
NODISCARD bool preflight_passes(Preflight *p, const char *schema, const char *name, bool *ret_passes, Error *err);

/* Copies `text` into `arena` with {1}..{9} replaced by values[0].. ; what is beyond `count` becomes "". Pure. */
char *template_fill(Arena *arena, const char *text, const char *const *values, size_t count);

/* A question to one server: each row is a finding. {1} in a template is the row's first column. */
typedef struct SqlCheck {
    CheckId check;
    DbSide side;
    bool by_table;  /* columns 1 and 2 are schema and name: rows that the filters leave out do not count */
    size_t columns; /* of the result, at most 9 */
    const char *sql;
    const char *object;
    const char *message;
    const char *fix;
} SqlCheck;
NODISCARD bool check_by_sql(Preflight *p, const SqlCheck *check, Error *err);

/*
 * What a role may not see is hidden without an error: a check that rests on it ends with one of these, behind what it
 * found all the same. NOT_PERMITTED, with the GRANT; preflight.c makes a CHECK_IMPOSSIBLE of it. (sight.c)
 */
/* pg_stat_activity: since when a transaction runs, what it runs, and what kind of process it is. */
NODISCARD bool sight_of_sessions(const Preflight *p, DbSide side, Error *err);
/* pg_settings: those for administrators, such as shared_preload_libraries. */
NODISCARD bool sight_of_settings(const Preflight *p, DbSide side, Error *err);
/* SQL for sees_sessions and sees_settings, one column each. */
const char *sight_sql(Arena *arena, int major);

/* Rows of a result found by the text of a column. It points into the result. */
typedef struct RowIndex RowIndex;
RowIndex *row_index_new(Arena *arena, const DbResult *rows, int column);
/* -1 when there is none; one of them when there are several. */
int row_index_find(const RowIndex *index, const char *key);

/* A major version that pgcrane knows? */
void check_version_of(Preflight *p, CheckId check, DbSide side);
/* On-disk size of what moves: the database, or the tables that pass the filters. */
NODISCARD bool preflight_source_bytes(Preflight *p, int64_t *ret_bytes, Error *err);
/* Are these two names of one locale? "en_US.UTF-8" and "en_US.utf8" are, "C" and "POSIX" too. Pure. */
bool locale_same(const char *left, const char *right);
/* The Debian package that brings an extension. Pure. */
char *extension_package(Arena *arena, const char *extension, int major);

/* --- the checks, by file; checks.def says what each looks for --- */

/* server.c */
NODISCARD bool check_source_version(Preflight *p, Error *err);
NODISCARD bool check_client(Preflight *p, Error *err);
NODISCARD bool check_source_session(Preflight *p, Error *err);
NODISCARD bool check_source_standby(Preflight *p, Error *err);
NODISCARD bool check_source_snapshot_threshold(Preflight *p, Error *err);
NODISCARD bool check_source_connections(Preflight *p, Error *err);
NODISCARD bool check_source_locks(Preflight *p, Error *err);
NODISCARD bool check_source_prepared(Preflight *p, Error *err);

/* privileges.c */
NODISCARD bool check_schema_privilege(Preflight *p, Error *err);
NODISCARD bool check_table_privilege(Preflight *p, Error *err);
NODISCARD bool check_lock_privilege(Preflight *p, Error *err);
NODISCARD bool check_sequence_privilege(Preflight *p, Error *err);
NODISCARD bool check_large_object_privilege(Preflight *p, Error *err);
NODISCARD bool check_row_security(Preflight *p, Error *err);

/* tables.c */
NODISCARD bool check_invalid_index(Preflight *p, Error *err);
NODISCARD bool check_unlogged_table(Preflight *p, Error *err);
NODISCARD bool check_foreign_table(Preflight *p, Error *err);
NODISCARD bool check_extension_table(Preflight *p, Error *err);
NODISCARD bool check_oids(Preflight *p, Error *err);
NODISCARD bool check_oid_key(Preflight *p, Error *err);
NODISCARD bool check_gone_types(Preflight *p, Error *err);
NODISCARD bool check_old_polymorphics(Preflight *p, Error *err);
NODISCARD bool check_inherited_order(Preflight *p, Error *err);
NODISCARD bool check_reserved_schema(Preflight *p, Error *err);

/* destination.c */
NODISCARD bool check_dest_version(Preflight *p, Error *err);
NODISCARD bool check_same_database(Preflight *p, Error *err);
NODISCARD bool check_dest_writable(Preflight *p, Error *err);
NODISCARD bool check_dest_create(Preflight *p, Error *err);
NODISCARD bool check_dest_schema_create(Preflight *p, Error *err);
NODISCARD bool check_dest_connections(Preflight *p, Error *err);
NODISCARD bool check_encoding(Preflight *p, Error *err);
NODISCARD bool check_locale(Preflight *p, Error *err);
NODISCARD bool check_dest_disk(Preflight *p, Error *err);
NODISCARD bool check_dest_event_trigger(Preflight *p, Error *err);
NODISCARD bool check_dest_replica_role(Preflight *p, Error *err);
NODISCARD bool check_dest_wal_size(Preflight *p, Error *err);
NODISCARD bool check_dest_synchronous(Preflight *p, Error *err);

/* default_privileges.c */
NODISCARD bool check_dest_default_privileges(Preflight *p, Error *err);

/* content.c */
NODISCARD bool check_content(Preflight *p, Error *err);
NODISCARD bool check_data_only(Preflight *p, Error *err);

/* extensions.c, roles.c, tablespaces.c, needs.c */
NODISCARD bool check_extensions(Preflight *p, Error *err);
NODISCARD bool check_roles(Preflight *p, Error *err);
NODISCARD bool check_tablespaces(Preflight *p, Error *err);
NODISCARD bool check_collations(Preflight *p, Error *err);
NODISCARD bool check_superuser_needed(Preflight *p, Error *err);
NODISCARD bool check_libraries(Preflight *p, Error *err);

/* follow_server.c */
NODISCARD bool check_follow_wal_level(Preflight *p, Error *err);
NODISCARD bool check_follow_slots(Preflight *p, Error *err);
NODISCARD bool check_follow_senders(Preflight *p, Error *err);
NODISCARD bool check_follow_standby(Preflight *p, Error *err);
NODISCARD bool check_follow_prepared(Preflight *p, Error *err);
NODISCARD bool check_follow_long_transaction(Preflight *p, Error *err);
NODISCARD bool check_follow_minor_version(Preflight *p, Error *err);
NODISCARD bool check_follow_keep_size(Preflight *p, Error *err);
NODISCARD bool check_follow_idle_timeout(Preflight *p, Error *err);
NODISCARD bool check_follow_sender_timeout(Preflight *p, Error *err);
NODISCARD bool check_follow_decoding_memory(Preflight *p, Error *err);

/* follow_rights.c */
NODISCARD bool check_follow_replication(Preflight *p, Error *err);
NODISCARD bool check_follow_publish(Preflight *p, Error *err);
NODISCARD bool check_follow_owner(Preflight *p, Error *err);
NODISCARD bool check_follow_all_tables(Preflight *p, Error *err);
NODISCARD bool check_follow_ddl(Preflight *p, Error *err);
NODISCARD bool check_follow_event_trigger(Preflight *p, Error *err);
NODISCARD bool check_follow_fence_database(Preflight *p, Error *err);
NODISCARD bool check_follow_fence_signal(Preflight *p, Error *err);
NODISCARD bool check_follow_fence_lock(Preflight *p, Error *err);
NODISCARD bool check_follow_fence_room(Preflight *p, Error *err);

/* follow_tables.c */
NODISCARD bool check_follow_identity(Preflight *p, Error *err);
NODISCARD bool check_follow_unlogged(Preflight *p, Error *err);
NODISCARD bool check_follow_other_publication(Preflight *p, Error *err);
NODISCARD bool check_follow_subscription(Preflight *p, Error *err);
NODISCARD bool check_follow_large_objects(Preflight *p, Error *err);
NODISCARD bool check_follow_sequences(Preflight *p, Error *err);

/* network.c */
NODISCARD bool check_source_balanced(Preflight *p, Error *err);
NODISCARD bool check_plaintext(Preflight *p, Error *err);
NODISCARD bool check_clock_skew(Preflight *p, Error *err);

/* state.c */
NODISCARD bool check_source_locked(Preflight *p, Error *err);
NODISCARD bool check_source_wraparound(Preflight *p, Error *err);
NODISCARD bool check_collation_version(Preflight *p, Error *err);
NODISCARD bool check_oid_alias(Preflight *p, Error *err);
NODISCARD bool check_constraint_function(Preflight *p, Error *err);
NODISCARD bool check_unpopulated_view(Preflight *p, Error *err);
NODISCARD bool check_user_mapping(Preflight *p, Error *err);
NODISCARD bool check_other_slot(Preflight *p, Error *err);
NODISCARD bool check_filter_foreign_key(Preflight *p, Error *err);
NODISCARD bool check_follow_wraparound_vacuum(Preflight *p, Error *err);

/* absent.c */
NODISCARD bool check_dest_createdb(Preflight *p, Error *err);
NODISCARD bool check_dest_locale_there(Preflight *p, Error *err);

/* settings.c */
NODISCARD bool check_dest_settings(Preflight *p, Error *err);
NODISCARD bool check_security_label(Preflight *p, Error *err);
NODISCARD bool check_data_only_trigger(Preflight *p, Error *err);

/* estimate.c */
NODISCARD bool check_estimate(Preflight *p, Error *err);

/* --- pieces of SQL --- */

/* What a migration that is followed has on the source: publications, event triggers, a schema. It is there when the
 * same command runs again. */
#define SQL_OURS SEAM_OF_A_JOB
/* Schemas whose content moves. `n` is pg_namespace. */
#define SQL_USER_SCHEMA                                                                                                \
    "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcrane', 'pgcrane_guard')"                      \
    " AND n.nspname !~ " SQL_OURS
/* The row `alias` of the catalogue is no member of an extension. */
#define SQL_NOT_MEMBER(catalog, alias)                                                                                 \
    "NOT EXISTS (SELECT FROM pg_catalog.pg_depend m WHERE m.classid = 'pg_catalog." catalog                            \
    "'::pg_catalog.regclass AND m.objid = " alias ".oid AND m.deptype = 'e')"
/* First oid that is not PostgreSQL's own (FirstNormalObjectId of access/transam.h). */
#define SQL_FIRST_USER_OID "16384"
