/* Where a service is: libcurl's own parser of URLs, so that both understand the same. */
#include "client/address.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

static bool refuse(Error *err, const char *why) {
    error_set(err, REASON_USAGE, "--server: %s", why);
    return error_remedy(err, "such as http://127.0.0.1:8432, https://migrate.example:8432 or unix:/run/pgcrane.sock");
}

static void free_url(CURLU **url) {
    curl_url_cleanup(*url);
}

/* NULL when the URL has no such part. */
static const char *part_of(Arena *arena, CURLU *url, CURLUPart part) {
    char *text = NULL;

    if (curl_url_get(url, part, &text, 0) != CURLUE_OK)
        return NULL;
    const char *copy = arena_strdup(arena, text);
    curl_free(text);
    return copy;
}

static bool is_loopback(const char *host) {
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 || strncmp(host, "127.", 4) == 0;
}

/* "127.evil.example" is no address of this machine. */
static bool is_local_host(const char *host) {
    return is_loopback(host) && (strncmp(host, "127.", 4) != 0 || host[strspn(host, "0123456789.")] == '\0');
}

static const char *without_slash(Arena *arena, const char *path) {
    size_t len = strlen(path);

    while (len > 0 && path[len - 1] == '/')
        len--;
    return arena_strndup(arena, path, len);
}

static bool take_parts(Arena *arena, CURLU *url, Address *ret_address, Error *err) {
    const char *scheme = part_of(arena, url, CURLUPART_SCHEME), *host = part_of(arena, url, CURLUPART_HOST);
    const char *port = part_of(arena, url, CURLUPART_PORT), *path = part_of(arena, url, CURLUPART_PATH);

    if (part_of(arena, url, CURLUPART_USER) != NULL || part_of(arena, url, CURLUPART_PASSWORD) != NULL)
        return refuse(err, "a user or password in the address is not taken: who asks is said by a token");
    if (part_of(arena, url, CURLUPART_QUERY) != NULL || part_of(arena, url, CURLUPART_FRAGMENT) != NULL)
        return refuse(err, "the address ends with the path: nothing may stand behind '?' or '#'");
    bool is_tls = strcmp(scheme, "https") == 0;
    if (!is_tls && strcmp(scheme, "http") != 0)
        return refuse(err, "the service speaks http and https");
    *ret_address = (Address){
        .url = arena_printf(arena, "%s://%s%s%s%s", scheme, host, port != NULL ? ":" : "", port != NULL ? port : "",
                            without_slash(arena, path != NULL ? path : "")),
        .is_tls = is_tls,
        .is_local = is_local_host(host),
    };
    return true;
}

/* "HOST:PORT" as `pgcrane serve --listen` takes it. */
static const char *with_scheme(Arena *arena, const char *text) {
    size_t host_len = text[0] == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":/");

    if (strstr(text, "://") != NULL)
        return text;
    bool is_local = is_local_host(arena_strndup(arena, text, MIN(host_len, strlen(text))));
    return arena_printf(arena, "%s://%s", is_local ? "http" : "https", text);
}

bool address_parse(Arena *arena, const char *text, Address *ret_address, Error *err) {
    static const char prefix[] = "unix:";
    CLEANUP(free_url) CURLU *url = curl_url();
    const char *path = strncmp(text, prefix, strlen(prefix)) == 0 ? text + strlen(prefix) : text;

    if (path != text && path[0] != '/')
        return refuse(err, "behind unix: stands the whole path of a socket");
    if (path[0] == '/') {
        *ret_address = (Address){.url = "http://localhost", .socket = arena_strdup(arena, path), .is_local = true};
        return true;
    }
    if (url == NULL || curl_url_set(url, CURLUPART_URL, with_scheme(arena, text), 0) != CURLUE_OK)
        return refuse(err, "this is no address of a service");
    return take_parts(arena, url, ret_address, err);
}
