/*
 * What the migration is likely to take: sizes, a short probe of both connections, and how fast the source writes WAL.
 *
 * In a dry run only, as the probes cost up to half a second. All are ranges, told as such: what decides most, indexes
 * and the disks of both sides, is not known before.
 */
#include "common/clock.h"
#include "engine/preflight/check.h"

#include <unistd.h>

/* Source bytes of a second and lane: what benchmarks on common machines came to, with indexes, and a third of it. */
static const double lane_slow = 20e6, lane_fast = 90e6;
static const double begin_seconds = 1, table_seconds = 0.005; /* connections, pg_dump; definitions of a table */
/* A probe that is answered faster than this is repeated with one that is larger. */
static const int64_t probe_long_us = 50 * USEC_PER_MSEC;
enum { ROUND_TRIPS = 3, PROMOTE_ROUND_TRIPS = 40 };
static const size_t probe_sizes[] = {64 << 10, 1 << 20, 4 << 20};

/* --- probes --- */

typedef struct Link {
    double latency;   /* seconds there and back */
    double bandwidth; /* bytes a second, of one connection */
} Link;

static bool probe_latency(Preflight *p, DbSide side, Link *link, Error *err) {
    int64_t best_us = INT64_MAX;

    for (int i = 0; i < ROUND_TRIPS; i++) {
        CLEANUP(db_result_freep) DbResult *row = NULL;
        int64_t begin_us = clock_now_us();

        if (!preflight_query(p, side, "SELECT 1", &row, err))
            return false;
        best_us = MIN(best_us, clock_now_us() - begin_us);
    }
    link->latency = (double)best_us / (double)USEC_PER_SEC;
    return true;
}

/* The way that rows go: from the source to us, from us to the destination. */
static bool send_probe(Preflight *p, DbSide side, size_t size, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;
    char *text = NULL;

    if (side == DB_SOURCE) {
        const char *const params[] = {arena_printf(p->scratch, "%zu", size)};
        return db_query(p->input->source, "SELECT pg_catalog.repeat('x', $1::int)", 1, params, &row, err);
    }
    text = arena_alloc(p->scratch, size + 1);
    memset(text, 'x', size);
    text[size] = '\0';
    const char *const params[] = {text};
    return db_query(p->input->dest, "SELECT pg_catalog.length($1::text)", 1, params, &row, err);
}

static bool probe_bandwidth(Preflight *p, DbSide side, Link *link, Error *err) {
    int64_t took_us = 0;

    for (size_t i = 0; i < COUNT_OF(probe_sizes) && took_us < probe_long_us; i++) {
        int64_t begin_us = clock_now_us();

        if (!send_probe(p, side, probe_sizes[i], err))
            return false;
        took_us = clock_now_us() - begin_us;
        double seconds = MAX((double)took_us / (double)USEC_PER_SEC - link->latency, 1e-6);
        link->bandwidth = (double)probe_sizes[i] / seconds;
    }
    return true;
}

/* Since the last checkpoint began: an average over minutes as a rule, for which nobody has to wait. */
static bool wal_rate(Preflight *p, double *ret_rate, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!preflight_query(p, DB_SOURCE,
                         "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE"
                         " pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), c.redo_lsn)"
                         " / GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - c.checkpoint_time), 1) END"
                         " FROM pg_catalog.pg_control_checkpoint() c",
                         &row, err)) {
        if (err->reason == REASON_NOT_PERMITTED)
            (void)error_remedy(err, "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_checkpoint() TO %s;",
                               p->source_role.quoted);
        return false;
    }
    *ret_rate = db_double(row, 0, 0);
    return true;
}

static bool count_tables(Preflight *p, double *ret_count, Error *err) {
    CLEANUP(db_result_freep) DbResult *row = NULL;

    if (!preflight_query(p, DB_SOURCE,
                         "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
                         " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND " SQL_USER_SCHEMA,
                         &row, err))
        return false;
    *ret_count = db_double(row, 0, 0);
    return true;
}

/* --- reckoning --- */

typedef struct Basis {
    Link source, dest;
    double wal_rate, tables, lanes, bytes;
} Basis;

static bool read_basis(Preflight *p, Basis *basis, Error *err) {
    int64_t bytes = 0, jobs = p->input->options->jobs;

    if (!preflight_source_bytes(p, &bytes, err) || !count_tables(p, &basis->tables, err) ||
        !wal_rate(p, &basis->wal_rate, err) || !probe_latency(p, DB_SOURCE, &basis->source, err) ||
        !probe_latency(p, DB_DEST, &basis->dest, err) || !probe_bandwidth(p, DB_SOURCE, &basis->source, err) ||
        !probe_bandwidth(p, DB_DEST, &basis->dest, err))
        return false;
    basis->bytes = (double)bytes;
    basis->lanes = jobs > 0 ? (double)jobs : (double)MAX(2, sysconf(_SC_NPROCESSORS_ONLN));
    return true;
}

/* At worst all lanes share what one connection was given, at best each has as much. */
static EstimateRange reckon_load(const Basis *basis) {
    double link = MIN(basis->source.bandwidth, basis->dest.bandwidth), fixed = basis->tables * table_seconds;
    double fast = MIN(basis->lanes * lane_fast, basis->lanes * link), slow = MIN(basis->lanes * lane_slow, link);

    return (EstimateRange){begin_seconds / 2 + fixed / 2 + basis->bytes / fast,
                           begin_seconds * 3 + fixed * 2 + basis->bytes / slow};
}

/* What is written while the slot waits; the load itself writes nothing on the source. */
static EstimateRange reckon_wal(const Basis *basis, EstimateRange load) {
    return (EstimateRange){basis->wal_rate / 2 * load.low, basis->wal_rate * 2 * load.high};
}

/* Fence, the last changes, sequences, the proof. What is not followed is still for as long as it is copied. */
static EstimateRange reckon_outage(const Basis *basis, EstimateRange load, bool follow) {
    double trips = (basis->source.latency + basis->dest.latency) * PROMOTE_ROUND_TRIPS;

    if (!follow)
        return load;
    return (EstimateRange){0.2 + trips / 2, 3 + trips * 2 + basis->tables * table_seconds};
}

static void reckon(const Basis *basis, bool follow, Estimate *estimate) {
    estimate->is_known = true;
    estimate->bytes = (int64_t)basis->bytes;
    estimate->load = reckon_load(basis);
    estimate->disk = (EstimateRange){basis->bytes * 0.7, basis->bytes * 1.25};
    estimate->outage = reckon_outage(basis, estimate->load, follow);
    if (follow)
        estimate->wal = reckon_wal(basis, estimate->load);
}

/* --- telling --- */

static const char *bytes_text(Preflight *p, EstimateRange range) {
    return arena_printf(p->scratch, "%s to %s", format_bytes(p->scratch, (int64_t)range.low),
                        format_bytes(p->scratch, (int64_t)range.high));
}

/* Outwards, so that a range never becomes one number. */
static const char *seconds_text(Preflight *p, EstimateRange range) {
    double unit = range.high < 120 ? 1 : range.high < 2 * 3600 ? 60 : 3600;
    const char *name = range.high < 120 ? "s" : range.high < 2 * 3600 ? "min" : "h";

    return arena_printf(p->scratch, "%lld to %lld %s", (long long)(range.low / unit),
                        (long long)(range.high / unit) + 1, name);
}

static void tell(Preflight *p, const Basis *basis) {
    const Estimate *estimate = &p->estimate;
    bool follow = p->input->options->follow;
    double link = MIN(basis->source.bandwidth, basis->dest.bandwidth);

    finding_add(p, CHECK_ESTIMATE_LOAD, "",
                arena_printf(p->scratch,
                             "about %s for %s in %.0f tables: by %.0f lanes, and %s/s as a probe of the slower"
                             " connection had it",
                             seconds_text(p, estimate->load), format_bytes(p->scratch, estimate->bytes), basis->tables,
                             basis->lanes, format_bytes(p->scratch, (int64_t)link)),
                "");
    if (follow)
        finding_add(p, CHECK_ESTIMATE_WAL, "",
                    arena_printf(p->scratch, "about %s of WAL are kept for the load: by %s/s since the last checkpoint",
                                 bytes_text(p, estimate->wal), format_bytes(p->scratch, (int64_t)basis->wal_rate)),
                    "");
    finding_add(p, CHECK_ESTIMATE_DISK, "",
                arena_printf(p->scratch,
                             "about %s: by the source's size, as dead rows do not move and all is written anew, and"
                             " without the WAL of the load",
                             bytes_text(p, estimate->disk)),
                "");
    finding_add(p, CHECK_ESTIMATE_OUTAGE, "",
                arena_printf(p->scratch,
                             follow ? "about %s without writes at the promote: by the number of tables and"
                                      " %.1f ms from one server to the other, when nothing lags"
                                    : "about %s without writes, if none are to be lost: as long as the"
                                      " load, since nothing is followed",
                             seconds_text(p, estimate->outage), (basis->source.latency + basis->dest.latency) * 1000),
                "");
}

bool check_estimate(Preflight *p, Error *err) {
    const MigrateOptions *options = p->input->options;
    Basis basis = {0};

    if (!options->dry_run || options->schema_only || p->input->resuming)
        return true;
    if (!read_basis(p, &basis, err))
        return false;
    reckon(&basis, options->follow, &p->estimate);
    tell(p, &basis);
    return true;
}
