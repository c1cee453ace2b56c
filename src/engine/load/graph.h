/*
 * What may be built when: the order of indexes and constraints, from the archive's dependencies and the tables'
 * progress.
 *
 * Pure bookkeeping, no connections; the caller (load_data) serialises. Nodes are the archive's entries.
 * - A table's node is complete when its last range is in.
 * - An INDEX or CONSTRAINT is ready when every entry it depends on is complete.
 * - Some have two steps: a key is first built as a plain unique index (SHARE lock: several indexes of a table at once)
 * and becomes a constraint later; likewise an index whose text goes on with CLUSTER ON or REPLICA IDENTITY. The second
 * step needs a lock that conflicts with index builds, so it waits until no build of its table is left.
 * - An entry that depends on something that runs only after the load (a materialized view moved behind it, ...) is
 * `late`: not here.
 */
#pragma once

#include "engine/plan/plan.h"
#include "engine/schema/statements.h"

typedef struct Graph Graph;

typedef enum GraphStep { GRAPH_BUILD, GRAPH_COMPLETE } GraphStep;

typedef struct GraphTask {
    GraphStep step;
    size_t entry;      /* index in the Toc */
    const char *sql;   /* what to run */
    const char *index; /* build of a two-step key: name to look for, NULL else */
    bool marks_entry;  /* the ledger's line of the entry belongs into this transaction */
    int64_t cost;
} GraphTask;

typedef struct GraphParams {
    const Toc *toc;
    const bool *chosen;
    const bool *entry_done;
    const Plan *plan;
    RestoreOptions restore;
} GraphParams;

/* Everything in `arena`. Tables without ranges left are complete from the start. */
Graph *graph_new(Arena *arena, const GraphParams *params);
size_t graph_entries(const Graph *graph); /* indexes and constraints to run, those done included */
size_t graph_entries_done(const Graph *graph);

/* The most costly task that is ready, completions first; false when none is. */
bool graph_next(Graph *graph, GraphTask *ret_task);
bool graph_has_ready(const Graph *graph);
/* Sum over what is ready. */
int64_t graph_ready_cost(const Graph *graph);
void graph_table_copied(Graph *graph, size_t plan_table);
void graph_finished(Graph *graph, const GraphTask *task);
