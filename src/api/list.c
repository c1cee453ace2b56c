/*
 * Lists: pages, filter, orderBy.
 *
 * NOTES
 * By name or creation time the store's own order is used, and a page goes on behind the last row of the page before.
 * By any other field all that matches is sorted here, and the page token is a number of rows to leave out: what is
 * created or deleted between two pages can then shift one row from one page to the other.
 *
 * A token begins with a hash of filter and order, so that it cannot be used for another list.
 */
#include "api/cache.h"
#include "api/kinds.h"

#include "common/hash.h"
#include "model/filter.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_DEFAULT = 50, SORT_MAX = 20000, TOKEN_MARK = 16 };

typedef VEC(json_t *) JsonVec;

typedef struct Listing {
    ApiCall *call;
    const Kind *kind;
    StoreQuery query;
    const char *within; /* names begin with it; "" = any */
    const Filter *filter;
    OrderBy order[ORDER_MAX];
    int orders;
    size_t wanted;
    const char *mark; /* of this list's tokens */
    JsonVec found;    /* owned */
} Listing;

static void free_found(Listing *listing) {
    for (size_t at = 0; at < listing->found.len; at++)
        json_decref(listing->found.items[at]);
}

/* Adds it when it belongs here. */
static bool look_at(void *context, const Record *record, Error *err) {
    Listing *listing = context;

    if (strncmp(record->resource.name, listing->within, strlen(listing->within)) != 0)
        return true;
    json_t *answer = listing->kind->render(record, listing->call->arena);
    if (!filter_matches(listing->filter, answer)) {
        json_decref(answer);
        return true;
    }
    vec_push(listing->call->arena, &listing->found, answer);
    if (listing->found.len <= SORT_MAX)
        return true;
    error_set(err, REASON_STORE_FULL, "more than %d resources to sort", (int)SORT_MAX);
    return error_remedy(err, "order by name or createTime, or narrow the list with a filter");
}

/* ---- By the store's order ---- */

static bool is_store_order(Listing *listing) {
    const char *field = listing->orders > 0 ? listing->order[0].field : "name";

    listing->query.descending = listing->orders > 0 && listing->order[0].descending;
    listing->query.order = strcmp(field, "createTime") == 0 ? STORE_BY_CREATE_TIME : STORE_BY_NAME;
    return listing->orders <= 1 && (strcmp(field, "name") == 0 || strcmp(field, "createTime") == 0);
}

static bool take_page(Listing *listing, const StorePage *page, Error *err) {
    for (size_t at = 0; at < page->count; at++) {
        CLEANUP(record_fini) Record record = {0};

        if (!record_open(&page->items[at], &record, err) || !look_at(listing, &record, err))
            return false;
    }
    return true;
}

/* Never reads more rows than may still be wanted: the cursor behind them is where the next page begins. */
static bool list_stored(Listing *listing, const char *token, const char **ret_token, Error *err) {
    StorePage page = {.next_cursor = ""};

    listing->query.cursor = token;
    do {
        listing->query.page_size = listing->wanted - listing->found.len;
        if (!store_list(listing->call->tx, &listing->query, &page, err) || !take_page(listing, &page, err))
            return false;
        listing->query.cursor = page.next_cursor;
    } while (listing->found.len < listing->wanted && page.next_cursor[0] != '\0');
    *ret_token = page.next_cursor;
    return true;
}

/* ---- By any other field ---- */

static int compare(const void *a, const void *b, void *context) {
    const Listing *listing = context;
    const json_t *left = *(json_t *const *)a, *right = *(json_t *const *)b;
    int by_order = order_by_compare(listing->order, listing->orders, left, right);

    return by_order != 0 ? by_order : strcmp(json_get_string(left, "name", ""), json_get_string(right, "name", ""));
}

/* Leaves of what is found only the page. */
static void cut(Listing *listing, size_t from) {
    size_t kept = 0;

    for (size_t at = 0; at < listing->found.len; at++)
        if (at >= from && kept < listing->wanted)
            listing->found.items[kept++] = listing->found.items[at];
        else
            json_decref(listing->found.items[at]);
    listing->found.len = kept;
}

static bool list_sorted(Listing *listing, const char *token, const char **ret_token, Error *err) {
    char *end = NULL;
    size_t from = strtoull(token, &end, 10);

    if (*end != '\0')
        return error_set(err, REASON_BAD_CURSOR, "this is no page token");
    if (!kind_each(listing->call->tx, listing->kind->store, listing->query.parent, look_at, listing, err))
        return false;
    size_t all = listing->found.len;
    if (all > 0)
        qsort_r(listing->found.items, all, sizeof(json_t *), compare, listing);
    cut(listing, from);
    bool more = from + listing->found.len < all;
    *ret_token = more ? arena_printf(listing->call->arena, "%zu", from + listing->found.len) : "";
    return true;
}

/* ---- Tokens ---- */

static bool read_token(const Listing *listing, const char **ret_token, Error *err) {
    const char *token = call_text(listing->call, PARAM_PAGE_TOKEN);

    *ret_token = "";
    if (token[0] == '\0')
        return true;
    if (strlen(token) <= TOKEN_MARK || strncmp(token, listing->mark, TOKEN_MARK) != 0)
        return error_set(err, REASON_BAD_CURSOR, "pageToken: it is none, or belongs to another list");
    *ret_token = token + TOKEN_MARK;
    return true;
}

static const char *make_mark(const ApiCall *call, const Listing *listing) {
    const char *all = arena_printf(call->arena, "%s|%s|%s|%s", listing->kind->type, call->resource,
                                   call_text(call, PARAM_FILTER), call_text(call, PARAM_ORDER_BY));

    return arena_printf(call->arena, "%0*" PRIx64, (int)TOKEN_MARK, hash_text64(all));
}

/* ---- As text: what most clients ask for, page after page ---- */

static bool item_text(const Listing *listing, const StoreResource *resource, const char **ret_text, Error *err) {
    ApiCall *call = listing->call;
    Cache *cache = api_cache(call->api);
    CLEANUP(record_fini) Record record = {0};
    CLEANUP(json_freep) json_t *answer = NULL;

    *ret_text = cache_find(cache, call->arena, resource);
    if (*ret_text != NULL)
        return true;
    if (!record_open(resource, &record, err))
        return false;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, ANSWER_MAX);
    answer = listing->kind->render(&record, call->arena);
    json_print(answer, 0, &text);
    if (!buf_ok(&text, resource->name, err))
        return false;
    *ret_text = arena_strndup(call->arena, text.data, text.len);
    cache_keep(cache, resource, *ret_text);
    return true;
}

static bool is_plain(Listing *listing) {
    return call_text(listing->call, PARAM_FILTER)[0] == '\0' && listing->within[0] == '\0' &&
           !call_wants_pretty(listing->call) && is_store_order(listing);
}

/* Page tokens are letters and digits: nothing in them is to be escaped. */
static bool list_text(Listing *listing, const char *token, Error *err) {
    StorePage page = {.next_cursor = ""};

    listing->query.cursor = token;
    listing->query.page_size = listing->wanted;
    if (!store_list(listing->call->tx, &listing->query, &page, err))
        return false;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, ANSWER_MAX);
    buf_printf(&text, "{\"%s\":[", listing->kind->list);
    for (size_t at = 0; at < page.count; at++) {
        const char *item = NULL;

        if (!item_text(listing, &page.items[at], &item, err))
            return false;
        if (at > 0)
            buf_append_char(&text, ',');
        buf_append_str(&text, item);
    }
    buf_append_char(&text, ']');
    if (page.next_cursor[0] != '\0')
        buf_printf(&text, ",\"nextPageToken\":\"%s%s\"", listing->mark, page.next_cursor);
    buf_append_char(&text, '}');
    if (!buf_ok(&text, "the answer: ask for smaller pages", err))
        return false;
    listing->call->answer_text = arena_strndup(listing->call->arena, text.data, text.len);
    return true;
}

/* ---- The method ---- */

static bool read_request(Listing *listing, Error *err) {
    const ApiCall *call = listing->call;
    int64_t size = call_number(call, PARAM_PAGE_SIZE);

    listing->wanted = size > 0 ? (size_t)MIN(size, STORE_PAGE_MAX) : PAGE_DEFAULT;
    listing->orders = order_by_parse(call->arena, call_text(call, PARAM_ORDER_BY), listing->order, err);
    if (listing->orders < 0)
        return error_wrap(err, "orderBy");
    if (!filter_parse(call->arena, call_text(call, PARAM_FILTER), &listing->filter, err))
        return error_wrap(err, "filter");
    listing->query.kind = listing->kind->store;
    listing->mark = make_mark(call, listing);
    /* "locations/-" is all of the project. */
    bool everywhere = listing->call->name.kind == NAME_LOCATION && strcmp(call->name.location, "-") == 0;
    listing->query.parent = everywhere ? NULL : call->resource;
    listing->within = everywhere ? arena_printf(call->arena, "projects/%s/", call->name.project) : "";
    return true;
}

static json_t *make_answer(Listing *listing, const char *token) {
    json_t *items = json_array();

    for (size_t at = 0; at < listing->found.len; at++)
        (void)json_array_append(items, listing->found.items[at]);
    json_t *answer = json_pack("{s:o}", listing->kind->list, items);
    if (token[0] != '\0')
        (void)json_object_set_new(answer, "nextPageToken",
                                  json_string(arena_printf(listing->call->arena, "%s%s", listing->mark, token)));
    return answer;
}

static bool list(ApiCall *call, NameKind of, Error *err) {
    Listing listing = {.call = call, .kind = kind_of(of)};
    const char *token = NULL, *next = "";

    if (!read_request(&listing, err) || !read_token(&listing, &token, err))
        return false;
    if (is_plain(&listing))
        return list_text(&listing, token, err);
    bool done =
        is_store_order(&listing) ? list_stored(&listing, token, &next, err) : list_sorted(&listing, token, &next, err);
    if (done)
        call->answer = make_answer(&listing, next);
    free_found(&listing);
    return done;
}

bool kind_list(ApiCall *call, Error *err) {
    return list(call, call->method->makes, err);
}

bool job_objects_list(ApiCall *call, Error *err) {
    StoreResource job = {0};

    return store_get(call->tx, call->resource, &job, err) && list(call, NAME_OBJECT, err);
}
