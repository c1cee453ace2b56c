/*
 * Findings, plan, final report and errors as text for people. Pure: everything goes into a Buf.
 *
 * Text from servers is shown without control characters. No colours: these go to standard output and into files.
 */
#pragma once

#include "common/buf.h"
#include "model/finding.h"
#include "model/progress.h"

void report_render(Buf *out, const Report *report);
/* Grouped by severity, errors first; each with its fix indented, ready to paste. */
void findings_render(Buf *out, const FindingVec *findings);

typedef struct PlanTable {
    const char *table;
    int64_t bytes;
    int64_t chunks;
} PlanTable;
typedef VEC(PlanTable) PlanTableVec;

typedef struct Plan {
    PlanTableVec tables;
    int64_t bytes;
    double seconds; /* less than 0: no estimate */
    StringVec to_drop;
} Plan;

/* The body of a PLAN message. */
NODISCARD bool plan_from_json(Arena *arena, const json_t *json, Plan *ret_plan, Error *err);
/* The 20 largest tables and how many more there are. */
void plan_render(Buf *out, const Plan *plan);

/* "pgcrane: error: ..." with reason and remedy below. */
void error_render(Buf *out, const Error *error);
