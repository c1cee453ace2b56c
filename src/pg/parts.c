/* Connection strings, taken apart by libpq's own parser. */
#include "pg/parts.h"

#include "pg/conn_internal.h"

#include <string.h>

bool db_each_part(const char *conninfo, DbPartTaker taker, void *context, Error *err) {
    CLEANUP(conninfo_freep) PQconninfoOption *options = PQconninfoParse(conninfo, NULL);

    if (options == NULL) /* libpq's complaint would quote it */
        return error_set(err, REASON_BAD_CONNINFO, "the connection string is not valid");
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->val == NULL || option->val[0] == '\0')
            continue;
        if (!taker(context, option->keyword, option->val, strcmp(option->dispchar, "*") == 0, err))
            return false;
    }
    return true;
}
