/* The fixed session settings of every connection, each with its reason. */
#include "pg/conn_internal.h"

typedef enum SettingSides {
    ON_SOURCE = 1 << DB_SOURCE,
    ON_DEST = 1 << DB_DEST,
    ON_STORE = 1 << DB_STORE,
    ON_ALL = ON_SOURCE | ON_DEST | ON_STORE
} SettingSides;

typedef struct SessionSetting {
    const char *name;
    const char *value;
    SettingSides sides;
    int min_version;
    const char *why;
} SessionSetting;

/* Roles and databases may have defaults for all of these (ALTER ROLE ... SET), which would reach our sessions. Sessions
 * that write rows to the destination take some of them from the source afterwards: engine/finish/write_settings.c. */
static const SessionSetting settings[] = {
    /* Text forms: what one server writes, the other must read as the same value. */
    {"datestyle", "ISO", ON_ALL, 0, "other styles do not say which number is the day"},
    {"intervalstyle", "postgres", ON_ALL, 0, "sql_standard is ambiguous about signs"},
    {"timezone", "UTC", ON_ALL, 0, "an offset that both servers know without a time zone table"},
    {"extra_float_digits", "3", ON_ALL, 0, "floats must come back bit by bit"},
    {"bytea_output", "hex", ON_ALL, 0, "independent of the encoding"},
    {"lc_monetary", "C", ON_ALL, 0, "money is written with its locale's signs"},
    {"xmloption", "content", ON_ALL, 0, "document refuses fragments"},
    {"array_nulls", "on", ON_ALL, 0, "off turns NULL inside an array into a word"},
    /* How statements are read. */
    {"search_path", "", ON_ALL, 0, "names must mean what they say; we qualify all of them"},
    {"standard_conforming_strings", "on", ON_ALL, 0, "backslashes in statements"},
    {"transform_null_equals", "off", ON_ALL, 0, "changes expressions while a schema is restored"},
    {"quote_all_identifiers", "off", ON_ALL, 0, "definitions are compared as text"},
    {"row_security", "off", ON_ALL, 0, "an error is better than rows left out without a word"},
    {"check_function_bodies", "off", ON_DEST, 0, "bodies may name what is created later"},
    {"default_transaction_isolation", "read committed", ON_ALL, 0, "the ledger's row locks count on it"},
    {"default_transaction_deferrable", "off", ON_ALL, 0, "a serializable read-only one would wait"},
    {"default_transaction_read_only", "off", ON_DEST, 0, "we write there"},
    /* Nothing but we ourselves ends our work. */
    {"statement_timeout", "0", ON_ALL, 0, "a COPY may take hours"},
    {"lock_timeout", "0", ON_ALL, 0, "set by whoever wants to give up a lock"},
    {"idle_in_transaction_session_timeout", "0", ON_ALL, 90600, "the snapshot's keeper is idle in a transaction"},
    {"idle_session_timeout", "0", ON_ALL, 140000, "a lane may wait for work"},
    /* A server that does not hear of us any more gives up what we had locked in a minute, not in hours. */
    {"tcp_keepalives_idle", "30", ON_ALL, 0, "the system waits for two hours"},
    {"tcp_keepalives_interval", "10", ON_ALL, 0, "the system waits for more than a minute"},
    {"tcp_keepalives_count", "3", ON_ALL, 0, "the system tries nine times"},
    {"transaction_timeout", "0", ON_ALL, 170000, "one transaction may take hours"},
    {"client_min_messages", "warning", ON_ALL, 0, "notices of a restore are thousands"},
    {"jit", "off", ON_ALL, 110000, "costs more than it gives for COPY and catalogue queries"},
};

void settings_build(Buf *sql, DbSide side, int version, bool sql_ascii) {
    const char *comma = "";

    buf_append_str(sql, "SELECT ");
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        const SessionSetting *setting = &settings[i];
        if ((setting->sides & (1 << side)) == 0 || version < setting->min_version)
            continue;
        buf_printf(sql, "%spg_catalog.set_config('%s', '%s', false)", comma, setting->name, setting->value);
        comma = ", ";
    }
    /* A database without an encoding holds bytes that nobody can convert: they travel as they are. */
    if (sql_ascii)
        buf_printf(sql, "%spg_catalog.set_config('client_encoding', 'SQL_ASCII', false)", comma);
}

const char *settings_optional(int version) {
    /* Ends our COPY or CREATE INDEX soon after this process died; servers on some platforms refuse it. */
    return version >= 140000 ? "SET client_connection_check_interval = '10s'" : NULL;
}
