/*
 * What VERIFY mends, when somebody has agreed to it.
 *
 * "fixes" of the request are statements that an earlier VERIFY has shown. They are carried out only when all of them
 * are what this one finds, too. Each statement is carried out once: one that changes the server is found by every
 * database, and is given to one of them, before those that change databases. A second session of each of these
 * databases looks for itself and carries out its own in one transaction per side; a third looks at what has become of
 * them. Behind a statement of the server all databases are looked at again, and the instance.
 *
 * All that was changed is told, in the answer and in the job's log. Where this may die:
 * - Before the list is noted in the operation: nothing was changed, and no session that changes anything was begun.
 * - Behind that, the daemon, with the same node later: the sessions' folders say what came of them, and the errand goes
 *   on from there. Until it does, the operation has the list, as UNDER_WAY.
 * - Behind that, with another node: the folders are gone, and the list is there. What is not found any more was carried
 *   out; the rest is carried out now, as it was agreed to.
 * - A session, or its worker: told by nobody, so the third session looks. What it still finds was not carried out. When
 *   it cannot look, that is told: UNKNOWN.
 * - A session that fails, and says so, has said what it changed until then (engine/preflight/mend.c).
 * Behind a failure no more sessions are begun that change anything, and those that were are waited for.
 */
#include "jobs/job.h"
#include "jobs/operation.h"
#include "model/finding.h"
#include "supervise/verify.h"

#include <string.h>

static const char key_state[] = "state", key_mended[] = "mended";
/* Of a statement. DOUBT: its session cannot say. Only UNDER_WAY, DONE and UNKNOWN are told. */
static const char under_way[] = "UNDER_WAY", done[] = "DONE", unknown[] = "UNKNOWN", doubt[] = "DOUBT";

static const char *text_of(const json_t *object, const char *key) {
    return json_get_string(object, key, "");
}

static bool is_text(const json_t *object, const char *key, const char *text) {
    return strcmp(text_of(object, key), text) == 0;
}

static bool is_wide(const json_t *entry) {
    return json_get_bool(entry, "wide", false);
}

static void set_state(json_t *entry, const char *state) {
    (void)json_object_set_new(entry, key_state, json_string(state));
}

/* ---- The plan ---- */

/* One of the server may be named without a database. tried: only what its trial has not refused. */
static bool is_fix_of(const json_t *fix, const json_t *shown, bool tried) {
    bool of_server = is_text(fix, "database", "") && json_get_bool(shown, "serverWide", false);

    if ((tried && !json_get_bool(shown, "mendable", false)) || !is_text(fix, "side", text_of(shown, "side")))
        return false;
    return of_server ? mend_is_same(text_of(fix, "statement"), text_of(shown, "fix"))
                     : is_text(fix, "database", text_of(shown, "database")) &&
                           is_text(fix, "statement", text_of(shown, "fix"));
}

/* What was noted is agreed to: a trial that fails just now does not make it one that is done. */
static const json_t *find_shown(const Verify *verify, const json_t *fix) {
    for (size_t at = 0; at < json_array_size(verify->shown); at++)
        if (is_fix_of(fix, json_array_get(verify->shown, at), verify->noted == NULL))
            return json_array_get(verify->shown, at);
    return NULL;
}

/* The first that finds it, whoever was named: the same at each look. */
static const json_t *carrier_of(const Verify *verify, const json_t *shown) {
    const json_t *asked = shown;

    for (size_t at = 0; json_get_bool(asked, "serverWide", false) && at < json_array_size(verify->shown); at++) {
        const json_t *other = json_array_get(verify->shown, at);

        if (json_get_bool(other, "serverWide", false) && is_text(other, "side", text_of(asked, "side")) &&
            mend_is_same(text_of(other, "fix"), text_of(asked, "fix")))
            return other;
    }
    return asked;
}

static bool is_same_entry(const json_t *entry, const json_t *other) {
    if (!is_text(entry, "side", text_of(other, "side")) || is_wide(entry) != is_wide(other))
        return false;
    return is_wide(entry) ? mend_is_same(text_of(entry, "statement"), text_of(other, "statement"))
                          : is_text(entry, "database", text_of(other, "database")) &&
                                is_text(entry, "statement", text_of(other, "statement"));
}

/* Takes over `entry`. */
static void add_entry(Verify *verify, json_t *entry) {
    for (size_t at = 0; at < json_array_size(verify->plan); at++)
        if (is_same_entry(json_array_get(verify->plan, at), entry)) {
            json_decref(entry);
            return;
        }
    (void)json_array_append_new(verify->plan, entry);
}

static json_t *entry_of(const json_t *shown) {
    return json_pack("{s:s, s:s, s:s, s:b}", "database", text_of(shown, "database"), "side", text_of(shown, "side"),
                     "statement", text_of(shown, "fix"), "wide", json_get_bool(shown, "serverWide", false));
}

/* Another node began, and did this much. Without a database it is of the server. */
static json_t *entry_of_gone(const json_t *fix) {
    json_t *entry =
        json_pack("{s:s, s:s, s:s, s:b}", "database", text_of(fix, "database"), "side", text_of(fix, "side"),
                  "statement", text_of(fix, "statement"), "wide", is_text(fix, "database", ""));

    set_state(entry, done);
    return entry;
}

static bool refuse_fix(const json_t *fix, Error *err) {
    const char *database = text_of(fix, "database");

    return error_set(err, REASON_FINDINGS_CHANGED,
                     "nothing was changed: %s%s%snothing on the %s asks for this any more: %s",
                     database[0] != '\0' ? "in database " : "", database, database[0] != '\0' ? " " : "",
                     text_of(fix, "side"), text_of(fix, "statement"));
}

/* All of what is asked for, or nothing. What was begun is asked for as it was noted. */
static bool make_plan(Verify *verify, Error *err) {
    const json_t *asked = verify->noted != NULL ? verify->noted : verify->fixes;

    verify->plan = json_array();
    for (size_t at = 0; at < json_array_size(asked); at++) {
        const json_t *fix = json_array_get(asked, at);
        const json_t *shown = find_shown(verify, fix);

        if (shown == NULL && verify->noted == NULL)
            return refuse_fix(fix, err);
        add_entry(verify, shown != NULL ? entry_of(carrier_of(verify, shown)) : entry_of_gone(fix));
    }
    return true;
}

/* ---- The note ---- */

static json_t *told_entry(const json_t *entry, const char *state) {
    return json_pack("{s:s, s:s, s:s, s:s}", "database", is_wide(entry) ? "" : text_of(entry, "database"), "side",
                     text_of(entry, "side"), "statement", text_of(entry, "statement"), key_state, state);
}

bool mending_load(StoreTx *tx, Verify *verify, Error *err) {
    CLEANUP(record_fini) Record operation = {0};

    json_freep(&verify->noted);
    if (verify->fixes == NULL)
        return true;
    if (!record_load(tx, STORE_OPERATION, verify->errands->operation, &operation, err))
        return err->reason == REASON_NO_RESOURCE;
    verify->noted = json_incref(json_object_get(json_object_get(operation.api, "metadata"), key_mended));
    return true;
}

static bool write_note(StoreTx *tx, void *context, Error *err) {
    const Verify *verify = context;
    CLEANUP(json_freep) json_t *list = json_array();

    for (size_t at = 0; at < json_array_size(verify->plan); at++)
        (void)json_array_append_new(list, told_entry(json_array_get(verify->plan, at), under_way));
    return operation_note(tx, verify->errands->arena, verify->errands->operation, key_mended, list, err);
}

static bool note_begin(Verify *verify, Error *err) {
    Errands *errands = verify->errands;

    return verify->noted != NULL || store_write(errands->this->config.store, errands->arena, write_note, verify, err);
}

/* ---- Carrying out ---- */

/* Those of a database's session, in this turn; NULL = none. New reference, whose items are the plan's. */
static json_t *entries_of(const Verify *verify, const char *database, bool wide) {
    json_t *list = NULL;

    for (size_t at = 0; at < json_array_size(verify->plan); at++) {
        json_t *entry = json_array_get(verify->plan, at);

        if (!is_text(entry, "database", database) || is_wide(entry) != wide || is_text(entry, key_state, done))
            continue;
        if (list == NULL)
            list = json_array();
        (void)json_array_append(list, entry);
    }
    return list;
}

static const char *state_of(const SeatPicture *picture, const char *side) {
    const char *said = text_of(json_object_get(picture->said, key_mended), side);

    if (strcmp(said, done) == 0)
        return done;
    return strcmp(said, unknown) == 0 || picture->seat.state == SEAT_LOST ? doubt : "";
}

static bool mend_database(Verify *verify, const char *database, Error *err) {
    CLEANUP(json_freep) json_t *mends = entries_of(verify, database, verify->wide_turn);
    SeatPicture picture = {0};
    Error why;

    if (mends == NULL)
        return true;
    if (!verify_visit(verify, verify->wide_turn ? VERIFY_MEND_SERVER : VERIFY_MEND, database, mends, &picture, &why)) {
        if (is_of_the_store(&why)) {
            *err = why;
            return false;
        }
        verify_fail(verify, &why);
    }
    for (size_t at = 0; errand_is_over(&picture) && at < json_array_size(mends); at++)
        set_state(json_array_get(mends, at), state_of(&picture, text_of(json_array_get(mends, at), "side")));
    if (errand_is_over(&picture) && verify_has_failed(&picture))
        verify_fail(verify, &picture.error);
    seat_picture_fini(&picture);
    return true;
}

/* Two sessions that change the same row of a shared catalogue at once would fail. */
static bool take_turn(Verify *verify, const SeatPicture *instance, bool wide, Error *err) {
    verify->wide_turn = wide;
    verify->busy = 0;
    verify->at_once = wide ? 1 : VERIFY_AT_ONCE;
    return verify_each(verify, instance, mend_database, err);
}

/* ---- Looking again ---- */

static bool is_to_look(const Verify *verify, const char *database) {
    for (size_t at = 0; at < json_array_size(verify->plan); at++) {
        const json_t *entry = json_array_get(verify->plan, at);

        if (is_wide(entry) || is_text(entry, "database", database))
            return true;
    }
    return false;
}

static bool look_again(Verify *verify, const char *database, Error *err) {
    SeatPicture picture = {0};
    Error why;

    if (!is_to_look(verify, database))
        return true;
    if (!verify_visit(verify, VERIFY_AGAIN, database, NULL, &picture, &why)) {
        if (is_of_the_store(&why)) {
            *err = why;
            return false;
        }
        verify_fail(verify, &why);
    }
    seat_picture_fini(&picture);
    return true;
}

static bool is_found(const json_t *entry, const SeatPicture *picture) {
    const json_t *list = json_get_array(json_get_object(picture->said, "findings"), "findings");

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *finding = json_array_get(list, at);

        if (is_text(finding, "side", text_of(entry, "side")) && is_text(finding, "fix", text_of(entry, "statement")))
            return true;
    }
    return false;
}

static void settle_doubts(const Verify *verify, const char *database, const SeatPicture *picture) {
    bool sees = errand_is_over(picture) && !verify_has_failed(picture);

    for (size_t at = 0; at < json_array_size(verify->plan); at++) {
        json_t *entry = json_array_get(verify->plan, at);

        if (is_text(entry, "database", database) && is_text(entry, key_state, doubt))
            set_state(entry, !sees ? unknown : is_found(entry, picture) ? "" : done);
    }
}

/* The newest look of each. */
static bool collect_last(Verify *verify, const char *database, Error *err) {
    SeatPicture picture = {0};
    bool ok = !is_to_look(verify, database) || verify_peek(verify, VERIFY_AGAIN, database, &picture, err);

    settle_doubts(verify, database, &picture);
    if (ok && !errand_is_over(&picture)) {
        seat_picture_fini(&picture);
        ok = verify_peek(verify, VERIFY_LOOK, database, &picture, err);
    }
    ok = ok && verify_collect(verify, database, &picture, err);
    seat_picture_fini(&picture);
    return ok;
}

static bool collect_anew(Verify *verify, const SeatPicture *instance, Error *err) {
    (void)json_array_clear(verify->details);
    (void)json_array_clear(verify->shown);
    verify->errors = 0;
    verify->left_out = 0;
    verify->estimate = (Estimate){0};
    return collect_last(verify, "", err) && verify_each(verify, instance, collect_last, err);
}

static bool look_at_all_again(Verify *verify, const SeatPicture *instance, Error *err) {
    verify->busy = 0;
    verify->at_once = VERIFY_AT_ONCE;
    verify->no_more = false;
    if (!look_again(verify, "", err) || !verify_each(verify, instance, look_again, err))
        return false;
    return !verify->all_over || collect_anew(verify, instance, err);
}

bool mending_go_on(Verify *verify, const SeatPicture *instance, Error *err) {
    Error why;

    if (!make_plan(verify, &why)) {
        json_freep(&verify->plan);
        verify_fail(verify, &why);
        return true;
    }
    if (!note_begin(verify, err) || !take_turn(verify, instance, true, err))
        return false;
    if (verify->all_over && !verify->failed && !take_turn(verify, instance, false, err))
        return false;
    return !verify->all_over || look_at_all_again(verify, instance, err);
}

/* ---- Telling ---- */

json_t *mending_told(const Verify *verify) {
    const json_t *list = verify->plan != NULL ? verify->plan : verify->noted;
    json_t *told = json_array();

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *entry = json_array_get(list, at);
        bool is_done = verify->plan != NULL && is_text(entry, key_state, done);
        bool is_open = verify->plan == NULL || is_text(entry, key_state, unknown) || is_text(entry, key_state, doubt);

        if (is_done || is_open)
            (void)json_array_append_new(told, told_entry(entry, is_done ? done : unknown));
    }
    if (list == NULL)
        json_freep(&told);
    return told;
}

bool mending_log(StoreTx *tx, const char *job, const json_t *mended, Error *err) {
    CLEANUP(arena_freep) Arena *arena = arena_new();

    for (size_t at = 0; at < json_array_size(mended); at++) {
        const json_t *fix = json_array_get(mended, at);
        const char *database = text_of(fix, "database");
        const char *text =
            arena_printf(arena, "%s%s%son the %s: %s%s", database[0] != '\0' ? "database " : "", database,
                         database[0] != '\0' ? ", " : "", text_of(fix, "side"), text_of(fix, "statement"),
                         is_text(fix, key_state, unknown) ? " (may have been carried out: whoever did it was"
                                                            " lost, and it cannot be looked at)"
                                                          : "");

        if (!job_log(tx, job, "MENDED", text, NULL, err))
            return err->reason == REASON_NO_RESOURCE;
    }
    return true;
}
