/*
 * Google's Database Migration API v1 over HTTP: what is answered to whom. doc/design/api.md says where it differs.
 *
 * Contract
 * - api_handle() is the handler of an HttpServer, on any number of threads. It never talks to a database that is
 *   migrated: what has to be done there is put into the store's outbox (jobs/fact.h says who takes it).
 * - Store, vault and what access and vault point to outlive the Api.
 * - api_stop() ends streams and waiting calls; after it, and before the loop and the server are freed, api_freep().
 */
#pragma once

#include "api/access.h"
#include "api/vault.h"
#include "common/json.h"
#include "http/router.h"
#include "store/store.h"

typedef struct Api Api;

/* Calls that wait for an operation, each on a thread of the server; more of them are answered at once. */
enum { API_WAITING_MAX = 4 };

typedef struct ApiConfig {
    Store *store;
    const Vault *vault;
    Access access;
} ApiConfig;

NODISCARD bool api_new(const ApiConfig *config, Api **ret_api, Error *err);
void api_stop(Api *api);
void api_freep(Api **api);

void api_handle(void *context, HttpRequest *request, HttpResponse *response);

/* The OpenAPI 3 document of all that is served. New reference. */
json_t *api_openapi(void);

/* For the files of this folder. */
Store *api_store(const Api *api);
const ApiConfig *api_config(const Api *api);
struct Watch;
struct Watch *api_watch(const Api *api);
struct Cache;
struct Cache *api_cache(const Api *api);
