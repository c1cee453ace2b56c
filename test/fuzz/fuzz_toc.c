/* Any bytes as an archive: parsed or refused, and what was parsed gives SQL. */
#include "engine/schema/statements.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Toc toc;
    Error err;
    if (!toc_parse(arena, bytes, len, &toc, &err))
        return 0;
    RestoreOptions options = {0};
    for (size_t i = 0; i < toc.count; i++) {
        const TocEntry *entry = &toc.entries[i];
        (void)restore_pass(&toc, entry, &options);
        (void)restore_sql(arena, entry, &options);
        (void)restore_drop_sql(arena, entry);
        (void)restore_foreign_key_not_valid_sql(arena, entry, &options);
        (void)restore_after_first_statement(arena, entry);
        if (toc_find(&toc, entry->dump_id) != entry)
            __builtin_trap();
    }
    return 0;
}
