/* How an instance is, from its files: nobody is asked, and nobody waited for. */
#include "provision/local/internal.h"
#include "provision/local/local.h"
#include "provision/local/tree.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static bool is_noted(const Local *local, const char *step) {
    return provision_journal_get(local->journal, step) != NULL;
}

static void describe_mode(const Local *local, LoadMark mark, ProvisionStatus *status) {
    const char *name = json_get_string(provision_journal_get(local->journal, "mode"), "name", "");
    ProvisionMode mode = provision_mode_from_name(name);

    status->mode = mark != MARK_NONE ? PROVISION_LOAD : mode != PROVISION_MODE_MAX_ ? mode : PROVISION_MIGRATING;
}

static bool describe_server(Local *local, ProvisionStatus *status, Error *err) {
    const json_t *noted = provision_journal_get(local->journal, "server");
    LoadMark mark = MARK_NONE;
    bool damaged = false;

    if (!json_get_bool(noted, "made", false))
        return true;
    status->system_identifier = arena_strdup(local->arena, json_get_string(noted, "identifier", NULL));
    if (!mode_is_damaged(local, &mark, &damaged, err))
        return false;
    describe_mode(local, mark, status);
    if (!is_noted(local, "created") || is_noted(local, "removing"))
        return true;
    status->state = damaged                                           ? PROVISION_STATE_DAMAGED
                    : server_is_running(local, &local->primary, NULL) ? PROVISION_STATE_RUNNING
                                                                      : PROVISION_STATE_STOPPED;
    return true;
}

static void describe_trouble(const Local *local, ProvisionStatus *status) {
    const char *noted = json_get_string(provision_journal_get(local->journal, "trouble"), "text", NULL);

    if (status->state == PROVISION_STATE_DAMAGED)
        status->trouble = "it went down in load mode, so what is in it cannot be trusted: it is made anew, empty";
    else
        status->trouble = arena_strdup(local->arena, noted);
}

bool local_status(Local *local, ProvisionStatus *ret_status, Error *err) {
    ProvisionStatus status = {.state = PROVISION_STATE_UNFINISHED,
                              .mode = PROVISION_MIGRATING,
                              .disk_used_mb =
                                  json_get_int(provision_journal_get(local->journal, "disk"), "used_mb", -1)};

    if (!provision_journal_exists(local->journal)) {
        *ret_status = (ProvisionStatus){.state = PROVISION_STATE_ABSENT, .disk_used_mb = -1};
        return true;
    }
    status.endpoint = (ProvisionEndpoint){
        .host = "127.0.0.1", .port = local->primary.port, .user = "postgres", .password = local->made_up};
    if (!describe_server(local, &status, err)) {
        if (err->reason != REASON_PROVISION_REFUSED)
            return false;
        /* Its programs are gone, so the control data cannot be read: that is what there is to tell. */
        status.state = PROVISION_STATE_STOPPED;
        status.trouble = arena_strdup(local->arena, err->message);
        *ret_status = status;
        return tls_authority(local, &ret_status->endpoint.ca, err);
    }
    if (!tls_authority(local, &status.endpoint.ca, err))
        return false;
    describe_trouble(local, &status);
    *ret_status = status;
    return true;
}

bool local_describe(ProvisionCall *call, const char *id, ProvisionStatus *ret_status, Error *err) {
    Local local;

    return local_open(call, id, NULL, &local, err) && local_status(&local, ret_status, err);
}

/* ---- The log ---- */

/* Begins at a line, where it does not begin at the file's beginning. */
static void append_tail(int fd, size_t max, Buf *text) {
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = MAX(end - (off_t)max, 0);
    char *into = end > 0 ? buf_reserve(text, (size_t)(end - from)) : NULL;
    ssize_t got = into != NULL ? pread(fd, into, (size_t)(end - from), from) : 0;

    if (got <= 0)
        return;
    text->len += (size_t)got;
    text->data[text->len] = '\0';
    const char *line = from > 0 ? memchr(into, '\n', (size_t)got) : NULL;
    if (line != NULL)
        buf_consume(text, (size_t)(line + 1 - text->data));
}

bool local_read_log(ProvisionCall *call, const char *id, size_t max, Buf *ret_text, Error *err) {
    TreeFile *files = NULL;
    size_t count = 0;
    Local local;

    if (!local_open(call, id, NULL, &local, err) ||
        !tree_list(call->arena, local.primary.log, false, &files, &count, err))
        return false;
    if (count == 0)
        return true;
    int fd = tree_open_in(local.primary.log, files[count - 1].name);
    if (fd < 0)
        return error_errno(err, REASON_SYSTEM, "cannot open %s/%s", local.primary.log, files[count - 1].name);
    append_tail(fd, max, ret_text);
    close(fd);
    return true;
}
