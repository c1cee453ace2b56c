/* One finding of each kind, with the list of what it is about. */
#include "engine/instance/notes.h"

/* A finding is read by people, and shown by others whole: a list of thousands helps nobody. */
enum { MESSAGE_MAX = 64 * 1024, FIX_MAX = 512 * 1024 };

static const char *const leads[NOTE_MAX_] = {
#define X(id, severity, side, google, lead, help) lead,
#include "engine/instance/findings.def"
#undef X
};

const InstanceFindingInfo instance_findings[] = {
#define X(id, severity, side, google, lead, help) {"INSTANCE_" #id, SEVERITY_##severity, side, google, help},
#include "engine/instance/findings.def"
#undef X
};
const size_t instance_findings_count = COUNT_OF(instance_findings);

void note_add(Notes *notes, InstanceNote note, const char *what, const char *fix) {
    NoteList *list = &notes->lists[note];

    if (++list->count > NOTES_MAX)
        return;
    vec_push(notes->arena, &list->what, arena_strdup(notes->arena, what));
    if (fix[0] != '\0')
        vec_push(notes->arena, &list->fixes, arena_strdup(notes->arena, fix));
}

/* What a server says may quote a name with line ends in it. */
void note_refused(Notes *notes, InstanceNote note, const char *what, const char *cause, const char *fix) {
    char *line = arena_strdup(notes->arena, cause);

    for (char *c = line; *c != '\0'; c++)
        if (*c == '\n' || *c == '\r')
            *c = ' ';
    note_add(notes, note, arena_printf(notes->arena, "%s (%s)", what, line), fix);
}

/* As many as fit; *ret_joined of them. */
static const char *join(Arena *arena, const StringVec *items, const char *between, size_t max, size_t *ret_joined) {
    CLEANUP(buf_fini) Buf text;
    size_t joined = 0;

    buf_init(&text, max);
    for (; joined < items->len && text.len + strlen(items->items[joined]) + strlen(between) < max; joined++) {
        buf_append_str(&text, joined == 0 ? "" : between);
        buf_append_str(&text, items->items[joined]);
    }
    *ret_joined = joined;
    return arena_strdup(arena, text.data);
}

static const char *message_of(Arena *arena, const char *lead, const NoteList *list) {
    size_t joined = 0;
    const char *names = join(arena, &list->what, "; ", MESSAGE_MAX, &joined);

    if (joined == list->count)
        return arena_printf(arena, "%s: %s", lead, names);
    return arena_printf(arena, "%s: %s; and %zu more", lead, names, list->count - joined);
}

static const char *fix_of(Arena *arena, const NoteList *list) {
    size_t joined = 0;
    const char *text = join(arena, &list->fixes, "\n", FIX_MAX, &joined);

    return joined == list->fixes.len && list->count <= NOTES_MAX ? text : arena_printf(arena, "%s\n-- and so on", text);
}

static Finding make_finding(Arena *arena, size_t note, const NoteList *list) {
    const InstanceFindingInfo *info = &instance_findings[note];

    return (Finding){
        .id = info->id,
        .code = info->google,
        .severity = info->severity,
        .side = info->side,
        .object = "",
        .message = message_of(arena, leads[note], list),
        .fix = fix_of(arena, list),
    };
}

void notes_to_findings(const Notes *notes, FindingVec *findings) {
    for (size_t i = 0; i < NOTE_MAX_; i++)
        if (notes->lists[i].count > 0)
            vec_push(notes->arena, findings, make_finding(notes->arena, i, &notes->lists[i]));
}
