/*
 * Who may ask. What decides is given to the API from outside: tokens, or access_local().
 *
 * Contract
 * - Called for each request, on any thread; it may ask the store.
 * - false: *err says why (UNAUTHENTICATED or PERMISSION_DENIED by its code), and the request is answered with it.
 */
#pragma once

#include "common/error.h"
#include "http/message.h"

typedef enum AccessNeed { ACCESS_READ, ACCESS_CHANGE, ACCESS_ADMINISTER } AccessNeed;

typedef struct Access {
    /* Headers of a refusal (WWW-Authenticate) go to `response`, unless it is NULL: then it is only asked. */
    bool (*admit)(void *context, const HttpRequest *request, HttpResponse *response, AccessNeed need,
                  const char **ret_who, Error *err);
    void *context;
} Access;

/* For a server that listens on loopback only and knows no tokens: whoever is on this machine may do everything. But a
 * web page in a browser on this machine may not: the request has to name a loopback host (else a name of the page's
 * own could point here), and has no Origin but that host. */
NODISCARD bool access_local(void *context, const HttpRequest *request, HttpResponse *response, AccessNeed need,
                            const char **ret_who, Error *err);
/* "127.0.0.1", "127.1.2.3", "::1", "localhost"; with a port, brackets, or without. */
bool access_is_loopback(const char *host);
