/*
 * A client of the service's API over HTTP.
 *
 * Contract
 * - A Client belongs to one thread, and keeps its connection between requests.
 * - Errors say what the service said (client/refusal.h), or that it was not reached: UNREACHABLE, TLS_FAILED,
 *   CONNECTION_LOST, TIMED_OUT; CANCELLED when cancel_fd became readable.
 * - What was lost on the way, or was answered with 502 to 504, is asked again for half a minute when that cannot do
 *   anything twice: each GET, and what the caller says may be repeated. A service that was never reached is told of at
 *   once; one that was is waited for, so that its restart is not noticed.
 * - Answers have a ceiling of 64 MB. Redirects are not followed: a token goes to the address that was given, never
 *   elsewhere, and never in the clear to another machine.
 */
#pragma once

#include "common/arena.h"
#include "common/json.h"

#include "client/sse.h"

typedef struct Client Client;

typedef struct ClientConfig {
    const char *server;  /* client/address.h */
    const char *token;   /* NULL = none; copied */
    const char *ca_file; /* who vouches for the service, PEM; NULL = whom the system trusts */
    int cancel_fd;       /* -1 = none; not read here */
} ClientConfig;

NODISCARD bool client_open(const ClientConfig *config, Client **ret_client, Error *err);
void client_closep(Client **client);

typedef enum ClientMethod { CLIENT_GET, CLIENT_POST, CLIENT_PATCH, CLIENT_DELETE } ClientMethod;

typedef struct ClientParam {
    const char *name;
    const char *value; /* NULL = left out */
} ClientParam;

typedef struct ClientRequest {
    ClientMethod method;
    const char *path;          /* full name of a resource, perhaps with ":verb" */
    const ClientParam *params; /* ends with an empty row; NULL = none */
    const json_t *body;        /* NULL = none */
    bool may_repeat;           /* asked twice, it does what it does once */
    int64_t answer_us;         /* how long an answer may take; 0 = a minute */
} ClientRequest;

/* New reference. */
NODISCARD bool client_send(Client *client, const ClientRequest *request, json_t **ret_answer, Error *err);

/* The events at `path` behind the one with the id *last_id ("" = from the beginning), until the service ends the
 * stream. *last_id becomes that of the last event, an error or not. */
NODISCARD bool client_stream(Client *client, const char *path, const char **last_id, Arena *arena, SseTaker taker,
                             void *context, Error *err);

/* Waits `us`; false with CANCELLED when cancel_fd became readable. */
NODISCARD bool client_pause(const Client *client, int64_t us, Error *err);
