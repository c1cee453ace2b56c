/*
 * What a migration of a whole instance needs once: which databases there are, and on the destination the roles and the
 * empty databases. What is inside a database is moved, with its settings and grants, database by database.
 *
 * Contract
 * - The source is only read. On the destination nothing is dropped, and nothing that is there is changed, but for what
 *   is added: memberships, options of memberships, and settings that a role does not have. What differs is told.
 * - What the destination's role may not do is left out, and becomes a finding with the SQL for somebody who may.
 * - Everything may be repeated, also after a crash at any moment (prepare.c and create.c say why).
 * - Both connections are idle (no transaction) before and after. All results are in the arena given, as are findings;
 *   those are added only when the function succeeds.
 * - One thread. An Error is for a lost connection, a stop, or a server that says something unexpected.
 */
#pragma once

#include "common/json.h"
#include "model/finding.h"
#include "pg/query.h"

typedef struct InstanceDatabase {
    const char *name;
    int64_t bytes;        /* -1 = not known */
    const char *owner;    /* role of the source */
    bool owner_is_theirs; /* the source's provider's */
    const char *encoding; /* as PostgreSQL calls it */
    const char *provider; /* of the locale: libc, icu, builtin */
    const char *collate, *ctype;
    const char *locale;     /* of icu and builtin; NULL = none */
    const char *rules;      /* ICU's tailoring, NULL = none */
    const char *tablespace; /* NULL = pg_default */
    bool placed;            /* --tablespace-map says where it goes: */
    const char *place;      /* tablespace of the destination; NULL = its default */
    int64_t limit;          /* of connections, -1 = none */
    bool exists;            /* on the destination before this run */
    bool made;              /* by this run */
} InstanceDatabase;

typedef struct InstanceNotMoved {
    const char *name, *reason;
} InstanceNotMoved;

typedef struct InstanceList {
    VEC(InstanceDatabase) databases; /* by name */
    VEC(InstanceNotMoved) not_moved;
} InstanceList;

typedef struct InstanceInput {
    DbConn *source, *dest;         /* dest may be NULL: list only */
    const DbTarget *source_target; /* to look into one more database of the source */
    bool all;                      /* whatever can be moved, or */
    bool check, prepare;           /* of `all`: with none that can be moved nothing is to be begun */
    StringVec names;               /* exactly these; twice is once */
    StringVec apart;               /* of those, the ones that need no room any more */
    StringVec over;             /* of `all`: moved already, and whoever has them now may have renamed or dropped them:
                                 * they are not moved, and nothing is asked of them */
    const char *tablespace_map; /* the option (model/tablespace_map.h); NULL = none */
    bool closed;                /* databases are made with CONNECTION LIMIT 0: whoever asks for that opens them */
    /* A new password for a role whose verifier cannot be read at the source, the same one each time it is asked for. It
     * is in the arena, and overwritten when it was used. NULL = roles get none. */
    NODISCARD bool (*new_password)(void *context, Arena *arena, const char *role, char **ret_password, Error *err);
    /* Told before they are committed: whoever gives passwords out has to know of them whatever happens then. */
    NODISCARD bool (*new_passwords_told)(void *context, const StringVec *roles, Error *err);
    void *context;
} InstanceInput;

/* Databases that move, and with `all` those that do not. A name that cannot be moved is a finding of severity ERROR,
 * and so is a server that this does not work with. */
NODISCARD bool instance_list(Arena *arena, const InstanceInput *input, InstanceList *ret_list, FindingVec *findings,
                             Error *err);

/* Is there room for all of the list at the same time? Reads only. follow: each needs a slot and walsenders. */
NODISCARD bool instance_check_room(Arena *arena, const InstanceInput *input, const InstanceList *list, bool follow,
                                   FindingVec *findings, Error *err);

/* Will everybody's password be taken by the destination? Reads only; needs a dest. */
NODISCARD bool instance_check_passwords(Arena *arena, const InstanceInput *input, FindingVec *findings, Error *err);

typedef struct InstanceMade {
    int64_t roles, memberships, settings, databases;
    StringVec new_passwords; /* roles that were given one */
} InstanceMade;

/* Roles of the source that the destination lacks, their passwords' verifiers, memberships, settings. */
NODISCARD bool instance_make_roles(Arena *arena, const InstanceInput *input, const InstanceList *list,
                                   InstanceMade *made, FindingVec *findings, Error *err);
/* Databases of the list that the destination lacks. What exists and what was made is noted in `list` and `made`, also
 * when it fails on the way: run again with the same list it goes on. A database that cannot be made is a finding of
 * severity ERROR. */
NODISCARD bool instance_make_databases(Arena *arena, const InstanceInput *input, InstanceList *list, InstanceMade *made,
                                       FindingVec *findings, Error *err);

/* Every kind of finding there is, for whoever shows or counts them. */
typedef struct InstanceFindingInfo {
    const char *id;
    Severity severity;
    const char *side;
    const char *google; /* the code of Google's MigrationJobVerificationError that is nearest */
    const char *help;
} InstanceFindingInfo;
extern const InstanceFindingInfo instance_findings[];
extern const size_t instance_findings_count;

/* DATABASES' body. New reference. */
json_t *instance_list_to_json(const InstanceList *list, bool has_dest);
