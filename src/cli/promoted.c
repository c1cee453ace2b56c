/* How a promote ended, read from the wire and shown. */
#include "cli/promoted.h"

#include "cli/tty.h"
#include "common/clock.h"
#include "wire/wire.h"

#define IN_MS_UNTIL_US (10 * USEC_PER_SEC)

static bool read_lists(Arena *arena, const json_t *json, Promoted *promoted, Error *err) {
    size_t index;
    const json_t *item;
    json_array_foreach(json_get_array(json, "steps"), index, item) {
        ReportStep step = {.name = arena_strdup(arena, json_get_string(item, "name", NULL)),
                           .us = json_get_int(item, "us", 0)};
        if (step.name == NULL)
            return error_set(err, REASON_WIRE_BAD, "PROMOTED: a step without its name");
        vec_push(arena, &promoted->steps, step);
    }
    json_array_foreach(json_get_array(json, "notes"), index, item) {
        if (!json_is_string(item))
            return error_set(err, REASON_WIRE_BAD, "PROMOTED: a note that is no text");
        vec_push(arena, &promoted->notes, arena_strdup(arena, json_string_value(item)));
    }
    return true;
}

bool promoted_from_json(Arena *arena, const json_t *json, Promoted *ret_promoted, Error *err) {
    Promoted promoted = {
        .ok = json_get_bool(json, "ok", false),
        .dry_run = json_get_bool(json, "dry_run", false),
        .opened = json_get_bool(json, "opened", false),
        .proven = json_get_bool(json, "proven", false),
        .outage_us = json_get_int(json, "outage_us", 0),
        .outage_with_hooks_us = json_get_int(json, "outage_with_hooks_us", 0),
    };
    if (!read_lists(arena, json, &promoted, err))
        return false;
    if (!promoted.ok)
        wire_error_from_json(json_get_object(json, "error"), &promoted.error);
    *ret_promoted = promoted;
    return true;
}

const char *outage_text(Arena *arena, int64_t us) {
    if (us < IN_MS_UNTIL_US)
        return arena_printf(arena, "%lld ms", (long long)((us + USEC_PER_MSEC - 1) / USEC_PER_MSEC));
    return clock_duration(arena, us);
}

const char *outage_with_hooks_text(Arena *arena, int64_t us, int64_t with_hooks_us) {
    const char *without = outage_text(arena, us);
    if (with_hooks_us <= 0)
        return without;
    return arena_printf(arena, "%s (with the hooks: %s)", without, outage_text(arena, with_hooks_us));
}

void promote_steps_render(Buf *out, const ReportStepVec *steps) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t at = 0; at < steps->len; at++)
        buf_printf(out, "  %10s  %s\n", outage_text(arena, steps->items[at].us),
                   text_clean(arena, steps->items[at].name));
}

static const char *proof_text(const Promoted *promoted) {
    if (promoted->proven)
        return "proven: nothing changed on the source after the last change applied";
    return "not proven: writes of the last moment may be missing on the destination";
}

void promoted_render(Buf *out, const Promoted *promoted) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *outage = outage_with_hooks_text(arena, promoted->outage_us, promoted->outage_with_hooks_us);
    if (promoted->dry_run)
        buf_printf(out, "Dry run: nothing was stopped. Writes would be away for about %s\n\n", outage);
    else
        buf_printf(out, "Promoted: the destination is the database now. Writes were away for %s\n%s\n\n", outage,
                   proof_text(promoted));
    promote_steps_render(out, &promoted->steps);
    if (promoted->notes.len > 0)
        buf_append_str(out, "\nNotes:\n");
    for (size_t at = 0; at < promoted->notes.len; at++)
        buf_printf(out, "  - %s\n", text_clean(arena, promoted->notes.items[at]));
}
