/* A finding of the pre-flight checks: what is wrong, where, and the SQL or command that mends it. */
#include "model/finding.h"

#include <string.h>

static const char *const severity_names[] = {"error", "warning", "info"};

const char *severity_name(Severity severity) {
    return severity_names[severity];
}

/* A managed service's wording is no SQL: each statement of these begins so. */
static bool is_sql(const char *fix) {
    static const char *const beginnings[] = {"GRANT ", "ALTER ROLE ", "ALTER USER ", "ALTER DATABASE ", "CREATE ROLE "};

    for (size_t i = 0; i < COUNT_OF(beginnings); i++)
        if (strncmp(fix, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

typedef enum MendScope { MEND_DATABASE, MEND_SERVER } MendScope;

static const struct {
    const char *id;
    MendScope scope;
} mends[] = {
#define X(id, scope) {#id, MEND_##scope},
#include "model/mends.def"
#undef X
};

bool finding_has_safe_mend(const Finding *finding) {
    for (size_t i = 0; i < COUNT_OF(mends); i++)
        if (strcmp(mends[i].id, finding->id) == 0)
            return is_sql(finding->fix);
    return false;
}

bool finding_mends_server(const Finding *finding) {
    for (size_t i = 0; i < COUNT_OF(mends); i++)
        if (strcmp(mends[i].id, finding->id) == 0)
            return mends[i].scope == MEND_SERVER;
    return false;
}

/* Without what is said behind it. Names in double quotes may hold anything; literals stand in none of these. */
static size_t statement_len(const char *fix) {
    bool quoted = false;
    size_t len = 0;

    for (; fix[len] != '\0' && (quoted || fix[len] != ';'); len++)
        quoted = quoted != (fix[len] == '"');
    return len;
}

bool mend_is_same(const char *left, const char *right) {
    size_t len = statement_len(left);

    return len == statement_len(right) && memcmp(left, right, len) == 0;
}

size_t findings_count(const FindingVec *findings, Severity severity) {
    size_t count = 0;
    for (size_t i = 0; i < findings->len; i++)
        count += findings->items[i].severity == severity;
    return count;
}

json_t *findings_to_json(const FindingVec *findings) {
    json_t *array = json_array();
    for (size_t i = 0; i < findings->len; i++) {
        const Finding *finding = &findings->items[i];
        json_t *object = json_object();
        json_object_set_new(object, "id", json_string_lossy(finding->id));
        json_object_set_new(object, "code", json_string_lossy(finding->code != NULL ? finding->code : ""));
        json_object_set_new(object, "severity", json_string(severity_name(finding->severity)));
        json_object_set_new(object, "side", json_string_lossy(finding->side));
        json_object_set_new(object, "object", json_string_lossy(finding->object));
        json_object_set_new(object, "message", json_string_lossy(finding->message));
        json_object_set_new(object, "fix", json_string_lossy(finding->fix));
        if (finding->mendable)
            json_object_set_new(object, "mendable", json_true());
        json_array_append_new(array, object);
    }
    return array;
}

static bool severity_from_name(const char *name, Severity *ret_severity) {
    for (size_t i = 0; i < COUNT_OF(severity_names); i++) {
        if (strcmp(severity_names[i], name) == 0) {
            *ret_severity = (Severity)i;
            return true;
        }
    }
    return false;
}

static const char *text_of(Arena *arena, const json_t *object, const char *key) {
    return arena_strdup(arena, json_get_string(object, key, ""));
}

bool findings_from_json(Arena *arena, const json_t *json, FindingVec *ret_findings, Error *err) {
    if (!json_is_array(json))
        return error_set(err, REASON_WIRE_BAD, "findings: not a list");
    FindingVec findings = {0};
    for (size_t i = 0; i < json_array_size(json); i++) {
        const json_t *object = json_array_get(json, i);
        Finding finding = {
            .id = text_of(arena, object, "id"),
            .code = text_of(arena, object, "code"),
            .side = text_of(arena, object, "side"),
            .object = text_of(arena, object, "object"),
            .message = text_of(arena, object, "message"),
            .fix = text_of(arena, object, "fix"),
            .mendable = json_get_bool(object, "mendable", false),
        };
        if (!severity_from_name(json_get_string(object, "severity", ""), &finding.severity))
            return error_set(err, REASON_WIRE_BAD, "findings: item %zu has no severity", i);
        vec_push(arena, &findings, finding);
    }
    *ret_findings = findings;
    return true;
}
