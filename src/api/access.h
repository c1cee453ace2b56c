/*
 * Who may ask. What decides is given to the API from outside (serve/gate.h).
 *
 * Contract
 * - Called for each request, on any thread; it may ask the store.
 * - false: *err says why (UNAUTHENTICATED or PERMISSION_DENIED by its code), and the request is answered with it.
 */
#pragma once

#include "common/error.h"
#include "http/message.h"

typedef enum AccessNeed { ACCESS_READ, ACCESS_CHANGE, ACCESS_ADMINISTER } AccessNeed;

typedef struct AccessGrant {
    const char *who;
    AccessNeed most; /* what else the caller may do */
} AccessGrant;

typedef struct Access {
    /* Headers of a refusal (WWW-Authenticate) go to `response`. Outside of transactions. */
    bool (*admit)(void *context, const HttpRequest *request, HttpResponse *response, AccessNeed need,
                  AccessGrant *ret_grant, Error *err);
    void *context;
} Access;
