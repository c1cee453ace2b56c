/* What the commands over the API have in common. */
#include "cli/service/service.h"

#include "cli/output.h"
#include "cli/verbs.h"
#include "common/shell.h"

#include <poll.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { ITEMS_MAX = 100000, ANSWER_TEXT_MAX = 80, REQUEST_BYTES = 16 };

const char *service_word(const Service *service, size_t n) {
    const StringVec *words = &service->arguments->words;

    return n < words->len ? words->items[n] : NULL;
}

bool service_flush(Service *service, Error *err) {
    if (!output_results(service->out, err))
        return false;
    buf_clear(service->out);
    return true;
}

/* --- names --- */

static bool is_word(const char *text, const char *more) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

    for (; *text != '\0'; text++)
        if (strchr(letters, *text) == NULL && strchr(more, *text) == NULL)
            return false;
    return true;
}

/* What is right about it beyond its characters, the service knows. */
bool service_name(const Service *service, const char *collection, const char *typed, const char **ret_name,
                  Error *err) {
    static const char prefix[] = "projects/";
    const char *slash = strrchr(typed, '/');
    bool is_full = strncmp(typed, prefix, strlen(prefix)) == 0;
    const char *inside = arena_printf(service->arena, "/%s/", collection);

    if (is_full && is_word(typed, "/:") && strstr(typed, inside) != NULL && slash[1] != '\0' &&
        strstr(typed, "..") == NULL) {
        *ret_name = typed;
        return true;
    }
    if (!is_full && typed[0] != '\0' && typed[0] != '.' && is_word(typed, "")) {
        *ret_name = arena_printf(service->arena, "%s/%s/%s", service->parent, collection, typed);
        return true;
    }
    error_set(err, REASON_USAGE, "\"%.100s\" is no id", typed);
    return error_remedy(err, "ids are of letters, digits and hyphens; or give a full name: %s%sID", service->parent,
                        inside);
}

const char *service_id(const Service *service, const char *name) {
    size_t len = strlen(service->parent);
    const char *slash = strrchr(name, '/');

    if (slash == NULL || strncmp(name, service->parent, len) != 0 || name[len] != '/')
        return name;
    return slash + 1;
}

const char *service_typed(const Service *service, const char *name) {
    return shell_quote(service->arena, service_id(service, name));
}

/* --- reading --- */

bool service_get(Service *service, const char *path, const ClientParam *params, json_t **ret_answer, Error *err) {
    const ClientRequest request = {.method = CLIENT_GET, .path = path, .params = params};

    return client_send(service->client, &request, ret_answer, err);
}

bool service_list(Service *service, const char *path, const char *member, const char *filter, const char *order_by,
                  json_t **ret_items, Error *err) {
    CLEANUP(json_freep) json_t *items = json_array();
    const char *token = NULL;

    do {
        CLEANUP(json_freep) json_t *page = NULL;
        const ClientParam params[] = {
            {"pageSize", "500"}, {"pageToken", token}, {"filter", filter}, {"orderBy", order_by}, {0}};

        if (!service_get(service, path, params, &page, err))
            return false;
        (void)json_array_extend(items, json_object_get(page, member));
        const char *next = json_get_string(page, "nextPageToken", "");
        token = next[0] != '\0' ? arena_strdup(service->arena, next) : NULL;
        if (json_array_size(items) > ITEMS_MAX) {
            error_set(err, REASON_RESOURCE_TOO_LARGE, "the list has more than %d rows", (int)ITEMS_MAX);
            return error_remedy(err, "narrow it with --filter");
        }
    } while (token != NULL);
    *ret_items = json_incref(items);
    return true;
}

bool service_request_id(Service *service, const char **ret_id, Error *err) {
    unsigned char bytes[REQUEST_BYTES];
    char *id = arena_alloc(service->arena, 2 * sizeof(bytes) + 1);

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return error_errno(err, REASON_SYSTEM, "getrandom");
    for (size_t at = 0; at < sizeof(bytes); at++) {
        id[2 * at] = "0123456789abcdef"[bytes[at] >> 4];
        id[2 * at + 1] = "0123456789abcdef"[bytes[at] & 15];
    }
    *ret_id = id;
    return true;
}

/* --- asking whoever sits there --- */

/* Waits for a line; "" when there is none, or a signal came first. */
static void read_line(const Service *service, char *text, size_t size) {
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = service->cancel_fd, .events = POLLIN}};
    ssize_t len = 0;

    if (poll(fds, COUNT_OF(fds), -1) > 0 && fds[1].revents == 0)
        len = read(STDIN_FILENO, text, size - 1);
    text[len > 0 ? len : 0] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
}

bool service_confirm(Service *service, const char *question, Error *err) {
    char answer[ANSWER_TEXT_MAX] = "";

    if (service->options->yes)
        return true;
    if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) {
        error_set(err, REASON_CANCELLED, "not done, since there is nobody to ask here: %s", question);
        return error_remedy(err, "to agree beforehand add --yes");
    }
    if (!service_flush(service, err))
        return false;
    verb_note("%s\nType yes to go on:", text_clean(service->arena, question));
    read_line(service, answer, sizeof(answer));
    if (strcmp(answer, "yes") == 0)
        return true;
    error_set(err, REASON_CANCELLED, "not done");
    return error_remedy(err, "nothing was changed");
}
