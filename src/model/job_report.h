/*
 * The report of a job: what moved of each database, how long it took, what a promote has shown, what is left to do.
 *
 * Contract
 * - Pure: JSON in, JSON or text out; new references are the caller's, what is borrowed is said.
 * - A database's report is made from what its sessions said (status.json, session/job_files.h), one after the other:
 *   numbers of sessions add up, as far as each of them counts only its own work. It has no secrets, as what is
 *   said has none, and is bounded: REPORT_ITEMS_MAX of each list, REPORT_TEXT_MAX bytes of each text.
 * - Names of databases, tables and roles may hold anything: report_html() escapes all that it is given.
 */
#pragma once

#include "common/arena.h"
#include "common/json.h"

enum { REPORT_ITEMS_MAX = 200, REPORT_TEXT_MAX = 2000 };

/* What is kept of one database: `before` (NULL = nothing) with what session number `run` has said by now. is_anew: that
 * session began with an empty destination, so what was before is no part of it. */
json_t *database_report_merge(const json_t *before, const json_t *said, int64_t run, bool is_anew);
/* What is kept of the whole instance: databases that are left out, findings. */
json_t *instance_report_of(const json_t *said);
/* One that is too large to be kept, in place: of its lists nothing but their sizes is left. */
void report_shorten(json_t *report);
/* A database's without what only merging needs, in place. */
void database_report_close(json_t *report);

/* Sums over the databases of a job's report, each of which may lack anything. */
json_t *job_report_totals(const json_t *databases);

/* What stands for a promote's result, for people: "nothing changed behind ...". `promote` of a database's report; NULL
 * gives "". */
const char *report_proof_text(Arena *arena, const json_t *promote);
/* "1m 05s"; "" when it is not known. */
const char *report_seconds_text(Arena *arena, const json_t *object, const char *key);

/* The job's report as one page of HTML, without anything from outside. */
void report_html(const json_t *report, Buf *out);
