/* Extensions whose library has to be loaded when the server starts. */
#include "engine/preflight/preload.h"

#include "pg/quote.h"

#include <string.h>

typedef struct PreloadRule {
    const char *extension, *library;
    const char *class; /* of its settings: "cron" of cron.database_name */
    bool needed;       /* CREATE EXTENSION fails without it */
    const char *lost;  /* what there is not without it */
} PreloadRule;

static const PreloadRule rules[] = {
    {"citus", "citus", "citus", true, ""},
    {"pg_cron", "pg_cron", "cron", true, ""},
    {"pg_net", "pg_net", "pg_net", true, ""},
    {"pg_partman", "pg_partman_bgw", "pg_partman_bgw", false,
     "partitions are made only where run_maintenance() is called"},
    {"pg_qualstats", "pg_qualstats", "pg_qualstats", false, "it collects nothing"},
    {"pg_squeeze", "pg_squeeze", "squeeze", true, ""},
    {"pg_stat_kcache", "pg_stat_kcache", "pg_stat_kcache", true, ""},
    {"pg_stat_monitor", "pg_stat_monitor", "pg_stat_monitor", false, "its views fail"},
    {"pg_stat_statements", "pg_stat_statements", "pg_stat_statements", false, "its views fail"},
    {"pg_wait_sampling", "pg_wait_sampling", "pg_wait_sampling", false, "it collects nothing"},
    {"pgaudit", "pgaudit", "pgaudit", true, ""},
    {"pglogical", "pglogical", "pglogical", true, ""},
    {"pgsodium", "pgsodium", "pgsodium", false, "the server has no key of its own"},
    {"powa", "powa", "powa", false, "it collects nothing"},
    {"timescaledb", "timescaledb", "timescaledb", true, ""},
    {"vchord", "vchord", "vchordrq", true, ""},
};

typedef struct Missing {
    const PreloadRule *rule;
    const PreloadSubject *subject;
} Missing;

typedef struct Preload {
    Preflight *p;
    VEC(Missing) missing;
    StringVec shared; /* the list as it is, without quotes */
    StringVec loaded; /* libraries of that and of session_preload_libraries, without folder and .so */
    bool shared_is_seen;
} Preload;

static const PreloadRule *find_rule(const char *extension) {
    for (size_t i = 0; i < COUNT_OF(rules); i++)
        if (strcmp(rules[i].extension, extension) == 0)
            return &rules[i];
    return NULL;
}

static bool has(const StringVec *list, const char *text) {
    for (size_t i = 0; i < list->len; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

static bool read_libraries(Preload *preload, Error *err) {
    CLEANUP(db_result_freep) DbResult *rows = NULL;
    Arena *arena = preload->p->scratch;

    if (!preflight_query(
            preload->p, DB_DEST,
            "SELECT s.name = 'shared_preload_libraries', l.item,"
            " pg_catalog.regexp_replace(l.item, '^.*/|[.]so$', '', 'g') FROM pg_catalog.pg_settings s"
            " CROSS JOIN LATERAL (SELECT pg_catalog.btrim(i.item, ' \"'), i.n FROM"
            "  pg_catalog.regexp_split_to_table(s.setting, ',') WITH ORDINALITY AS i (item, n)) AS l (item, n)"
            " WHERE s.name IN ('shared_preload_libraries', 'session_preload_libraries') ORDER BY s.name, l.n",
            &rows, err))
        return false;
    for (int row = 0; row < db_rows(rows); row++) {
        bool shared = db_bool(rows, row, 0);

        preload->shared_is_seen = preload->shared_is_seen || shared;
        if (db_text(rows, row, 1)[0] == '\0')
            continue;
        if (shared)
            vec_push(arena, &preload->shared, arena_strdup(arena, db_text(rows, row, 1)));
        vec_push(arena, &preload->loaded, arena_strdup(arena, db_text(rows, row, 2)));
    }
    return true;
}

/* All that are missing at once: the second of two commands would take the place of the first. */
static const char *fix_text(const Preload *preload) {
    Arena *arena = preload->p->scratch;
    bool by_provider = preload->p->dest_role.managed || !preload->shared_is_seen;
    const char *list = "", *names = "";

    for (size_t i = 0; i < preload->shared.len; i++)
        list = arena_printf(arena, "%s%s%s", list, list[0] == '\0' ? "" : ", ",
                            by_provider ? preload->shared.items[i] : sql_literal(arena, preload->shared.items[i]));
    for (size_t i = 0; i < preload->missing.len; i++) {
        const char *library = preload->missing.items[i].rule->library;

        list = arena_printf(arena, "%s%s%s", list, list[0] == '\0' ? "" : ", ",
                            by_provider ? library : sql_literal(arena, library));
        names = arena_printf(arena, "%s%s%s", names, i > 0 ? ", " : "", library);
    }
    if (!preload->shared_is_seen)
        return arena_printf(arena, "add to shared_preload_libraries of the destination: %s; then restart it", names);
    if (by_provider)
        return arena_printf(
            arena, "in the parameters of the destination: shared_preload_libraries = %s; then restart it", list);
    return arena_printf(arena, "ALTER SYSTEM SET shared_preload_libraries = %s; -- on the destination, then restart it",
                        list);
}

static void report(const Preload *preload, const Missing *missing, const char *fix) {
    Arena *arena = preload->p->scratch;
    const PreloadRule *rule = missing->rule;
    bool fails = rule->needed && !missing->subject->installed;
    const char *object = arena_printf(arena, "extension %s", missing->subject->quoted);

    if (fails)
        finding_add(preload->p, CHECK_EXTENSION_PRELOAD, object,
                    arena_printf(arena,
                                 "extension %s cannot be created: the destination does not load its library %s"
                                 " when it starts",
                                 missing->subject->quoted, rule->library),
                    fix);
    else
        finding_add(preload->p, CHECK_EXTENSION_IDLE, object,
                    arena_printf(arena, "the destination does not load library %s of extension %s when it starts%s%s",
                                 rule->library, missing->subject->quoted, rule->lost[0] == '\0' ? "" : ": ",
                                 rule->lost),
                    fix);
}

static bool check_loaded(Preload *preload, const PreloadSubjectVec *subjects, Error *err) {
    CLEANUP(db_result_freep) DbResult *classes = NULL;
    Preflight *p = preload->p;

    if (!read_libraries(preload, err) ||
        !preflight_query(p, DB_DEST,
                         "SELECT DISTINCT pg_catalog.split_part(s.name, '.', 1) FROM pg_catalog.pg_settings s"
                         " WHERE pg_catalog.strpos(s.name, '.') > 0",
                         &classes, err))
        return false;
    const RowIndex *index = row_index_new(p->scratch, classes, 0);
    for (size_t i = 0; i < subjects->len; i++) {
        const PreloadRule *rule = find_rule(subjects->items[i].name);

        if (rule != NULL && !has(&preload->loaded, rule->library) && row_index_find(index, rule->class) < 0)
            vec_push(p->scratch, &preload->missing, ((Missing){.rule = rule, .subject = &subjects->items[i]}));
    }
    const char *fix = fix_text(preload);
    for (size_t i = 0; i < preload->missing.len; i++)
        report(preload, &preload->missing.items[i], fix);
    return true;
}

bool preload_check(Preflight *p, const PreloadSubjectVec *subjects, Error *err) {
    Preload preload = {.p = p};
    bool any = false;

    for (size_t i = 0; i < subjects->len; i++)
        any = any || find_rule(subjects->items[i].name) != NULL;
    return !any || check_loaded(&preload, subjects, err);
}
