/* A small archive and plan built by hand, for tests of what reads them. The dump id of entry i is i + 1. */
#pragma once

#include "common/vec.h"
#include "engine/plan/plan.h"
#include "engine/schema/toc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct SmallToc {
    Arena *arena;
    Toc toc;
    Plan plan;
    bool *chosen;
    bool *done;
    int32_t *by_id;
    size_t cap;
} SmallToc;

static inline SmallToc small_toc_new(size_t cap) {
    Arena *arena = arena_new();
    SmallToc small = {.arena = arena,
                      .chosen = arena_array(arena, bool, cap),
                      .done = arena_array(arena, bool, cap),
                      .by_id = arena_array(arena, int32_t, cap + 1),
                      .cap = cap};

    small.toc.entries = arena_array(arena, TocEntry, cap);
    small.plan.tables = arena_array(arena, PlanTable, cap);
    small.by_id[0] = -1;
    small.toc.by_id = small.by_id;
    small.toc.by_id_count = 1;
    return small;
}

static inline void small_toc_fini(SmallToc *small) {
    arena_freep(&small->arena);
}

/* Depends on the entries `deps` (indexes). Returns the entry's index. */
static inline size_t small_toc_add(SmallToc *small, const char *desc, const char *tag, const char *defn,
                                   const size_t *deps, size_t deps_count) {
    size_t i = small->toc.count++;
    int32_t *ids = arena_array(small->arena, int32_t, MAX(deps_count, 1));
    bool is_table = strcmp(desc, "TABLE") == 0;

    assert_true(i < small->cap);
    for (size_t d = 0; d < deps_count; d++)
        ids[d] = (int32_t)deps[d] + 1;
    small->toc.entries[i] = (TocEntry){
        .dump_id = (int32_t)i + 1,
        .object_oid = 16384 + (uint32_t)i,
        .tag = arena_strdup(small->arena, tag),
        .desc = desc,
        .section = is_table ? TOC_SECTION_PRE_DATA : TOC_SECTION_POST_DATA,
        .defn = arena_strdup(small->arena, defn),
        .drop_stmt = "",
        .copy_stmt = "",
        .schema = "public",
        .tablespace = "",
        .table_am = "",
        .owner = "",
        .deps = ids,
        .deps_count = deps_count,
    };
    small->by_id[i + 1] = (int32_t)i;
    small->toc.by_id_count = i + 2;
    small->chosen[i] = true;
    return i;
}

/* A table with rows: entry and plan. chunks_left ranges are to be copied, 0 = complete. */
static inline size_t small_toc_table(SmallToc *small, const char *name, int64_t bytes, size_t chunks,
                                     size_t chunks_left) {
    size_t i = small_toc_add(small, "TABLE", name, "CREATE TABLE;\n", NULL, 0);
    PlanChunk *list = arena_array(small->arena, PlanChunk, MAX(chunks, 1));

    small->done[i] = true;
    for (size_t c = 0; c < chunks; c++)
        list[c] = (PlanChunk){.no = (int32_t)c,
                              .first_block = (int64_t)c * 10,
                              .end_block = c + 1 == chunks ? -1 : (int64_t)c * 10 + 10,
                              .disk_bytes = bytes / (int64_t)chunks,
                              .done = c >= chunks_left};
    small->plan.tables[small->plan.count++] = (PlanTable){
        .oid = small->toc.entries[i].object_oid,
        .schema = "public",
        .name = small->toc.entries[i].tag,
        .quoted = arena_printf(small->arena, "public.%s", name),
        .display = arena_printf(small->arena, "public.%s", name),
        .filenode = 20000 + (uint32_t)i,
        .columns = "id,v",
        .columns_hash = "h",
        .is_heap = true,
        .bytes = bytes,
        .blocks = (int64_t)chunks * 10,
        .snapshot = 1,
        .chunks = list,
        .chunks_count = chunks,
        .chunks_left = chunks_left,
    };
    return i;
}

static inline size_t small_toc_index(SmallToc *small, const char *name, size_t table) {
    return small_toc_add(small, "INDEX", name,
                         arena_printf(small->arena, "CREATE INDEX %s ON public.%s USING btree (v);\n", name,
                                      small->toc.entries[table].tag),
                         &table, 1);
}

static inline size_t small_toc_key(SmallToc *small, const char *name, size_t table) {
    return small_toc_add(small, "CONSTRAINT", name,
                         arena_printf(small->arena,
                                      "ALTER TABLE ONLY public.%s\n    ADD CONSTRAINT %s PRIMARY KEY (id);\n",
                                      small->toc.entries[table].tag, name),
                         &table, 1);
}
