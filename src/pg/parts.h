/* What a connection string says, piece by piece. */
#pragma once

#include "common/error.h"

/* `value` is decoded, and valid during the call only; is_secret: a password or the like. False ends it with *err. */
typedef bool (*DbPartTaker)(void *context, const char *keyword, const char *value, bool is_secret, Error *err);

/* Everything that stands in a URI or key=value string, by libpq's keywords; what environment, service file and .pgpass
 * say is not looked at. Fails with BAD_CONNINFO, without a word of the string, or as `taker` does. */
NODISCARD bool db_each_part(const char *conninfo, DbPartTaker taker, void *context, Error *err);
