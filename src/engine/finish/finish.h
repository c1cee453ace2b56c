/*
 * What is left when data and indexes are there: sequences, settings of the database, and what no archive holds.
 *
 * Each is idempotent and may run again after a crash at any point.
 */
#pragma once

#include "engine/load/load.h"

/* last_value and is_called of every sequence chosen, exactly as the source has them now (sequences do not obey
 * snapshots: what is read after the snapshot is at least what its rows used). For --data-only: of the sequences that
 * tables chosen own, and without filters also of those that no table owns. ret_missing, when it is not NULL: those that
 * the destination does not have, so that nothing was set. */
NODISCARD bool finish_sequences(const LoadParams *params, DbConn *source, DbConn *dest, Arena *arena,
                                StringVec *ret_missing, Error *err);

/* The same inside the caller's transaction, for those only that do not read as in `readings`; it then holds what was
 * read now. With empty `readings` nothing is set, only read. */
NODISCARD bool finish_sequences_moved(const LoadParams *params, DbConn *source, DbConn *dest, Arena *arena,
                                      StringVec *readings, Error *err);

/* Large objects made, changed or removed on the source since they were copied: made the same. source may be inside a
 * transaction (then an error ends it). attributes: by owner, comment and grants, too. Not under the fence: default
 * privileges of the destination can make a difference that no copy ends. */
NODISCARD bool finish_large_objects(const LoadParams *params, DbConn *source, DbConn *dest, bool attributes,
                                    Arena *arena, int64_t *ret_changed, Error *err);

/* Sessions fill materialized views: how a time is written, or a text split into words, is theirs to say. The control
 * session takes the source database's own settings, and is set back afterwards. */
typedef struct ViewSettings {
    DbResult *before; /* name, value */
} ViewSettings;

NODISCARD bool finish_view_settings(DbConn *source, DbConn *dest, ViewSettings *ret_settings, Error *err);
NODISCARD bool finish_view_settings_back(DbConn *dest, ViewSettings *settings, Error *err);

/* SQL that gives a session that writes rows, or builds indexes, the source database's own settings of how values are
 * written: expressions of the destination then compute what they computed on the source. Both sessions idle. */
typedef struct WriteSettings {
    const char *session; /* for all of the session */
    const char *local;   /* until the transaction ends */
} WriteSettings;

NODISCARD bool finish_write_settings(DbConn *source, DbConn *dest, Arena *arena, WriteSettings *ret_settings,
                                     Error *err);

/* While a table of the destination is copied once more: without the constraints that its old rows need not keep, which
 * come back behind the copy. Both in the caller's transaction. table: quoted; a root means all its leaves. */
NODISCARD bool finish_not_valid_aside(DbConn *dest, Arena *arena, const char *table, StringVec *ret_back, Error *err);
NODISCARD bool finish_not_valid_back(DbConn *dest, const StringVec *back, Error *err);
/* Which NOT VALID constraint of a domain of the source's table `table` (its oid) is named in what the destination said
 * of a row; *ret_what NULL = none. */
NODISCARD bool finish_not_valid_refuses(DbConn *source, Arena *arena, uint32_t table, const char *message,
                                        const char **ret_what, Error *err);

/* ALTER DATABASE ... SET, ALTER ROLE ... IN DATABASE SET, comment and grants of the database. What the role may not set
 * is listed. again: once more before a promote, without default_transaction_read_only, which may be the fence of
 * another migration's; what was reset on the source meanwhile stays. */
NODISCARD bool finish_database(const LoadParams *params, DbConn *source, DbConn *dest, bool again,
                               NotMovedVec *not_moved, Arena *arena, Error *err);
/* Members of the source's extensions that the destination's do not have: tables that pass `wanted`, and where both
 * sides have the extension all else, unless filters leave out most anyway; with another version, what is not plainly
 * the extension's own. Relies on pg_identify_object(), whose identities differ between majors in their schemas only.
 * Both sessions idle. */
typedef struct MembersParams {
    bool (*wanted)(void *context, const char *schema, const char *name);
    void *context;
    bool filtered;
} MembersParams;
NODISCARD bool finish_extension_members(DbConn *source, DbConn *dest, const MembersParams *params, Arena *arena,
                                        NotMovedVec *not_moved, Error *err);

/* For people. NULL: sessions of the destination may write. The setting moves from a source that was frozen, too. */
NODISCARD bool finish_read_only_note(DbConn *dest, Arena *arena, const char **ret_note, Error *err);
/* For people: event triggers that are disabled on the destination. Some may have been disabled for the migration's
 * sake, and moved as such. NULL: none. */
NODISCARD bool finish_event_triggers_note(DbConn *dest, Arena *arena, const char **ret_note, Error *err);
