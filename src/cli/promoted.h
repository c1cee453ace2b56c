/* How a promote ended, read from the wire and shown. Pure. */
#pragma once

#include "common/buf.h"
#include "model/progress.h"

typedef struct Promoted {
    bool ok, dry_run;
    bool opened, proven;
    int64_t outage_us;            /* dry run: the estimate */
    int64_t outage_with_hooks_us; /* 0 = there was none */
    ReportStepVec steps;
    StringVec notes;
    Error error; /* unless ok */
} Promoted;

/* The body of a PROMOTED message. */
NODISCARD bool promoted_from_json(Arena *arena, const json_t *json, Promoted *ret_promoted, Error *err);
/* For people; what went well, or would. One that failed is an error to be printed as such. */
void promoted_render(Buf *out, const Promoted *promoted);
/* "840 ms" below ten seconds. */
const char *outage_text(Arena *arena, int64_t us);
/* And how long an application was away that the hooks stop and let go; 0 = no hook ran. */
const char *outage_with_hooks_text(Arena *arena, int64_t us, int64_t with_hooks_us);
/* One line for each step that took time, indented. */
void promote_steps_render(Buf *out, const ReportStepVec *steps);
