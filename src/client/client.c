/* Requests over libcurl. */
#include "client/client.h"

#include "client/address.h"
#include "client/refusal.h"
#include "common/clock.h"
#include "common/heap.h"

#include <curl/curl.h>
#include <poll.h>
#include <string.h>

enum { BODY_MAX = 64 * 1024 * 1024, CONNECT_MS = 10 * 1000, KEEPALIVE_S = 30 };
static const int64_t answer_us = 60 * USEC_PER_SEC, repeat_for_us = 30 * USEC_PER_SEC;
static const int64_t first_pause_us = 250 * USEC_PER_MSEC, longest_pause_us = 5 * USEC_PER_SEC;

struct Client {
    Arena *arena;
    Address address;
    const char *ca_file;
    int cancel_fd;
    char *authorization; /* the header, NULL = none; overwritten at the end */
    CURLM *multi;
    CURL *easy;
    bool was_reached; /* an answer has come */
};

/* One exchange. */
typedef struct Exchange {
    Client *client;
    struct curl_slist *headers;
    Buf sent, received;
    SseParser *events; /* of a stream */
    bool is_ended;     /* a stream, from here: *err says why */
    Error *err;
    char why[CURL_ERROR_SIZE];
} Exchange;

/* --- the client --- */

static bool take_token(Client *client, const char *token, Error *err) {
    if (token == NULL)
        return true;
    if (!client->address.is_tls && !client->address.is_local) {
        error_set(err, REASON_USAGE, "a token is not sent to %s: everybody on the way could read it",
                  client->address.url);
        return error_remedy(err, "give --server an https:// address, or ask through ssh -L");
    }
    client->authorization = arena_printf(client->arena, "Authorization: Bearer %s", token);
    return true;
}

bool client_open(const ClientConfig *config, Client **ret_client, Error *err) {
    Client *client = heap_new_of(Client);

    client->arena = arena_new();
    client->cancel_fd = config->cancel_fd;
    client->ca_file = arena_strdup(client->arena, config->ca_file);
    bool good =
        address_parse(client->arena, config->server, &client->address, err) && take_token(client, config->token, err);
    if (good && (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (client->multi = curl_multi_init()) == NULL ||
                 (client->easy = curl_easy_init()) == NULL))
        good = error_set(err, REASON_SYSTEM, "libcurl cannot begin");
    if (!good) {
        client_closep(&client);
        return false;
    }
    *ret_client = client;
    return true;
}

void client_closep(Client **client) {
    if (*client == NULL)
        return;
    curl_easy_cleanup((*client)->easy);
    curl_multi_cleanup((*client)->multi);
    if ((*client)->authorization != NULL)
        explicit_bzero((*client)->authorization, strlen((*client)->authorization));
    arena_free((*client)->arena);
    heap_free(*client);
    *client = NULL;
}

static bool is_cancelled(const Client *client, int wait_ms) {
    struct pollfd fd = {.fd = client->cancel_fd, .events = POLLIN};

    return poll(&fd, 1, wait_ms) > 0 && fd.revents != 0;
}

bool client_pause(const Client *client, int64_t us, Error *err) {
    if (!is_cancelled(client, (int)(us / USEC_PER_MSEC)))
        return true;
    return error_set(err, REASON_CANCELLED, "stopped");
}

/* --- what went wrong on the way --- */

static const struct {
    CURLcode code;
    ErrorReason reason;
} troubles[] = {
    {CURLE_COULDNT_RESOLVE_HOST, REASON_UNREACHABLE}, {CURLE_COULDNT_RESOLVE_PROXY, REASON_UNREACHABLE},
    {CURLE_COULDNT_CONNECT, REASON_UNREACHABLE},      {CURLE_OPERATION_TIMEDOUT, REASON_TIMED_OUT},
    {CURLE_SEND_ERROR, REASON_CONNECTION_LOST},       {CURLE_RECV_ERROR, REASON_CONNECTION_LOST},
    {CURLE_GOT_NOTHING, REASON_CONNECTION_LOST},      {CURLE_PARTIAL_FILE, REASON_CONNECTION_LOST},
    {CURLE_SSL_CONNECT_ERROR, REASON_TLS_FAILED},     {CURLE_PEER_FAILED_VERIFICATION, REASON_TLS_FAILED},
    {CURLE_SSL_CACERT_BADFILE, REASON_TLS_FAILED},    {CURLE_SSL_ISSUER_ERROR, REASON_TLS_FAILED},
    {CURLE_SSL_CERTPROBLEM, REASON_TLS_FAILED},
};

static bool remedy_of(ErrorReason reason, Error *err) {
    if (reason == REASON_UNREACHABLE)
        return error_remedy(err, "see that it runs (pgcrane serve); --server or PGCRANE_SERVER says where it is");
    if (reason == REASON_TLS_FAILED)
        return error_remedy(err, "--ca-file names the certificate of who vouches for the service, such as its own "
                                 "when it made that itself");
    return false;
}

static bool trouble(const Exchange *exchange, CURLcode code, Error *err) {
    const char *why = exchange->why[0] != '\0' ? exchange->why : curl_easy_strerror(code);
    ErrorReason reason = REASON_BAD_DATA;

    if (exchange->received.overflowed)
        return error_set(err, REASON_BAD_DATA, "the answer of %s is larger than %d bytes",
                         exchange->client->address.url, BODY_MAX);
    for (size_t at = 0; at < COUNT_OF(troubles); at++)
        if (troubles[at].code == code)
            reason = troubles[at].reason;
    const Address *address = &exchange->client->address;
    error_set(err, reason, "the service at %s: %s", address->socket != NULL ? address->socket : address->url, why);
    return remedy_of(reason, err);
}

/* --- one exchange --- */

static size_t on_body(char *bytes, size_t size, size_t count, void *context) {
    Exchange *exchange = context;
    long status = 0;

    (void)curl_easy_getinfo(exchange->client->easy, CURLINFO_RESPONSE_CODE, &status);
    if (exchange->events == NULL || status != 200) {
        buf_append(&exchange->received, bytes, size * count);
        return exchange->received.overflowed ? 0 : size * count;
    }
    exchange->client->was_reached = true;
    if (sse_feed(exchange->events, bytes, size * count, exchange->err))
        return size * count;
    exchange->is_ended = true;
    return 0;
}

static void exchange_init(Exchange *exchange, Client *client, Error *err) {
    *exchange = (Exchange){.client = client, .err = err};
    buf_init(&exchange->sent, BODY_MAX);
    buf_init(&exchange->received, BODY_MAX);
}

/* What was sent may hold a password. libcurl is to keep no pointer to what is gone. */
static void exchange_fini(Exchange *exchange) {
    curl_easy_setopt(exchange->client->easy, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(exchange->client->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(exchange->client->easy, CURLOPT_POSTFIELDS, NULL);
    curl_slist_free_all(exchange->headers);
    explicit_bzero(exchange->sent.data, exchange->sent.len);
    buf_fini(&exchange->sent);
    buf_fini(&exchange->received);
}

static void add_header(Exchange *exchange, const char *header) {
    exchange->headers = curl_slist_append(exchange->headers, header);
}

/* Of the connection: where to, and whom to believe. */
static void set_connection(Exchange *exchange) {
    const Client *client = exchange->client;
    CURL *easy = client->easy;

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->why);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L); /* a stream may be silent for long */
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    if (client->address.socket != NULL)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->address.socket);
    if (client->address.is_local) /* whatever http_proxy says */
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    if (client->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
}

static bool set_url(const Client *client, const char *path, const ClientParam *params, Error *err) {
    CURLU *url = curl_url();
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *whole = arena_printf(arena, "%s/v1/%s", client->address.url, path);
    CURLUcode code = curl_url_set(url, CURLUPART_URL, whole, 0);
    char *text = NULL;

    for (; code == CURLUE_OK && params != NULL && params->name != NULL; params++)
        if (params->value != NULL)
            code = curl_url_set(url, CURLUPART_QUERY, arena_printf(arena, "%s=%s", params->name, params->value),
                                CURLU_URLENCODE | CURLU_APPENDQUERY);
    if (code == CURLUE_OK)
        code = curl_url_get(url, CURLUPART_URL, &text, 0);
    if (code == CURLUE_OK)
        curl_easy_setopt(client->easy, CURLOPT_URL, text);
    curl_free(text);
    curl_url_cleanup(url);
    return code == CURLUE_OK || error_set(err, REASON_USAGE, "%s cannot be part of a URL", path);
}

static void set_body(Exchange *exchange, const ClientRequest *request) {
    static const char *const methods[] = {
        [CLIENT_GET] = "GET", [CLIENT_POST] = "POST", [CLIENT_PATCH] = "PATCH", [CLIENT_DELETE] = "DELETE"};
    CURL *easy = exchange->client->easy;

    if (request->method == CLIENT_POST || request->body != NULL) {
        if (request->body != NULL)
            json_print(request->body, 0, &exchange->sent);
        else
            buf_append_str(&exchange->sent, "{}");
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)exchange->sent.len);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, exchange->sent.data);
        add_header(exchange, "Content-Type: application/json");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, methods[request->method]);
}

static bool prepare(Exchange *exchange, const ClientRequest *request, Error *err) {
    const Client *client = exchange->client;

    curl_easy_reset(client->easy);
    set_connection(exchange);
    set_body(exchange, request);
    if (client->authorization != NULL)
        add_header(exchange, client->authorization);
    curl_easy_setopt(client->easy, CURLOPT_HTTPHEADER, exchange->headers);
    return buf_ok(&exchange->sent, "the request", err) && set_url(client, request->path, request->params, err);
}

static CURLcode result_of(const Client *client) {
    int left = 0;
    const CURLMsg *message = curl_multi_info_read(client->multi, &left);

    return message != NULL && message->msg == CURLMSG_DONE ? message->data.result : CURLE_RECV_ERROR;
}

/* libcurl's multi interface, since its poll takes a descriptor of ours beside its own. */
static bool drive(const Client *client, CURLcode *ret_code, Error *err) {
    struct curl_waitfd cancel = {.fd = client->cancel_fd, .events = CURL_WAIT_POLLIN};
    unsigned extra = client->cancel_fd >= 0 ? 1 : 0;
    CURLMcode code = CURLM_OK;
    int running = 1;

    while (running > 0 && code == CURLM_OK) {
        code = curl_multi_perform(client->multi, &running);
        if (code == CURLM_OK && running > 0)
            code = curl_multi_poll(client->multi, extra > 0 ? &cancel : NULL, extra, 1000, NULL);
        if (cancel.revents != 0)
            return error_set(err, REASON_CANCELLED, "stopped");
    }
    if (code != CURLM_OK)
        return error_set(err, REASON_SYSTEM, "libcurl: %s", curl_multi_strerror(code));
    *ret_code = result_of(client);
    return true;
}

static bool run(Exchange *exchange, CURLcode *ret_code, Error *err) {
    const Client *client = exchange->client;

    if (curl_multi_add_handle(client->multi, client->easy) != CURLM_OK)
        return error_set(err, REASON_SYSTEM, "libcurl cannot take a request");
    bool good = drive(client, ret_code, err);
    (void)curl_multi_remove_handle(client->multi, client->easy);
    return good;
}

/* --- requests and answers --- */

static bool read_answer(const Exchange *exchange, json_t **ret_answer, Error *err) {
    CLEANUP(json_freep) json_t *answer = NULL;
    long status = 0;
    Error no_json;

    (void)curl_easy_getinfo(exchange->client->easy, CURLINFO_RESPONSE_CODE, &status);
    bool is_json = json_parse(exchange->received.data, exchange->received.len, &answer, &no_json);
    if (status / 100 != 2) {
        const json_t *refused = json_get_object(answer, "error");
        return refused != NULL ? refusal_from_status(refused, err) : refusal_from_http(status, err);
    }
    if (!is_json || !json_is_object(answer))
        return refusal_from_http(status, err);
    *ret_answer = json_incref(answer);
    return true;
}

/* *ret_passing: asked again, it may go well. */
static bool send_once(Client *client, const ClientRequest *request, json_t **ret_answer, bool *ret_passing,
                      Error *err) {
    CLEANUP(exchange_fini) Exchange exchange = {0};
    int64_t most_us = request->answer_us > 0 ? request->answer_us : answer_us;
    CURLcode code = CURLE_OK;
    long status = 0;

    exchange_init(&exchange, client, err);
    *ret_passing = false;
    if (!prepare(&exchange, request, err))
        return false;
    curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS, (long)(most_us / USEC_PER_MSEC));
    if (!run(&exchange, &code, err))
        return false;
    if (code != CURLE_OK) {
        trouble(&exchange, code, err);
        *ret_passing = err->reason == REASON_CONNECTION_LOST || err->reason == REASON_TIMED_OUT ||
                       (err->reason == REASON_UNREACHABLE && client->was_reached);
        return false;
    }
    client->was_reached = true;
    (void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    *ret_passing = status >= 502 && status <= 504;
    return read_answer(&exchange, ret_answer, err);
}

/* As long as the service says (Retry-After), or twice as long as the time before. */
static int64_t next_pause(const Client *client, int64_t pause_us) {
    curl_off_t asked_s = 0;

    if (curl_easy_getinfo(client->easy, CURLINFO_RETRY_AFTER, &asked_s) == CURLE_OK && asked_s > 0)
        return MIN(MAX((int64_t)asked_s * USEC_PER_SEC, pause_us), repeat_for_us);
    return pause_us;
}

bool client_send(Client *client, const ClientRequest *request, json_t **ret_answer, Error *err) {
    bool may_repeat = request->method == CLIENT_GET || request->may_repeat;
    int64_t pause_us = first_pause_us, until_us = clock_now_us() + repeat_for_us;
    bool passing = false;

    while (!send_once(client, request, ret_answer, &passing, err)) {
        int64_t now_us = clock_now_us(), wait_us = next_pause(client, pause_us);

        if (!may_repeat || !passing || now_us + wait_us > until_us)
            return false;
        if (!client_pause(client, wait_us, err))
            return false;
        pause_us = MIN(pause_us * 2, longest_pause_us);
    }
    return true;
}

/* --- streams --- */

static bool follow(Exchange *exchange, const char *path, Error *err) {
    const ClientRequest request = {.method = CLIENT_GET, .path = path};
    Client *client = exchange->client;
    CURLcode code = CURLE_OK;
    long status = 0;

    if (!prepare(exchange, &request, err))
        return false;
    if (!run(exchange, &code, err))
        return false;
    if (exchange->is_ended)
        return false;
    if (code != CURLE_OK)
        return trouble(exchange, code, err);
    (void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    json_t *none = NULL;
    bool good = status == 200 || read_answer(exchange, &none, err);
    json_decref(none);
    return good;
}

bool client_stream(Client *client, const char *path, const char **last_id, Arena *arena, SseTaker taker, void *context,
                   Error *err) {
    CLEANUP(exchange_fini) Exchange exchange = {0};
    CLEANUP(sse_fini) SseParser parser = {0};

    exchange_init(&exchange, client, err);
    sse_init(&parser, taker, context);
    exchange.events = &parser;
    buf_append_str(&parser.last_id, *last_id);
    add_header(&exchange, "Accept: text/event-stream");
    if ((*last_id)[0] != '\0')
        add_header(&exchange, arena_printf(arena, "Last-Event-ID: %s", *last_id));
    bool good = follow(&exchange, path, err);
    *last_id = arena_strdup(arena, parser.last_id.data);
    return good;
}
