/* The way to both servers: one source behind its address, TLS, clocks. */
#include "common/clock.h"
#include "engine/preflight/check.h"

#include <stdlib.h>

enum { PROBES = 3 };
static const int64_t skew_max_us = 10 * USEC_PER_SEC;

/* --- one server? --- */

/* Two sessions of one server agree in all of it, also through a pooler. */
static const char who_sql[] =
    "SELECT pg_catalog.concat_ws(' ', EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()),"
    " pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('port'))";

static bool probe_once(Preflight *p, const char *known, bool *ret_same, Error *err) {
    DbConn *conn = NULL;
    char *who = NULL;

    if (!db_open(p->input->source_target, "probe", p->input->stop, &conn, err))
        return error_wrap(err, "one more session");
    bool ok = db_query_value(conn, p->scratch, who_sql, 0, NULL, &who, err);
    db_close(conn);
    *ret_same = ok && strcmp(known, who) == 0;
    return ok;
}

/* A load balancer gives each session another server: a snapshot that one exports the other does not have, and what the
 * lanes read would be of two times. */
bool check_source_balanced(Preflight *p, Error *err) {
    char *known = NULL;
    bool same = true;

    if (p->input->source_target == NULL)
        return true;
    if (!db_query_value(p->input->source, p->scratch, who_sql, 0, NULL, &known, err))
        return false;
    for (int i = 0; i < PROBES && same; i++)
        if (!probe_once(p, known, &same, err))
            return false;
    if (!same)
        finding_add(p, CHECK_SOURCE_BALANCED, "",
                    "the source's address leads to more than one server: what they show may be of different times, and"
                    " a snapshot of one is none of the other",
                    "give the address of one server, the primary, instead of the load balancer's");
    return true;
}

/* --- TLS --- */

/* The loopback interface, and a Unix socket, are nobody's to listen to. */
static const char plaintext_sql[] =
    "SELECT pg_catalog.host(pg_catalog.inet_server_addr()) FROM pg_catalog.pg_stat_ssl s"
    " WHERE s.pid = pg_catalog.pg_backend_pid() AND NOT s.ssl AND pg_catalog.inet_client_addr() IS NOT NULL"
    " AND NOT pg_catalog.inet_client_addr() <<= '127.0.0.0/8' AND pg_catalog.inet_client_addr() <> '::1'";

bool check_plaintext(Preflight *p, Error *err) {
    static const SqlCheck checks[] = {
        {.check = CHECK_SOURCE_PLAINTEXT,
         .side = DB_SOURCE,
         .columns = 1,
         .sql = plaintext_sql,
         .object = "",
         .message = "the connection to the source ({1}) is not encrypted: whoever is on the way can read the rows",
         .fix = "add sslmode=verify-full and sslrootcert=FILE to SOURCE, or ssl to the connection profile"},
        {.check = CHECK_DESTINATION_PLAINTEXT,
         .side = DB_DEST,
         .columns = 1,
         .sql = plaintext_sql,
         .object = "",
         .message = "the connection to the destination ({1}) is not encrypted: whoever is on the way can read the rows",
         .fix = "add sslmode=verify-full and sslrootcert=FILE to DEST, or ssl to the connection profile"},
    };

    return check_by_sql(p, &checks[0], err) && check_by_sql(p, &checks[1], err);
}

/* --- clocks --- */

/* How far a server's clock is ahead of ours; the answer is taken to be from the middle of the round trip. */
static bool clock_ahead(Preflight *p, DbSide side, int64_t *ret_us, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    int64_t begin_us = clock_wall_us();

    if (!preflight_query(
            p, side, "SELECT 'clock', (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint", &row, err))
        return false;
    int64_t end_us = clock_wall_us();
    *ret_us = db_int64(row, 0, 1) - (begin_us + (end_us - begin_us) / 2);
    return true;
}

bool check_clock_skew(Preflight *p, Error *err) {
    int64_t source_us = 0, dest_us = 0;

    if (!clock_ahead(p, DB_SOURCE, &source_us, err) || !clock_ahead(p, DB_DEST, &dest_us, err))
        return false;
    int64_t ahead_us = dest_us - source_us;
    if (llabs(ahead_us) <= skew_max_us)
        return true;
    finding_add(p, CHECK_CLOCK_SKEW, "",
                arena_printf(p->scratch,
                             "the destination's clock is %lld s %s the source's: times that the application writes jump"
                             " at the promote, and rows that are newest by their time may not be",
                             (long long)(llabs(ahead_us) / USEC_PER_SEC), ahead_us > 0 ? "ahead of" : "behind"),
                "timedatectl set-ntp true # on both machines");
    return true;
}
