/*
 * Which TOC entries move, given the filters.
 *
 * Entries are nodes, dependencies are edges, and each step visits each edge once:
 *
 * 1. Removal: what the exclusions name, then all that depends on it, breadth first against the edges.
 * 2. Choice: what the inclusions name (everything, when there are none), then along the edges what it needs. Some kinds
 *    are never chosen for themselves but with what they are attached to: an index, a foreign key, a comment. Such an
 *    entry counts the relations that it waits for and is chosen with the last of them, so a foreign key comes only
 *    when both of its tables do.
 * 3. List: removed entries that no pattern names, and attached ones whose table moves without them.
 *
 * Step 2 runs with the removed entries blocked, and once more without, so that the list holds only what would have
 * moved otherwise.
 */
#include "engine/schema/filter.h"

#include "engine/schema/statements.h"
#include "pg/quote.h"

#include <string.h>

enum {
    NODE_RELATION = 1 << 0,  /* holds or shows rows: what attached entries wait for */
    NODE_MATCHABLE = 1 << 1, /* a table pattern may name it */
    NODE_ATTACHED = 1 << 2,
    NODE_NOTE = 1 << 3,  /* comment, grant, label: never worth a line in the list */
    NODE_LINK = 1 << 4,  /* ties two others together: nothing needs it */
    NODE_NEVER = 1 << 5, /* not part of a chosen table or schema: moves only when everything does */
};

typedef struct Node {
    unsigned flags;
    size_t base;  /* the relation it is attached to: index, NONE for others */
    size_t waits; /* edges to what has to be chosen first */
    size_t cause; /* removed because of this one; itself when a pattern names it */
    bool removed;
} Node;

#define NONE SIZE_MAX

typedef VEC(NamePattern) PatternVec;

typedef struct Graph {
    Arena *arena;
    const Toc *toc;
    Node *nodes;
    size_t *first_user; /* users of entry i: users[first_user[i]] to users[first_user[i + 1] - 1] */
    size_t *users;
    size_t *queue; /* scratch, one place for each entry */
} Graph;

/* One run of step 2. */
typedef struct Choice {
    const Graph *graph;
    bool *chosen;
    bool *whole;   /* named itself, so its partitions come along */
    size_t *waits; /* counted down from the nodes' */
    size_t tail;   /* of the queue */
    bool blocked;  /* removed entries cannot be chosen */
} Choice;

/* --- nodes --- */

static bool is_one_of(const char *desc, const char *const *descs, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(desc, descs[i]) == 0)
            return true;
    return false;
}
#define IS_ONE_OF(desc, list) is_one_of((desc), (list), COUNT_OF(list))

static unsigned flags_of_kind(const char *desc) {
    static const char *const relations[] = {"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"};
    static const char *const notes[] = {"COMMENT", "ACL", "SECURITY LABEL"};
    static const char *const links[] = {"TABLE ATTACH", "INDEX ATTACH", "SEQUENCE OWNED BY"};
    static const char *const never[] = {"PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA",
                                        "SUBSCRIPTION"};
    unsigned flags = 0;
    if (IS_ONE_OF(desc, relations))
        flags |= NODE_RELATION | NODE_MATCHABLE;
    if (strcmp(desc, "SEQUENCE") == 0)
        flags |= NODE_MATCHABLE;
    if (IS_ONE_OF(desc, notes))
        flags |= NODE_NOTE | NODE_ATTACHED;
    if (IS_ONE_OF(desc, links))
        flags |= NODE_LINK;
    if (IS_ONE_OF(desc, never))
        flags |= NODE_NEVER;
    else if (toc_kind_is_part_of_table(desc))
        flags |= NODE_ATTACHED;
    return flags;
}

/* Index of a dependency, NONE when it is not in the archive or the entry itself. */
static size_t dependency(const Toc *toc, size_t entry, size_t which) {
    const TocEntry *found = toc_find(toc, toc->entries[entry].deps[which]);
    size_t index = found == NULL ? entry : (size_t)(found - toc->entries);
    return index == entry ? NONE : index;
}

static bool is_relation(const Graph *graph, size_t i) {
    return i != NONE && (graph->nodes[i].flags & NODE_RELATION) != 0;
}

/* "orders orders_fk" is of table orders, "orders" (an index attached, a partition) of that itself. */
static bool tag_names(const TocEntry *entry, const TocEntry *table) {
    size_t len = strlen(table->tag);
    return strcmp(entry->schema, table->schema) == 0 && strncmp(entry->tag, table->tag, len) == 0 &&
           (entry->tag[len] == ' ' || entry->tag[len] == '\0');
}

/* Of several tables (a foreign key has two) the one that the tag names, the longest name first: "a b" before "a". */
static size_t find_base(const Graph *graph, size_t i) {
    const TocEntry *entries = graph->toc->entries;
    size_t base = NONE;
    bool named = false;
    for (size_t d = 0; d < entries[i].deps_count; d++) {
        size_t on = dependency(graph->toc, i, d);
        if (!is_relation(graph, on))
            continue;
        bool names = tag_names(&entries[i], &entries[on]);
        bool longer = base != NONE && strlen(entries[on].tag) > strlen(entries[base].tag);
        if (base == NONE || (names && (!named || longer)))
            base = on;
        named = named || names;
    }
    return base;
}

/* The query of a view that is in a circle of dependencies: the view is nothing without it. */
static bool is_view_query(const TocEntry *entry) {
    static const char suffix[] = " _RETURN";
    size_t len = strlen(entry->tag);
    return strcmp(entry->desc, "RULE") == 0 && len > sizeof(suffix) - 1 &&
           strcmp(entry->tag + len - (sizeof(suffix) - 1), suffix) == 0;
}

/* Does attached entry i wait for `on` before it is chosen? What it does not wait for, it pulls in. */
static bool waits_for(const Graph *graph, size_t i, size_t on) {
    const Node *node = &graph->nodes[i];
    if (on == NONE)
        return false;
    if ((node->flags & NODE_NOTE) != 0 || node->base == NONE)
        return true;
    if (is_view_query(&graph->toc->entries[i]))
        return on == node->base;
    return is_relation(graph, on);
}

static void build_nodes(Graph *graph) {
    const Toc *toc = graph->toc;
    for (size_t i = 0; i < toc->count; i++)
        graph->nodes[i] = (Node){.flags = flags_of_kind(toc->entries[i].desc), .base = NONE, .cause = NONE};
    for (size_t i = 0; i < toc->count; i++) {
        Node *node = &graph->nodes[i];
        bool is_sequence = strcmp(toc->entries[i].desc, "SEQUENCE") == 0;
        if ((node->flags & NODE_ATTACHED) == 0 && !is_sequence)
            continue;
        node->base = find_base(graph, i);
        if (is_sequence && node->base != NONE) /* a sequence depends on a table only when a column owns it */
            node->flags |= NODE_ATTACHED;
        for (size_t d = 0; d < toc->entries[i].deps_count; d++)
            node->waits += waits_for(graph, i, dependency(toc, i, d)) ? 1 : 0;
    }
}

static void build_users(Graph *graph) {
    const Toc *toc = graph->toc;
    size_t edges = 0;
    for (size_t i = 0; i < toc->count; i++) {
        edges += toc->entries[i].deps_count;
        for (size_t d = 0; d < toc->entries[i].deps_count; d++) {
            size_t on = dependency(toc, i, d);
            if (on != NONE)
                graph->first_user[on + 1]++;
        }
    }
    for (size_t i = 0; i < toc->count; i++)
        graph->first_user[i + 1] += graph->first_user[i];
    graph->users = arena_array(graph->arena, size_t, edges + 1);
    size_t *next = arena_array(graph->arena, size_t, toc->count + 1);
    memcpy(next, graph->first_user, toc->count * sizeof(*next));
    for (size_t i = 0; i < toc->count; i++) {
        for (size_t d = 0; d < toc->entries[i].deps_count; d++) {
            size_t on = dependency(toc, i, d);
            if (on != NONE)
                graph->users[next[on]++] = i;
        }
    }
}

static void graph_init(Arena *arena, const Toc *toc, Graph *graph) {
    *graph = (Graph){.arena = arena, .toc = toc};
    graph->nodes = arena_array(arena, Node, toc->count + 1);
    graph->first_user = arena_array(arena, size_t, toc->count + 1);
    graph->queue = arena_array(arena, size_t, toc->count + 1);
    build_nodes(graph);
    build_users(graph);
}

/* --- patterns --- */

static bool parse_patterns(Arena *arena, const StringVec *texts, bool is_schema, PatternVec *patterns, Error *err) {
    for (size_t i = 0; i < texts->len; i++) {
        NamePattern pattern;
        if (!name_pattern_parse(arena, texts->items[i], is_schema, &pattern, err))
            return false;
        vec_push(arena, patterns, pattern);
    }
    return true;
}

/* A schema's own entry has no schema, but is in the schema for our purpose. */
static bool pattern_names(const Graph *graph, const NamePattern *pattern, size_t i) {
    const TocEntry *entry = &graph->toc->entries[i];
    if (pattern->name != NULL)
        return (graph->nodes[i].flags & NODE_MATCHABLE) != 0 &&
               name_pattern_matches(pattern, entry->schema, entry->tag);
    if (strcmp(entry->desc, "SCHEMA") == 0)
        return name_pattern_matches(pattern, entry->tag, "");
    return entry->schema[0] != '\0' && name_pattern_matches(pattern, entry->schema, "");
}

/* --- step 1: removal --- */

static void remove_named(Graph *graph, const PatternVec *patterns, size_t *tail) {
    for (size_t p = 0; p < patterns->len; p++) {
        for (size_t i = 0; i < graph->toc->count; i++) {
            Node *node = &graph->nodes[i];
            if (node->removed || !pattern_names(graph, &patterns->items[p], i))
                continue;
            node->removed = true;
            node->cause = i;
            graph->queue[(*tail)++] = i;
        }
    }
}

static void remove_users(Graph *graph, size_t tail) {
    for (size_t head = 0; head < tail; head++) {
        size_t gone = graph->queue[head];
        if ((graph->nodes[gone].flags & (NODE_LINK | NODE_NOTE)) != 0)
            continue; /* a key of a partitioned table does not need each partition's part */
        for (size_t u = graph->first_user[gone]; u < graph->first_user[gone + 1]; u++) {
            Node *user = &graph->nodes[graph->users[u]];
            if (user->removed)
                continue;
            user->removed = true;
            user->cause = gone;
            graph->queue[tail++] = graph->users[u];
        }
    }
}

/* --- step 2: choice --- */

static void choose(Choice *choice, size_t i, bool whole) {
    if (choice->blocked && choice->graph->nodes[i].removed)
        return;
    choice->whole[i] = choice->whole[i] || whole;
    if (choice->chosen[i])
        return;
    choice->chosen[i] = true;
    choice->graph->queue[choice->tail++] = i;
}

static void choose_needed(Choice *choice, size_t i) {
    const Toc *toc = choice->graph->toc;
    for (size_t d = 0; d < toc->entries[i].deps_count; d++) {
        size_t on = dependency(toc, i, d);
        if (on != NONE && (choice->graph->nodes[on].flags & NODE_LINK) == 0)
            choose(choice, on, false);
    }
}

/* A table that was named brings its partitions: who asks for a table wants its rows. */
static void choose_partitions(Choice *choice, size_t parent) {
    const Graph *graph = choice->graph;
    for (size_t u = graph->first_user[parent]; choice->whole[parent] && u < graph->first_user[parent + 1]; u++) {
        size_t attach = graph->users[u];
        size_t child = graph->nodes[attach].base;
        if (strcmp(graph->toc->entries[attach].desc, "TABLE ATTACH") == 0 && child != NONE && child != parent)
            choose(choice, child, true);
    }
}

static void choose_attached(Choice *choice, size_t i) {
    const Graph *graph = choice->graph;
    for (size_t u = graph->first_user[i]; u < graph->first_user[i + 1]; u++) {
        size_t user = graph->users[u];
        if ((graph->nodes[user].flags & NODE_ATTACHED) == 0)
            continue;
        if (waits_for(graph, user, i) && --choice->waits[user] == 0)
            choose(choice, user, false);
    }
}

/* Returns false when the pattern names nothing. */
static bool choose_named(Choice *choice, const NamePattern *pattern) {
    const Graph *graph = choice->graph;
    bool found = false;
    for (size_t i = 0; i < graph->toc->count; i++) {
        if (!pattern_names(graph, pattern, i))
            continue;
        found = true;
        unsigned flags = graph->nodes[i].flags;
        bool on_its_own = (flags & NODE_ATTACHED) == 0 || (flags & NODE_MATCHABLE) != 0;
        if (on_its_own && (flags & NODE_NEVER) == 0)
            choose(choice, i, (flags & NODE_RELATION) != 0);
    }
    return found;
}

static void choice_init(const Graph *graph, bool blocked, Choice *choice) {
    size_t count = graph->toc->count;
    *choice = (Choice){.graph = graph, .blocked = blocked};
    choice->chosen = arena_array(graph->arena, bool, count + 1);
    choice->whole = arena_array(graph->arena, bool, count + 1);
    choice->waits = arena_array(graph->arena, size_t, count + 1);
    for (size_t i = 0; i < count; i++)
        choice->waits[i] = graph->nodes[i].waits;
}

static bool run_choice(Choice *choice, const PatternVec *tables, const PatternVec *schemas,
                       const MigrateOptions *options, Error *err) {
    const Graph *graph = choice->graph;
    if (tables->len == 0 && schemas->len == 0) {
        for (size_t i = 0; i < graph->toc->count; i++)
            choice->chosen[i] = !choice->blocked || !graph->nodes[i].removed;
        return true;
    }
    for (size_t p = 0; p < tables->len; p++)
        if (!choose_named(choice, &tables->items[p]))
            return error_set(err, REASON_USAGE, "--table %s matches nothing on the source", options->tables.items[p]);
    for (size_t p = 0; p < schemas->len; p++)
        if (!choose_named(choice, &schemas->items[p]))
            return error_set(err, REASON_USAGE, "--schema %s matches nothing on the source", options->schemas.items[p]);
    for (size_t head = 0; head < choice->tail; head++) /* grows while it runs: partitions of partitions */
        choose_partitions(choice, graph->queue[head]);
    for (size_t head = 0; head < choice->tail; head++) {
        choose_needed(choice, graph->queue[head]);
        choose_attached(choice, graph->queue[head]);
    }
    return true;
}

/* --- step 3: the list --- */

static const char *kind_for_people(Arena *arena, const char *desc) {
    if (strcmp(desc, "FK CONSTRAINT") == 0)
        return "foreign key";
    char *kind = arena_strdup(arena, desc);
    for (char *p = kind; *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p | 0x20);
    return kind;
}

static const char *object_for_people(const Graph *graph, size_t i) {
    const TocEntry *entry = &graph->toc->entries[i];
    size_t base = graph->nodes[i].base;
    if (base != NONE && tag_names(entry, &graph->toc->entries[base])) {
        const TocEntry *table = &graph->toc->entries[base];
        const char *own = entry->tag + strlen(table->tag);
        if (*own == ' ')
            return arena_printf(graph->arena, "%s on %s", own + 1,
                                sql_display(graph->arena, table->schema, table->tag));
    }
    if ((graph->nodes[i].flags & NODE_NEVER) != 0 || entry->schema[0] == '\0')
        return entry->tag;
    if (strchr(entry->tag, '(') != NULL) /* "f(integer)" is no plain name, and must not be quoted as one */
        return arena_printf(graph->arena, "%s.%s", entry->schema, entry->tag);
    return sql_display(graph->arena, entry->schema, entry->tag);
}

static const char *kind_and_object(const Graph *graph, size_t i) {
    return arena_printf(graph->arena, "%s %s", kind_for_people(graph->arena, graph->toc->entries[i].desc),
                        object_for_people(graph, i));
}

static void list_one(const Graph *graph, size_t i, size_t cause, const char *why, NotMovedVec *dropped) {
    NotMoved line = {
        .kind = kind_for_people(graph->arena, graph->toc->entries[i].desc),
        .object = object_for_people(graph, i),
        .reason = arena_printf(graph->arena, "needs %s, which is %s", kind_and_object(graph, cause), why),
    };
    vec_push(graph->arena, dropped, line);
}

/* Goes with the thing it is attached to, or with one of two things it ties together: not worth a line. */
static bool goes_silently(const Graph *graph, const bool *chosen, size_t i) {
    const Node *node = &graph->nodes[i];
    if ((node->flags & (NODE_NOTE | NODE_LINK)) != 0)
        return true;
    if ((node->flags & NODE_ATTACHED) == 0)
        return false;
    return node->base == NONE || !chosen[node->base];
}

static void list_dropped(const Graph *graph, const bool *would_move, const bool *chosen, NotMovedVec *dropped) {
    for (size_t i = 0; i < graph->toc->count; i++) {
        const Node *node = &graph->nodes[i];
        if (chosen[i] || goes_silently(graph, chosen, i))
            continue;
        if (node->removed) {
            if (would_move[i] && node->cause != i)
                list_one(graph, i, node->cause,
                         graph->nodes[node->cause].cause == node->cause ? "excluded" : "not moved", dropped);
            continue;
        }
        for (size_t d = 0; (node->flags & NODE_ATTACHED) != 0 && d < graph->toc->entries[i].deps_count; d++) {
            size_t on = dependency(graph->toc, i, d);
            if (waits_for(graph, i, on) && !chosen[on]) {
                list_one(graph, i, on, "not chosen", dropped);
                break;
            }
        }
    }
}

bool schema_select(Arena *arena, const Toc *toc, const MigrateOptions *options, Selection *ret_selection, Error *err) {
    PatternVec tables = {0};
    PatternVec schemas = {0};
    PatternVec not_tables = {0};
    PatternVec not_schemas = {0};
    if (!parse_patterns(arena, &options->tables, false, &tables, err) ||
        !parse_patterns(arena, &options->schemas, true, &schemas, err) ||
        !parse_patterns(arena, &options->exclude_tables, false, &not_tables, err) ||
        !parse_patterns(arena, &options->exclude_schemas, true, &not_schemas, err))
        return false;
    Graph graph;
    graph_init(arena, toc, &graph);
    size_t tail = 0;
    remove_named(&graph, &not_tables, &tail);
    remove_named(&graph, &not_schemas, &tail);
    remove_users(&graph, tail);

    Choice without_exclusions;
    Choice choice;
    choice_init(&graph, false, &without_exclusions);
    choice_init(&graph, true, &choice);
    if (!run_choice(&without_exclusions, &tables, &schemas, options, err) ||
        !run_choice(&choice, &tables, &schemas, options, err))
        return false;
    Selection selection = {.chosen = choice.chosen};
    list_dropped(&graph, without_exclusions.chosen, choice.chosen, &selection.dropped);
    *ret_selection = selection;
    return true;
}
