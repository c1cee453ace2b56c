/* A terminal beside a migration: sends a request to the process that runs it, and shows what comes of it. */
#include "cli/client.h"

#include "cli/output.h"
#include "cli/screen.h"
#include "cli/signals.h"
#include "common/fd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024 * 1024 };
static const int64_t no_wait = 1;

typedef struct Conversation {
    Arena *arena;
    const ClientInput *input;
    ClientResult result;
    Screen screen;
    int signal_fd;
    int signals;
    char step[200]; /* of the promote, as last shown */
    bool over;
} Conversation;

/* --- what comes --- */

static void show_step(Conversation *this, const json_t *body) {
    const char *step = json_get_string(json_get_object(body, "cdc"), "promote_step", "");
    if (strcmp(step, this->step) == 0)
        return;
    (void)snprintf(this->step, sizeof(this->step), "%s", step);
    if (step[0] != '\0')
        screen_event(&this->screen, "info", step);
}

static bool take_promoted(Conversation *this, const json_t *body, Error *err) {
    if (!promoted_from_json(this->arena, body, &this->result.promoted, err))
        return false;
    this->result.has_promoted = true;
    /* One that opened the destination is followed by the run's own end, and everything cleaned up. */
    this->over = this->input->request == WIRE_PROMOTE && (!this->result.promoted.ok || this->result.promoted.dry_run);
    return true;
}

static void take_failed(Conversation *this, const json_t *body) {
    wire_error_from_json(body, &this->result.error);
    this->result.has_failed = true;
    this->over = this->input->request == WIRE_PROMOTE;
}

static void take_report(Conversation *this, const json_t *body) {
    this->result.is_promoted = json_get_bool(body, "promoted", false);
    this->result.unproven = this->result.is_promoted && !json_get_bool(body, "proven", false);
}

static bool print_line(const Conversation *this, WireType type, const json_t *body, Error *err) {
    CLEANUP(buf_fini) Buf line;
    buf_init(&line, LINE_MAX_BYTES);
    output_json_line(&line, type, body);
    return !this->input->json || output_results(&line, err);
}

static bool take_message(Conversation *this, WireType type, const json_t *body, Error *err) {
    if (!print_line(this, type, body, err))
        return false;
    if (type == WIRE_EVENT)
        screen_event(&this->screen, json_get_string(body, "level", "info"), json_get_string(body, "text", ""));
    else if (type == WIRE_PROGRESS)
        show_step(this, body);
    else if (type == WIRE_PROMOTED)
        return take_promoted(this, body, err);
    else if (type == WIRE_REPORT)
        take_report(this, body);
    else if (type == WIRE_FAILED)
        take_failed(this, body);
    else if (type == WIRE_DONE)
        this->result.done = true;
    return true;
}

/* One that was killed may have said what came of the promote: that stands. */
static bool end_without_a_word(Conversation *this, Error *err) {
    if (this->result.done || this->result.has_failed)
        return true;
    error_set(err, REASON_WORKER_LOST, "the process that runs the migration has ended without a word");
    if (!this->result.has_promoted || !this->result.promoted.opened)
        return false;
    error_wrap(err, "the destination is open, but the source is not cleared up yet");
    this->result.error = *err;
    this->result.has_failed = true;
    return true;
}

/* After its last word the process gives back the lock, then its socket ends: what is done next finds it gone. */
static bool read_wire(Conversation *this, Error *err) {
    for (;;) {
        CLEANUP(json_freep) json_t *body = NULL;
        WireType type = WIRE_MAX_;
        switch (wire_receive(this->input->wire, NULL, no_wait, &type, &body, err)) {
        case WIRE_MESSAGE:
            if (!take_message(this, type, body, err))
                return false;
            break;
        case WIRE_NOTHING:
            return true;
        case WIRE_CLOSED:
            this->over = true;
            return end_without_a_word(this, err);
        case WIRE_BROKEN:
            return false;
        }
        /* A STOP is over when the socket ends, the process then being gone. */
        if (this->over && this->input->request == WIRE_PROMOTE)
            return true;
    }
}

/* --- what goes --- */

static bool take_stop(Conversation *this, Error *err) {
    this->signals++;
    if (this->signals > 1 || this->input->request != WIRE_PROMOTE) {
        error_set(err, REASON_CANCELLED, "not waited for: what was asked for goes on by itself");
        return error_remedy(err, "pgcrane status shows what came of it");
    }
    screen_note(&this->screen, "calling the promote off; again to leave it to itself");
    return wire_send(this->input->wire, WIRE_PROMOTE, json_pack("{s:b}", "cancel", 1), err);
}

static bool take_signals(Conversation *this, Error *err) {
    for (int number; (number = signals_next(this->signal_fd)) != 0;)
        if (signal_is_stop(number) && !take_stop(this, err))
            return false;
    return true;
}

static bool converse(Conversation *this, Error *err) {
    if (!signals_open(&this->signal_fd, err) ||
        !wire_send(this->input->wire, this->input->request, json_deep_copy(this->input->body), err))
        return false;
    while (!this->over) {
        struct pollfd fds[] = {
            {.fd = wire_fd(this->input->wire), .events = POLLIN},
            {.fd = this->signal_fd, .events = POLLIN},
        };
        if (poll(fds, COUNT_OF(fds), -1) < 0 && errno != EINTR)
            return error_errno(err, REASON_SYSTEM, "poll");
        if (fds[1].revents != 0 && !take_signals(this, err))
            return false;
        if (fds[0].revents != 0 && !read_wire(this, err))
            return false;
    }
    return true;
}

static ScreenMode screen_mode(const ClientInput *input) {
    if (input->json)
        return SCREEN_SILENT;
    return input->quiet ? SCREEN_WARNINGS : SCREEN_PLAIN;
}

bool client_run(Arena *arena, const ClientInput *input, ClientResult *ret_result, Error *err) {
    Conversation this = {.arena = arena, .input = input, .signal_fd = -1};
    Tty tty = tty_probe(STDERR_FILENO, true);
    screen_init(&this.screen, STDERR_FILENO, screen_mode(input), &tty);
    bool ok = converse(&this, err);
    screen_fini(&this.screen);
    fd_close(&this.signal_fd);
    if (ok)
        *ret_result = this.result;
    return ok;
}
