/* Connection strings without what is secret in them. libpq marks its secret options itself: their dispchar is '*'. */
#include "pg/strip.h"

#include "common/buf.h"
#include "pg/conn_internal.h"

#include <string.h>

enum { CONNINFO_MAX = 1024 * 1024 };

static void put_pair(Buf *out, const char *keyword, const char *value) {
    buf_printf(out, "%s%s='", out->len > 0 ? " " : "", keyword);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            buf_append_char(out, '\\');
        buf_append_char(out, *value);
    }
    buf_append_char(out, '\'');
}

bool db_strip_secrets(Arena *arena, const char *conninfo, const char **ret_conninfo, bool *ret_struck, Error *err) {
    CLEANUP(conninfo_freep) PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    CLEANUP(buf_fini) Buf out;
    bool struck = false;

    buf_init(&out, CONNINFO_MAX);
    if (options == NULL) /* libpq's complaint would quote it */
        return error_set(err, REASON_BAD_CONNINFO, "the connection string is not valid");
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->val == NULL || option->val[0] == '\0')
            continue;
        if (strcmp(option->dispchar, "*") == 0)
            struck = true;
        else
            put_pair(&out, option->keyword, option->val);
    }
    if (!buf_ok(&out, "connection string", err))
        return false;
    *ret_conninfo = arena_strndup(arena, out.data, out.len);
    *ret_struck = struck;
    return true;
}
