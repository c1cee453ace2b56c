/* What may be built when (graph.h). Linear in entries and dependencies; the ready list is a heap by cost. */
#include "engine/load/graph.h"

#include "engine/load/key_split.h"

#include <stdlib.h>
#include <string.h>

typedef struct Node {
    int32_t waits;  /* dependencies that are not complete */
    uint32_t table; /* index of the table's entry, NONE when the entry has none */
    uint32_t first_dependent, dependents_count;
    bool is_build; /* INDEX or CONSTRAINT that runs here and is not done */
    bool complete;
    bool build_done; /* by an earlier run */
    bool is_late;
    bool is_needed;        /* by another build */
    bool has_ranges;       /* of a table's node */
    uint32_t builds;       /* of a table's node: all that run here, those done by an earlier run included */
    KeySplit split;        /* two steps when split.build is set */
    int64_t cost;          /* bytes of the table */
    uint32_t builds_left;  /* of a table's node: builds that still need its SHARE lock */
    VEC(uint32_t) waiting; /* of a table's node: entries whose second step waits for builds_left == 0 */
} Node;

#define NONE UINT32_MAX

struct Graph {
    Arena *arena;
    GraphParams params;
    Node *nodes;
    uint32_t *dependents;
    uint32_t *entry_of_table; /* by plan index */
    VEC(GraphTask) ready;     /* heap by cost */
    VEC(GraphTask) completions;
    int64_t ready_cost;
    size_t entries, done;
};

static bool is_graph_kind(const Graph *graph, size_t i) {
    return graph->params.chosen[i] &&
           restore_pass(graph->params.toc, &graph->params.toc->entries[i], &graph->params.restore) == RESTORE_PARALLEL;
}

static uint32_t index_of(const Toc *toc, int32_t dump_id) {
    const TocEntry *entry = toc_find(toc, dump_id);

    return entry == NULL ? NONE : (uint32_t)(entry - toc->entries);
}

static int compare_u64(const void *a, const void *b) {
    const uint64_t *left = a;
    const uint64_t *right = b;

    return (*left > *right) - (*left < *right);
}

/* Plan tables to entries, by oid: both sorted, one walk. */
static void map_tables(Graph *graph) {
    const Toc *toc = graph->params.toc;
    const Plan *plan = graph->params.plan;
    uint64_t *entries = arena_array(graph->arena, uint64_t, MAX(toc->count, 1));
    size_t count = 0;

    for (size_t i = 0; i < toc->count; i++)
        if (strcmp(toc->entries[i].desc, "TABLE") == 0)
            entries[count++] = (uint64_t)toc->entries[i].object_oid << 32 | i;
    qsort(entries, count, sizeof(*entries), compare_u64);
    graph->entry_of_table = arena_array(graph->arena, uint32_t, MAX(plan->count, 1));
    for (size_t t = 0; t < plan->count; t++) {
        size_t low = 0, high = count;

        while (low < high) {
            size_t middle = (low + high) / 2;

            if ((uint32_t)(entries[middle] >> 32) < plan->tables[t].oid)
                low = middle + 1;
            else
                high = middle;
        }
        bool found = low < count && (uint32_t)(entries[low] >> 32) == plan->tables[t].oid;
        graph->entry_of_table[t] = found ? (uint32_t)entries[low] : NONE;
    }
}

/* Everything is complete but: tables with ranges left, and builds to run. */
static void init_nodes(Graph *graph) {
    const Toc *toc = graph->params.toc;
    const Plan *plan = graph->params.plan;

    for (size_t i = 0; i < toc->count; i++) {
        Node *node = &graph->nodes[i];

        node->table = NONE;
        node->complete = true;
        if (!is_graph_kind(graph, i))
            continue;
        graph->entries++;
        graph->done += graph->params.entry_done[i];
        node->is_build = !graph->params.entry_done[i];
        node->build_done = graph->params.entry_done[i];
        node->complete = !node->is_build;
    }
    for (size_t t = 0; t < plan->count; t++)
        if (graph->entry_of_table[t] != NONE) {
            Node *node = &graph->nodes[graph->entry_of_table[t]];

            node->cost = plan->tables[t].bytes;
            node->has_ranges = plan->tables[t].chunks_count > 0;
            node->complete = plan->tables[t].chunks_left == 0 && !plan->tables[t].is_void;
        }
}

/* Depends on something that runs after the load: other post-data entries that are not done, or a late build. */
static bool depends_on_late(const Graph *graph, const TocEntry *entry) {
    for (size_t d = 0; d < entry->deps_count; d++) {
        uint32_t dep = index_of(graph->params.toc, entry->deps[d]);

        if (dep == NONE || !graph->params.chosen[dep])
            continue;
        if (graph->nodes[dep].is_late ||
            (!graph->nodes[dep].is_build && graph->params.toc->entries[dep].section == TOC_SECTION_POST_DATA &&
             !graph->params.entry_done[dep]))
            return true;
    }
    return false;
}

static void mark_late(Graph *graph) {
    for (size_t i = 0; i < graph->params.toc->count; i++) {
        Node *node = &graph->nodes[i];

        if (!node->is_build || !depends_on_late(graph, &graph->params.toc->entries[i]))
            continue;
        node->is_late = true;
        node->is_build = false;
        graph->entries--;
    }
}

static void find_tables(Graph *graph) {
    const Toc *toc = graph->params.toc;

    for (size_t i = 0; i < toc->count; i++) {
        Node *node = &graph->nodes[i];

        if (!node->is_build && !node->build_done)
            continue;
        for (size_t d = 0; d < toc->entries[i].deps_count && node->table == NONE; d++) {
            uint32_t dep = index_of(toc, toc->entries[i].deps[d]);

            if (dep != NONE && strcmp(toc->entries[dep].desc, "TABLE") == 0)
                node->table = dep;
        }
        if (node->table == NONE)
            continue;
        graph->nodes[node->table].builds++;
        graph->nodes[node->table].builds_left += node->is_build;
        node->cost = graph->nodes[node->table].cost;
    }
}

static void mark_needed(Graph *graph) {
    const Toc *toc = graph->params.toc;

    for (size_t i = 0; i < toc->count; i++)
        for (size_t d = 0; graph->nodes[i].is_build && d < toc->entries[i].deps_count; d++) {
            uint32_t dep = index_of(toc, toc->entries[i].deps[d]);

            if (dep != NONE)
                graph->nodes[dep].is_needed = true;
        }
}

/* Two steps only where it pays: when the table has other builds that the first step would otherwise shut out. Only
 * tables that hold rows of their own: an index on a partitioned root is a matter of the catalogue. Not what another
 * build depends on: that one would wait for the second step, and the second step for it.
 *
 * What an earlier run has done must not change the answer: its first step may have committed, and then the key's own
 * text would meet the index that is there. */
static void split_keys(Graph *graph) {
    for (size_t i = 0; i < graph->params.toc->count; i++) {
        Node *node = &graph->nodes[i];

        if (node->is_build && !node->is_needed && node->table != NONE && graph->nodes[node->table].builds > 1 &&
            graph->nodes[node->table].has_ranges)
            node->split = key_split(graph->arena, &graph->params.toc->entries[i], &graph->params.restore);
    }
}

/* Dependents as one array: count, place, fill. */
static void link_dependents(Graph *graph) {
    const Toc *toc = graph->params.toc;
    size_t total = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < toc->count; i++) {
            for (size_t d = 0; graph->nodes[i].is_build && d < toc->entries[i].deps_count; d++) {
                uint32_t dep = index_of(toc, toc->entries[i].deps[d]);

                if (dep == NONE || graph->nodes[dep].complete)
                    continue;
                if (pass == 1) {
                    graph->dependents[graph->nodes[dep].first_dependent + graph->nodes[dep].dependents_count] =
                        (uint32_t)i;
                    graph->nodes[i].waits++;
                }
                graph->nodes[dep].dependents_count++;
            }
        }
        if (pass == 1)
            break;
        for (size_t i = 0; i < toc->count; i++) {
            graph->nodes[i].first_dependent = (uint32_t)total;
            total += graph->nodes[i].dependents_count;
            graph->nodes[i].dependents_count = 0;
        }
        graph->dependents = arena_array(graph->arena, uint32_t, MAX(total, 1));
    }
}

static void heap_push(Graph *graph, GraphTask task) {
    graph->ready_cost += task.cost;
    vec_push(graph->arena, &graph->ready, task);
    for (size_t i = graph->ready.len - 1; i > 0 && graph->ready.items[(i - 1) / 2].cost < graph->ready.items[i].cost;
         i = (i - 1) / 2) {
        GraphTask swap = graph->ready.items[i];
        graph->ready.items[i] = graph->ready.items[(i - 1) / 2];
        graph->ready.items[(i - 1) / 2] = swap;
    }
}

static GraphTask heap_pop(Graph *graph) {
    GraphTask *items = graph->ready.items;
    GraphTask top = items[0];
    size_t len = --graph->ready.len;

    items[0] = items[len];
    for (size_t i = 0;;) {
        size_t largest = i;

        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < len; child++)
            if (items[child].cost > items[largest].cost)
                largest = child;
        if (largest == i)
            return top;
        GraphTask swap = items[i];
        items[i] = items[largest];
        items[largest] = swap;
        i = largest;
    }
}

static void push_build(Graph *graph, uint32_t i) {
    const Node *node = &graph->nodes[i];
    bool two_steps = node->split.build != NULL;

    heap_push(graph,
              (GraphTask){
                  .step = GRAPH_BUILD,
                  .entry = i,
                  .sql = two_steps ? node->split.build
                                   : restore_sql(graph->arena, &graph->params.toc->entries[i], &graph->params.restore),
                  .index = two_steps ? node->split.index : NULL,
                  .marks_entry = !two_steps,
                  .cost = node->cost,
              });
}

static void push_completion(Graph *graph, uint32_t i) {
    GraphTask task = {.step = GRAPH_COMPLETE, .entry = i, .sql = graph->nodes[i].split.complete, .marks_entry = true};

    vec_push(graph->arena, &graph->completions, task);
}

Graph *graph_new(Arena *arena, const GraphParams *params) {
    Graph *graph = arena_new_of(arena, Graph);

    graph->arena = arena;
    graph->params = *params;
    graph->nodes = arena_array(arena, Node, MAX(params->toc->count, 1));
    map_tables(graph);
    init_nodes(graph);
    mark_late(graph);
    find_tables(graph);
    mark_needed(graph);
    split_keys(graph);
    link_dependents(graph);
    for (size_t i = 0; i < params->toc->count; i++)
        if (graph->nodes[i].is_build && graph->nodes[i].waits == 0)
            push_build(graph, (uint32_t)i);
    return graph;
}

size_t graph_entries(const Graph *graph) {
    return graph->entries;
}

size_t graph_entries_done(const Graph *graph) {
    return graph->done;
}

bool graph_has_ready(const Graph *graph) {
    return graph->ready.len > 0 || graph->completions.len > 0;
}

int64_t graph_ready_cost(const Graph *graph) {
    return graph->ready_cost;
}

bool graph_next(Graph *graph, GraphTask *ret_task) {
    if (graph->completions.len > 0) {
        *ret_task = graph->completions.items[--graph->completions.len];
        return true;
    }
    if (graph->ready.len == 0)
        return false;
    *ret_task = heap_pop(graph);
    graph->ready_cost -= ret_task->cost;
    return true;
}

static void complete_node(Graph *graph, uint32_t i) {
    Node *node = &graph->nodes[i];

    if (node->complete)
        return;
    node->complete = true;
    for (uint32_t d = 0; d < node->dependents_count; d++) {
        uint32_t dependent = graph->dependents[node->first_dependent + d];

        if (--graph->nodes[dependent].waits == 0)
            push_build(graph, dependent);
    }
}

void graph_table_copied(Graph *graph, size_t plan_table) {
    if (graph->entry_of_table[plan_table] != NONE)
        complete_node(graph, graph->entry_of_table[plan_table]);
}

static void build_finished(Graph *graph, uint32_t i) {
    Node *node = &graph->nodes[i];

    if (node->table == NONE)
        return;
    Node *table = &graph->nodes[node->table];

    if (node->split.build != NULL)
        vec_push(graph->arena, &table->waiting, i);
    if (--table->builds_left > 0)
        return;
    for (size_t w = 0; w < table->waiting.len; w++)
        push_completion(graph, table->waiting.items[w]);
    table->waiting.len = 0;
}

void graph_finished(Graph *graph, const GraphTask *task) {
    uint32_t i = (uint32_t)task->entry;

    if (task->marks_entry) {
        graph->done++;
        complete_node(graph, i);
    }
    if (task->step == GRAPH_BUILD)
        build_finished(graph, i);
}
