/* Access without tokens, for this machine only. */
#include "api/access.h"

#include <string.h>

/* The host without port and brackets. */
static size_t host_length(const char *host, const char **ret_start) {
    bool bracket = host[0] == '[';

    *ret_start = host + (bracket ? 1 : 0);
    return strcspn(*ret_start, bracket ? "]" : ":");
}

bool access_is_loopback(const char *host) {
    const char *start = NULL;
    size_t len = strcmp(host, "::1") == 0 ? strlen(host) : host_length(host, &start);

    if (start == NULL)
        return true;
    if (len == strlen("localhost") && strncasecmp(start, "localhost", len) == 0)
        return true;
    if (host[0] == '[')
        return strncmp(start, "::1]", strlen("::1]")) == 0 && (start[len + 1] == '\0' || start[len + 1] == ':');
    /* All of 127.0.0.0/8, written as four numbers: "127.evil.example" is none of them. */
    return strncmp(start, "127.", strlen("127.")) == 0 && strspn(start, "0123456789.") == len;
}

static bool is_own_origin(const char *origin) {
    const char *host = strstr(origin, "://");

    return host != NULL && access_is_loopback(host + strlen("://"));
}

bool access_local(void *context, const HttpRequest *request, HttpResponse *response, AccessNeed need,
                  const char **ret_who, Error *err) {
    const char *origin = http_fields_get(request->headers, "origin");
    bool by_socket = strcmp(request->peer, "unix") == 0;
    (void)context;
    (void)response;
    (void)need;

    if (!by_socket && request->host[0] != '\0' && !access_is_loopback(request->host))
        return error_set(err, REASON_NOT_PERMITTED, "%.200s is no name of this machine's loopback interface",
                         request->host);
    if (origin != NULL && !is_own_origin(origin))
        return error_set(err, REASON_NOT_PERMITTED, "web pages of %.200s may not ask here", origin);
    *ret_who = "local";
    return true;
}
