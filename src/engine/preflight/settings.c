/* What a destination has to be set to: parameters that give text and times their meaning, libraries to be preloaded. */
#include "engine/preflight/check.h"

#include "engine/preflight/provider.h"
#include "pg/quote.h"

/* --- parameters --- */

/* As an application meets them: not as a setting of our own role says. What the source's database sets itself moves. */
#define SQL_PARAMETERS(of_database)                                                                                    \
    "SELECT s.name, s.reset_val FROM pg_catalog.pg_settings s WHERE s.name IN ('TimeZone', 'DateStyle',"               \
    " 'IntervalStyle', 'standard_conforming_strings', 'default_transaction_isolation', 'bytea_output',"                \
    " 'array_nulls', 'transform_null_equals', 'xmlbinary', 'lc_monetary', 'lc_numeric', 'lc_time',"                    \
    " 'default_text_search_config') AND NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting o,"                      \
    "  pg_catalog.unnest(o.setconfig) v WHERE pg_catalog.lower(pg_catalog.split_part(v, '=', 1))"                      \
    "   = pg_catalog.lower(s.name) AND (" of_database "o.setrole = (SELECT r.oid FROM pg_catalog.pg_roles r"           \
    "    WHERE r.rolname = session_user))) ORDER BY s.name"

static const char source_parameters[] =
    SQL_PARAMETERS("o.setdatabase = (SELECT d.oid FROM pg_catalog.pg_database d"
                   " WHERE d.datname = pg_catalog.current_database()) AND o.setrole = 0 OR ");
static const char dest_parameters[] = SQL_PARAMETERS("");

static bool is_same(const char *name, const char *left, const char *right) {
    return strncmp(name, "lc_", 3) == 0 ? locale_same(left, right) : strcmp(left, right) == 0;
}

static bool report_parameter(Preflight *p, const char *name, const char *ours, const char *theirs, Error *err) {
    CLEANUP(db_result_freep) DbResult *quoted = NULL;
    const char *const params[] = {p->input->dest_absent ? db_name(p->input->source) : db_name(p->input->dest), ours};

    if (!db_query(p->input->dest, "SELECT pg_catalog.quote_ident($1), pg_catalog.quote_literal($2)", 2, params, &quoted,
                  err))
        return false;
    const char *const values[] = {name, ours, theirs, db_text(quoted, 0, 0), db_text(quoted, 0, 1)};
    finding_add(p, CHECK_DESTINATION_SETTING, template_fill(p->scratch, "setting {1}", values, 5),
                template_fill(p->scratch,
                              "{1} is {2} on the source and {3} at the destination: the application's text, times or"
                              " transactions may mean something else there",
                              values, 5),
                template_fill(p->scratch,
                              p->input->dest_absent ? "-- when the database is made: ALTER DATABASE {4} SET {1} = {5};"
                                                    : "ALTER DATABASE {4} SET {1} = {5};",
                              values, 5));
    return true;
}

bool check_dest_settings(Preflight *p, Error *err) {
    CLEANUP(db_result_freep) DbResult *source = NULL;
    CLEANUP(db_result_freep) DbResult *dest = NULL;

    if (!preflight_query(p, DB_SOURCE, source_parameters, &source, err) ||
        !preflight_query(p, DB_DEST, dest_parameters, &dest, err))
        return false;
    const RowIndex *index = row_index_new(p->scratch, dest, 0);
    for (int row = 0; row < db_rows(source); row++) {
        const char *name = db_text(source, row, 0), *ours = db_text(source, row, 1);
        int found = row_index_find(index, name);

        if (found >= 0 && !is_same(name, ours, db_text(dest, found, 1)) &&
            !report_parameter(p, name, ours, db_text(dest, found, 1), err))
            return false;
    }
    return true;
}

/* --- libraries --- */

static const char preload[] = "shared_preload_libraries";
/* A library by its name, without folder and ending. */
#define SQL_PRELOADED                                                                                                  \
    "SELECT pg_catalog.regexp_replace(pg_catalog.btrim(l, ' \"'), '^.*/|[.]so$', '', 'g')"                             \
    " FROM pg_catalog.pg_settings s, pg_catalog.unnest(pg_catalog.string_to_array(s.setting, ',')) l"                  \
    " WHERE s.name = 'shared_preload_libraries'"

/* (what needs it, as SQL quotes it; the library; its kind) */
typedef struct PreloadCheck {
    CheckId check;
    const char *sql;
    const char *what, *message;
} PreloadCheck;

/* Each library a literal of its own: all in one would be taken for the name of one library. */
static const char *literals_of(Arena *arena, const char *list, const char *one_more) {
    const char *text = "";

    for (const char *at = list; *at != '\0';) {
        size_t len = strcspn(at, ",");
        const char *name = arena_strndup(arena, at, len);

        name += strspn(name, " \"");
        name = arena_strndup(arena, name, strcspn(name, " \""));
        if (name[0] != '\0')
            text = arena_printf(arena, "%s%s, ", text, sql_literal(arena, name));
        at += len + (at[len] == ',');
    }
    return arena_printf(arena, "%s%s", text, sql_literal(arena, one_more));
}

static bool report_preload(Preflight *p, const PreloadCheck *check, const char *library, const char *there,
                           Error *err) {
    Provider provider = PROVIDER_SELF;
    if (!provider_of(p, DB_DEST, &provider, err))
        return false;
    const char *const values[] = {library};
    const char *comma = there[0] != '\0' ? ", " : "";
    const char *value = provider == PROVIDER_SELF ? literals_of(p->scratch, there, library)
                                                  : arena_printf(p->scratch, "%s%s%s", there, comma, library);
    finding_add(p, check->check, template_fill(p->scratch, check->what, values, 1),
                template_fill(p->scratch, check->message, values, 1),
                provider_setting(p->scratch, provider, preload, value, true));
    return true;
}

/* A role that may not see the setting sees no row. */
static bool check_preload(Preflight *p, const PreloadCheck *check, Error *err) {
    CLEANUP(db_result_freep) DbResult *needed = NULL;
    CLEANUP(db_result_freep) DbResult *visible = NULL;
    CLEANUP(db_result_freep) DbResult *loaded = NULL;

    if (!preflight_query(p, DB_SOURCE, check->sql, &needed, err))
        return false;
    if (db_rows(needed) == 0)
        return true;
    if (!preflight_query(p, DB_DEST,
                         "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'shared_preload_libraries'",
                         &visible, err) ||
        !preflight_query(p, DB_DEST, SQL_PRELOADED, &loaded, err))
        return false;
    if (db_rows(visible) != 1)
        return sight_of_settings(p, DB_DEST, err);
    const RowIndex *index = row_index_new(p->scratch, loaded, 0);
    for (int row = 0; row < db_rows(needed); row++)
        if (row_index_find(index, db_text(needed, row, 0)) < 0 &&
            !report_preload(p, check, db_text(needed, row, 0), db_text(visible, 0, 0), err))
            return false;
    return true;
}

bool check_security_label(Preflight *p, Error *err) {
    static const PreloadCheck check = {
        .check = CHECK_SECURITY_LABEL,
        .sql = "SELECT DISTINCT l.provider FROM pg_catalog.pg_seclabel l ORDER BY 1",
        .what = "security label provider {1}",
        .message = "the source has security labels of provider {1}, which the destination's server does not load: they"
                   " cannot be set there",
    };
    return p->input->options->data_only || check_preload(p, &check, err);
}

/* --- --data-only --- */

bool check_data_only_trigger(Preflight *p, Error *err) {
    static const SqlCheck check = {
        .check = CHECK_DATA_ONLY_TRIGGER,
        .side = DB_DEST,
        .by_table = true,
        .columns = 5,
        .sql = "SELECT n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
               " pg_catalog.quote_ident(t.tgname), CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END"
               " FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid"
               " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
               " WHERE t.tgenabled IN ('A', 'R') AND NOT t.tgisinternal AND " SQL_USER_SCHEMA " ORDER BY 1, 2, 4",
        .object = "trigger {4} of table {3}",
        .message = "trigger {4} of table {3} of the destination is ENABLE {5}: it fires on each row that arrives",
        .fix = "ALTER TABLE {3} DISABLE TRIGGER {4}; -- until the load is done",
    };
    return !p->input->options->data_only || check_by_sql(p, &check, err);
}
