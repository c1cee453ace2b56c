/* Extensions of the source: can the destination have them, in the same version, and may its role make them? */
#include "engine/preflight/check.h"
#include "engine/preflight/preload.h"

#include <fnmatch.h>

typedef struct PackageRule {
    const char *pattern; /* of the extension's name */
    const char *package; /* {1} = major version of the server */
} PackageRule;

/* Packages of Debian and of PostgreSQL's own repository whose names do not follow from the extension's. */
static const PackageRule package_rules[] = {
    {"address_standardizer*", "postgresql-{1}-postgis-3"},
    {"citus*", "postgresql-{1}-citus"},
    {"h3*", "postgresql-{1}-h3"},
    {"pg_cron", "postgresql-{1}-cron"},
    {"pg_hint_plan", "postgresql-{1}-pg-hint-plan"},
    {"pg_partman", "postgresql-{1}-partman"},
    {"pg_qualstats", "postgresql-{1}-pg-qualstats"},
    {"pg_repack", "postgresql-{1}-repack"},
    {"pg_squeeze", "postgresql-{1}-squeeze"},
    {"plperl*", "postgresql-plperl-{1}"},
    {"plpython*", "postgresql-plpython3-{1}"},
    {"pltcl*", "postgresql-pltcl-{1}"},
    {"postgis*", "postgresql-{1}-postgis-3"},
    {"temporal_tables", "postgresql-{1}-temporal-tables"},
    {"timescaledb*", "timescaledb-2-postgresql-{1}"},
    {"vector", "postgresql-{1}-pgvector"},
};

char *extension_package(Arena *arena, const char *extension, int major) {
    const char *const values[] = {arena_printf(arena, "%d", major)};
    for (size_t i = 0; i < COUNT_OF(package_rules); i++)
        if (fnmatch(package_rules[i].pattern, extension, 0) == 0)
            return template_fill(arena, package_rules[i].package, values, 1);
    char *package = arena_printf(arena, "postgresql-%d-%s", major, extension);
    for (char *c = package; *c != '\0'; c++)
        if (*c == '_')
            *c = '-';
    return package;
}

/* (name, quoted, version) */
static const char source_sql[] = "SELECT e.extname, pg_catalog.quote_ident(e.extname), e.extversion"
                                 " FROM pg_catalog.pg_extension e WHERE e.extname <> 'plpgsql' ORDER BY e.extname";

/* (name, version it would get or has, is it there, (name, version) pairs follow in versions_sql). A database that is
 * yet to be made has none. */
static const char available_sql[] = "SELECT a.name, COALESCE(a.installed_version, a.default_version),"
                                    " a.installed_version IS NOT NULL FROM pg_catalog.pg_available_extensions a";
static const char default_sql[] = "SELECT a.name, a.default_version, false FROM pg_catalog.pg_available_extensions a";

/* "name version" -> does creating it need a superuser? Trusted extensions came with 13. */
static const char *versions_sql(Preflight *p) {
    return arena_printf(p->scratch,
                        "SELECT v.name || ' ' || v.version, v.superuser%s"
                        " FROM pg_catalog.pg_available_extension_versions v",
                        db_major(p->input->dest) >= 13 ? " AND NOT v.trusted" : "");
}

static void report_extension_missing(Preflight *p, const char *name, const char *quoted) {
    finding_add(
        p, CHECK_EXTENSION_MISSING, arena_printf(p->scratch, "extension %s", quoted),
        arena_printf(p->scratch, "the source uses extension %s, which the destination's server does not have", quoted),
        arena_printf(p->scratch, "apt-get install %s # on the destination's machine",
                     extension_package(p->scratch, name, db_major(p->input->dest))));
}

static void report_extension_version(Preflight *p, const char *quoted, const char *ours, const char *theirs,
                                     bool has_ours) {
    const char *advice =
        has_ours
            ? arena_printf(p->scratch, "CREATE EXTENSION %s VERSION '%s'; -- on the destination, before the load",
                           quoted, ours)
            : arena_printf(p->scratch, "ALTER EXTENSION %s UPDATE; -- on the source, if it has %s", quoted, theirs);
    finding_add(p, CHECK_EXTENSION_VERSION, arena_printf(p->scratch, "extension %s", quoted),
                arena_printf(p->scratch, "extension %s is %s on the source and will be %s at the destination", quoted,
                             ours, theirs),
                advice);
}

static void report_extension_privilege(Preflight *p, const char *quoted) {
    finding_add(
        p, CHECK_EXTENSION_PRIVILEGE, arena_printf(p->scratch, "extension %s", quoted),
        arena_printf(p->scratch, "extension %s can be made only by a superuser, which role %s is not", quoted,
                     p->dest_role.quoted),
        arena_printf(p->scratch, "CREATE EXTENSION %s; -- as a superuser of the destination, before the load", quoted));
}

bool check_extensions(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *source = NULL;
    CLEANUP(db_result_freep) DbResult *available = NULL;
    CLEANUP(db_result_freep) DbResult *versions = NULL;
    PreloadSubjectVec subjects = {0};
    if (p->input->options->data_only)
        return true;
    if (!preflight_query(p, DB_SOURCE, source_sql, &source, err) ||
        !preflight_query(p, DB_DEST, p->input->dest_absent ? default_sql : available_sql, &available, err) ||
        !preflight_query(p, DB_DEST, versions_sql(p), &versions, err))
        return false;
    const RowIndex *available_index = row_index_new(p->scratch, available, 0);
    const RowIndex *versions_index = row_index_new(p->scratch, versions, 0);
    bool may_all = p->dest_role.superuser || p->dest_role.managed;
    for (int row = 0; row < db_rows(source); row++) {
        const char *name = db_text(source, row, 0), *quoted = db_text(source, row, 1), *ours = db_text(source, row, 2);
        int found = row_index_find(available_index, name);
        if (found < 0) {
            report_extension_missing(p, name, quoted);
            continue;
        }
        vec_push(p->scratch, &subjects, ((PreloadSubject){name, quoted, db_bool(available, found, 2)}));
        const char *theirs = db_text(available, found, 1);
        bool has_ours = row_index_find(versions_index, arena_printf(p->scratch, "%s %s", name, ours)) >= 0;
        if (strcmp(ours, theirs) != 0)
            report_extension_version(p, quoted, ours, theirs, has_ours);
        int version = row_index_find(versions_index, arena_printf(p->scratch, "%s %s", name, theirs));
        if (!may_all && !db_bool(available, found, 2) && version >= 0 && db_bool(versions, version, 1))
            report_extension_privilege(p, quoted);
    }
    return preload_check(p, &subjects, err);
}
