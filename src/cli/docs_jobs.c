/* The life of a job of the service as a page: what is answered to each wish, and every row of its table. */
#include "cli/docs.h"

#include "cli/doc_text.h"
#include "model/job_state.h"

static void put_place(Buf *out, JobState state, JobPhase phase) {
    if (phase == JOB_PHASE_NONE)
        buf_printf(out, "`%s`", job_state_name(state));
    else
        buf_printf(out, "`%s/%s`", job_state_name(state), job_phase_name(phase));
}

/* ---- Wishes ---- */

static bool is_wish(JobEvent event) {
    return job_event_verb(event) != NULL;
}

static bool is_place(JobState state, JobPhase phase) {
    for (size_t i = 0; i < job_transitions_count; i++)
        if (job_transitions[i].from == state && job_transitions[i].from_phase == phase)
            return true;
    return false;
}

static void put_answer(Buf *out, JobState state, JobPhase phase, JobEvent wish) {
    const JobView view = {.state = state, .phase = phase, .is_prepared = true};
    const char * or = "";
    bool always = false;

    for (size_t i = 0; i < job_transitions_count; i++) {
        const JobTransition *row = &job_transitions[i];

        if (row->from != state || row->from_phase != phase || row->event != wish)
            continue;
        buf_append_str(out, or);
        or = " or ";
        put_place(out, row->to, row->to_phase);
        always = always || row->guard == NULL;
    }
    if (!always)
        buf_printf(out, "%s%s", or, job_wish_is_met(&view, wish) ? "met" : "refused");
}

static void put_answers(Buf *out, JobState state, JobPhase phase) {
    buf_append_str(out, "| ");
    put_place(out, state, phase);
    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        if (is_wish(event)) {
            buf_append_str(out, " | ");
            put_answer(out, state, phase, event);
        }
    buf_append_str(out, " |\n");
}

static void put_wishes(Buf *out) {
    buf_append_str(out, "\n## Wishes\n\n");
    text_wrap(out,
              "Where each verb of the API leads to. Met: what is asked for is under way or done, and the answer is the "
              "operation that says so. Refused: `FAILED_PRECONDITION`, with the verbs that are allowed.",
              0, 0, 110);
    buf_append_str(out, "\n| State");
    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        if (is_wish(event))
            buf_printf(out, " | %s", job_event_verb(event));
    buf_append_str(out, " |\n| ---");
    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        if (is_wish(event))
            buf_append_str(out, " | ---");
    buf_append_str(out, " |\n");
    for (JobState state = 0; state < JOB_STATE_MAX_; state++)
        for (JobPhase phase = 0; phase < JOB_PHASE_MAX_; phase++)
            if (is_place(state, phase))
                put_answers(out, state, phase);
}

/* ---- Names ---- */

static void put_names(Buf *out) {
    buf_append_str(out, "\n## Events\n\n| Event | Verb | Meaning |\n| --- | --- | --- |\n");
    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        buf_printf(out, "| `%s` | %s | %s |\n", job_event_name(event), is_wish(event) ? job_event_verb(event) : "",
                   job_event_meaning(event));
    buf_append_str(out, "\n## Actions\n\n| Action | Meaning |\n| --- | --- |\n");
    for (JobAction action = 0; action < ACTION_MAX_; action++)
        buf_printf(out, "| `%s` | %s |\n", job_action_name(action), job_action_meaning(action));
    buf_append_str(out, "\n## Conditions\n\n| Condition | Meaning |\n| --- | --- |\n");
    for (size_t i = 0; i < job_guards_count; i++)
        buf_printf(out, "| `%s` | %s |\n", job_guards[i].name, job_guards[i].meaning);
}

/* ---- The table ---- */

static void put_row(Buf *out, const JobTransition *row) {
    buf_append_str(out, "| ");
    put_place(out, row->from, row->from_phase);
    buf_printf(out, " | `%s` | ", job_event_name(row->event));
    if (row->guard != NULL)
        buf_printf(out, "`%s` ", job_guard_name(row->guard));
    buf_append_str(out, "| ");
    put_place(out, row->to, row->to_phase);
    buf_printf(out, " | `%s` | ", job_action_name(row->action));
    markdown_escape(out, row->comment);
    buf_append_str(out, " |\n");
}

void docs_job_states(Buf *out) {
    markdown_title(out, "States of a job",
                   "States and phases have the names of Google's Database Migration API v1. An event is a wish, "
                   "a verb of the API, or a fact, which a worker or time has brought about. What follows from it "
                   "is the first row for its state whose condition holds; a wish without a row is met or refused, "
                   "a fact without one is of a time that is over, and is dropped.");
    put_wishes(out);
    put_names(out);
    buf_append_str(out, "\n## Transitions\n\n| From | Event | Condition | To | Action | The job's log says |\n"
                        "| --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < job_transitions_count; i++)
        put_row(out, &job_transitions[i]);
}
