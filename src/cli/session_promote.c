/* What a session is asked for about a promote: by its own command, by other terminals, by the service. */
#include "cli/session_internal.h"

#include <string.h>

bool session_is_abort(const Session *session) {
    return session->input->action != NULL && strcmp(session->input->action, "abort") == 0;
}

/* What it does not say is as this run was begun. */
static bool merge_promote(const Session *session, const json_t *given, json_t **ret_merged, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(json_freep) json_t *merged = options_to_json(session->options);
    MigrateOptions options;
    (void)json_object_update(merged, (json_t *)(uintptr_t)given); /* is only read */
    (void)json_object_del(merged, "source");
    (void)json_object_del(merged, "dest");
    if (!options_from_json(arena, merged, &options, err) || !options_check(&options, err))
        return false;
    *ret_merged = json_incref(merged);
    return true;
}

static bool send_promote(Session *session, const json_t *given, Error *err) {
    CLEANUP(json_freep) json_t *merged = NULL;
    if (!merge_promote(session, given, &merged, err) ||
        !wire_send(session->wire, WIRE_PROMOTE,
                   json_pack("{s:O, s:I}", "options", merged, "no", (json_int_t)++session->promote_no), err))
        return false;
    session->promoting = true;
    return true;
}

static bool is_following(const Session *session) {
    const Progress *progress = &session->screen.progress;
    bool begun = progress->cdc.state != CDC_NONE || progress->phases[PHASE_CDC].state == PHASE_RUNNING;
    return begun && progress->cdc.state != CDC_PROMOTED;
}

/* Here and in all terminals. */
static void tell_everybody(Session *session, const char *text) {
    CLEANUP(json_freep) json_t *body = json_pack("{s:s, s:s}", "level", "info", "text", text);
    screen_event(&session->screen, "info", text);
    if (session->control != NULL)
        control_message(session->control, WIRE_EVENT, body, &session->screen.progress);
}

/* Asked for while the copy is under way. A mistake in it is told now. */
static bool keep_promote(Session *session, const json_t *given, Error *err) {
    CLEANUP(json_freep) json_t *merged = NULL;
    if (!merge_promote(session, given, &merged, err))
        return false;
    session->waiting = json_deep_copy(given);
    if (session->waiting == NULL)
        session->waiting = json_object();
    tell_everybody(session, "a promote was asked for: it begins when the copy is complete");
    return true;
}

void session_note_wish(const Session *session, const json_t *result) {
    if (session->control != NULL && session->wish != NULL)
        control_note(session->control, "wish", json_pack("{s:s, s:O?}", "wish", session->wish, "result", result));
}

static bool call_off(Session *session, Error *err) {
    error_set(err, REASON_CANCELLED, "the promote was called off before it began");
    CLEANUP(json_freep) json_t *result = json_pack("{s:b, s:o}", "ok", 0, "error", wire_error_to_json(err));
    session_note_wish(session, result);
    return false;
}

/* The one that is asked to cancel may come before the one that asks to promote, or alone: it is answered for both. */
static bool cancel_promote(Session *session, const char *wish, bool under_way, Error *err) {
    if (wish != NULL && !under_way && (session->wish == NULL || strcmp(session->wish, wish) != 0)) {
        session->wish = arena_strdup(session->arena, wish);
        return call_off(session, err);
    }
    if (session->waiting != NULL) {
        json_freep(&session->waiting);
        return call_off(session, err);
    }
    if (!under_way)
        return error_set(err, REASON_PROMOTE_REFUSED, "no promote is under way");
    if (session->cancel_sent)
        return true;
    session->cancel_sent = wire_send(session->wire, WIRE_PROMOTE, json_pack("{s:b}", "cancel", 1), err);
    return session->cancel_sent;
}

/* A picture of the progress may still show a promote that has been told to be over: it counts for one that was not
 * asked for alone. */
static bool is_promoting(const Session *session) {
    return session->promoting ||
           (strcmp(session->options->promote, "auto") == 0 && session->screen.progress.cdc.state == CDC_PROMOTING);
}

static bool take_promote(Session *session, const char *wish, const json_t *body, Error *err) {
    bool under_way = is_promoting(session);
    bool is_to_come = session->input->promote != NULL && !session->promote_sent; /* this run is for it */
    if (json_get_bool(body, "cancel", false))
        return cancel_promote(session, wish, under_way, err);
    if (wish != NULL && session->wish != NULL && strcmp(session->wish, wish) == 0)
        return error_set(err, REASON_PROMOTE_REFUSED, "this promote was asked for before");
    if (under_way || is_to_come || session->waiting != NULL)
        return error_set(err, REASON_PROMOTE_REFUSED, "a promote of this migration is under way already");
    if (session_is_abort(session))
        return error_set(err, REASON_PROMOTE_REFUSED, "this migration is being given up");
    if (!session->options->follow)
        return error_set(err, REASON_PROMOTE_REFUSED, "this migration was not begun with --follow");
    if (session->stops > 0 || session->screen.progress.cdc.state == CDC_PROMOTED)
        return error_set(err, REASON_PROMOTE_REFUSED, "the migration is being stopped, or is promoted");
    const json_t *given = json_get_object(body, "options");
    return is_following(session) ? send_promote(session, given, err) : keep_promote(session, given, err);
}

bool session_request_promote(Session *session, const json_t *body, Error *err) {
    const char *wish = json_get_string(body, "wish", NULL);
    if (!take_promote(session, wish, body, err))
        return false;
    if (wish != NULL && !json_get_bool(body, "cancel", false)) {
        session->wish = arena_strdup(session->arena, wish);
        session_note_wish(session, NULL);
    }
    return true;
}

bool session_promote_that_waited(Session *session, Error *err) {
    if (session->waiting == NULL || session->stops > 0 || !is_following(session))
        return true;
    CLEANUP(json_freep) json_t *given = session->waiting;
    session->waiting = NULL;
    return send_promote(session, given, err);
}

/* The promote that this run is for. */
bool session_promote_when_following(Session *session, Error *err) {
    if (session->input->promote == NULL || session->promote_sent || session->stops > 0 || !is_following(session))
        return true;
    session->promote_sent = true;
    return send_promote(session, json_get_object(session->input->promote, "options"), err);
}
