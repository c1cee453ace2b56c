/*
 * All checks before anything is changed: runs the table of checks.def and gathers the findings.
 *
 * A function that stands in several rows is called once. What fails inside a check (a view that this role may not read,
 * on a managed service say) costs only that check and is reported as CHECK_IMPOSSIBLE; a lost connection ends the run.
 */
#include "engine/preflight/preflight.h"

#include "engine/preflight/check.h"

typedef bool (*CheckFunc)(Preflight *p, Error *err);

const CheckInfo preflight_checks[] = {
#define X(id, severity, side, function, google, help) {#id, SEVERITY_##severity, side, google, help},
#include "engine/preflight/checks.def"
#undef X
};
const size_t preflight_checks_count = COUNT_OF(preflight_checks);

static const CheckFunc check_functions[CHECK_MAX_] = {
#define X(id, severity, side, function, google, help) function,
#include "engine/preflight/checks.def"
#undef X
};

static bool role_facts_read(Preflight *p, DbSide side, RoleFacts *ret_facts, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    const char *sql = arena_printf(p->scratch,
                                   "SELECT current_user, pg_catalog.quote_ident(current_user), r.rolsuper,"
                                   " EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname IN ('rds_superuser',"
                                   " 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin', 'neon_superuser')"
                                   " AND pg_catalog.pg_has_role(g.oid, 'MEMBER') AND NOT r.rolsuper), %s"
                                   " FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
                                   sight_sql(p->scratch, db_major(preflight_conn(p, side))));
    if (!preflight_query(p, side, sql, &rows, err))
        return false;
    if (db_rows(rows) != 1)
        return error_set(err, REASON_SQL_FAILED, "%s: the current role is not in pg_roles", db_side_name(side));
    *ret_facts = (RoleFacts){
        .name = arena_strdup(p->arena, db_text(rows, 0, 0)),
        .quoted = arena_strdup(p->arena, db_text(rows, 0, 1)),
        .superuser = db_bool(rows, 0, 2),
        .managed = db_bool(rows, 0, 3),
        .sees_sessions = db_bool(rows, 0, 4),
        .sees_settings = db_bool(rows, 0, 5),
    };
    return true;
}

/* Nothing more can be asked: the session is gone, or we were told to stop. */
static bool run_is_over(const Preflight *p, const Error *failure) {
    return failure->reason == REASON_CANCELLED || db_is_broken(p->input->source) || db_is_broken(p->input->dest);
}

static void report_impossible(Preflight *p, CheckId check, const Error *failure) {
    const char *message =
        arena_printf(p->scratch, "not known whether %s: %s", preflight_checks[check].help, failure->message);
    finding_add(p, CHECK_CHECK_IMPOSSIBLE, arena_printf(p->scratch, "check %s", preflight_checks[check].id), message,
                failure->remedy);
    /* Which side it is about is the failed check's, not this row's. */
    p->findings->items[p->findings->len - 1].side = preflight_checks[check].side;
}

static void report_cut(Preflight *p, CheckId check) {
    size_t count = p->counts[check];
    if (count <= FINDINGS_PER_CHECK)
        return;
    Finding summary = {
        .id = preflight_checks[check].id,
        .severity = preflight_checks[check].severity,
        .side = preflight_checks[check].side,
        .object = "",
        .message = arena_printf(p->arena, "%zu more objects with the same finding, %zu in all; the first %d are listed",
                                count - FINDINGS_PER_CHECK, count, (int)FINDINGS_PER_CHECK),
        .fix = "",
    };
    vec_push(p->arena, p->findings, summary);
}

/* Questions to the destination's database, which may be yet to be made, and those that are asked only then. */
static const CheckFunc of_database[] = {check_same_database, check_dest_create, check_dest_schema_create,
                                        check_encoding,      check_locale,      check_dest_event_trigger,
                                        check_content};
static const CheckFunc of_absent[] = {check_dest_createdb, check_dest_locale_there};

static bool is_among(CheckFunc function, const CheckFunc *functions, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (functions[i] == function)
            return true;
    return false;
}

/* Named by its first row. */
static bool is_wanted(const Preflight *p, size_t first) {
    static const char follow[] = "FOLLOW_";
    CheckFunc function = check_functions[first];

    if (p->input->dest_absent ? is_among(function, of_database, COUNT_OF(of_database))
                              : is_among(function, of_absent, COUNT_OF(of_absent)))
        return false;
    return p->input->options->follow || strncmp(preflight_checks[first].id, follow, strlen(follow)) != 0;
}

static bool run_checks(Preflight *p, Error *err) {
    for (size_t first = 0; first < CHECK_MAX_;) {
        CheckFunc function = check_functions[first];
        size_t end = first + 1;
        while (end < CHECK_MAX_ && check_functions[end] == function)
            end++;
        if (function != NULL && is_wanted(p, first) && !function(p, err)) {
            if (run_is_over(p, err))
                return false;
            report_impossible(p, (CheckId)first, err);
        }
        for (size_t check = first; check < end; check++)
            report_cut(p, (CheckId)check);
        arena_reset(p->scratch);
        first = end;
    }
    return true;
}

bool preflight_run(Arena *arena, const PreflightInput *input, FindingVec *ret_findings, Estimate *ret_estimate,
                   Error *err) {
    CLEANUP(arena_freep) Arena *scratch = arena_new();
    const MigrateOptions *options = input->options;
    FindingVec findings = {0};
    Preflight p = {
        .arena = arena,
        .scratch = scratch,
        .input = input,
        .findings = &findings,
        .source_bytes = -1,
        .filtered =
            options->schemas.len + options->exclude_schemas.len + options->tables.len + options->exclude_tables.len > 0,
    };
    if (!role_facts_read(&p, DB_SOURCE, &p.source_role, err) || !role_facts_read(&p, DB_DEST, &p.dest_role, err) ||
        !run_checks(&p, err))
        return false;
    *ret_findings = findings;
    if (ret_estimate != NULL)
        *ret_estimate = p.estimate;
    return true;
}
