/* The command `tokens`: on the store itself. */
#include "cli/tty.h"
#include "cli/verbs.h"
#include "common/clock.h"

#include <string.h>

enum { TOKEN_LINE = 256 };

static const char *state_word(const StoreToken *token) {
    static const char *const words[] = {[DOOR_GOOD] = "good", [DOOR_REVOKED] = "revoked", [DOOR_EXPIRED] = "expired"};

    return words[door_token_state(token, clock_wall_us())];
}

static const char *time_text(Arena *arena, int64_t wall_us) {
    return wall_us != 0 ? clock_rfc3339(arena, wall_us) : "never";
}

/* Absent is never. */
static void put_time(Arena *arena, json_t *object, const char *key, int64_t wall_us) {
    if (wall_us != 0)
        json_object_set_new(object, key, json_string(clock_rfc3339(arena, wall_us)));
}

static json_t *token_to_json(Arena *arena, const StoreToken *token) {
    json_t *object = json_pack("{s:s, s:s, s:o, s:s}", "id", token->id, "role", token->role, "name",
                               json_string_lossy(token->name), "state", state_word(token));

    put_time(arena, object, "createTime", token->create_us);
    put_time(arena, object, "expireTime", token->expire_us);
    put_time(arena, object, "lastUseTime", token->used_us);
    put_time(arena, object, "revokeTime", token->revoke_us);
    return object;
}

/* --- create --- */

typedef struct Wish {
    TokenRole role;
    const char *name;
    int64_t span_us;
} Wish;

static bool read_wish(const MigrateOptions *options, Wish *wish, Error *err) {
    *wish = (Wish){.name = options->name != NULL ? options->name : ""};
    if (options->role == NULL) {
        error_set(err, REASON_USAGE, "the role is missing");
        return error_remedy(err, "give --role viewer, operator or admin: the least that does");
    }
    wish->role = token_role_from_name(options->role);
    if (wish->role == TOKEN_NOBODY) {
        error_set(err, REASON_USAGE, "there is no role \"%.40s\"", options->role);
        return error_remedy(err, "the roles are viewer, operator and admin");
    }
    return options->expires == NULL || token_parse_expiry(options->expires, &wish->span_us, err);
}

/* Its characters mean nothing in JSON. */
static void put_text(Arena *arena, const StoreToken *token, const Secret *text, bool json, Buf *out) {
    (void)buf_reserve(out, TOKEN_LINE); /* so that growing leaves no copy of it behind */
    if (!json) {
        buf_append(out, text->bytes, text->len);
        buf_append_char(out, '\n');
        return;
    }
    json_t *object = token_to_json(arena, token);
    json_object_set_new(object, "token", json_string(text->bytes));
    verb_json(out, object);
}

static bool create(Arena *arena, const Arguments *arguments, Buf *out, Error *err) {
    CLEANUP(store_closep) Store *store = NULL;
    CLEANUP(secret_wipe) Secret text = {0};
    const DoorCaller caller = verb_caller(arena);
    StoreToken token;
    Wish wish;

    if (!read_wish(&arguments->options, &wish, err) || !verb_open_store(arena, arguments, &store, err) ||
        !door_make_token(store, arena, &caller, wish.role, wish.name, wish.span_us, &text, &token, err))
        return false;
    put_text(arena, &token, &text, arguments->options.json, out);
    verb_note("Token %s, role %s, expires: %s. It is shown this once.", token.id, token.role,
              time_text(arena, token.expire_us));
    return true;
}

/* --- list --- */

typedef struct Listing {
    StoreToken *tokens;
    size_t count;
} Listing;

static bool list_body(StoreTx *tx, void *context, Error *err) {
    Listing *listing = context;

    return store_token_list(tx, &listing->tokens, &listing->count, err);
}

static void put_row(Arena *arena, const StoreToken *token, Buf *out) {
    buf_printf(out, "%-16s  %-8s  %-7s  %-24s  %-24s  %-24s  %s\n", token->id, token->role, state_word(token),
               time_text(arena, token->create_us), time_text(arena, token->expire_us), time_text(arena, token->used_us),
               text_clean(arena, token->name));
}

static bool list(Arena *arena, const Arguments *arguments, Buf *out, Error *err) {
    CLEANUP(store_closep) Store *store = NULL;
    Listing listing = {0};

    if (!verb_open_store(arena, arguments, &store, err) || !store_read(store, arena, list_body, &listing, err))
        return false;
    bool json = arguments->options.json;
    if (!json && listing.count > 0)
        buf_printf(out, "%-16s  %-8s  %-7s  %-24s  %-24s  %-24s  %s\n", "Id", "Role", "State", "Created", "Expires",
                   "Last used", "Name");
    for (size_t at = 0; at < listing.count; at++)
        if (json)
            verb_json(out, token_to_json(arena, &listing.tokens[at]));
        else
            put_row(arena, &listing.tokens[at], out);
    if (!json && listing.count == 0)
        buf_append_str(out, "There is no token.\n");
    return true;
}

/* --- revoke --- */

static bool revoke(Arena *arena, const Arguments *arguments, Buf *out, Error *err) {
    CLEANUP(store_closep) Store *store = NULL;
    const DoorCaller caller = verb_caller(arena);
    StoreToken token;

    if (!verb_open_store(arena, arguments, &store, err) ||
        !door_revoke_token(store, arena, &caller, arguments->words.items[1], &token, err))
        return false;
    if (arguments->options.json)
        verb_json(out, token_to_json(arena, &token));
    else
        buf_printf(out, "Token %s is revoked since %s.\n", token.id, time_text(arena, token.revoke_us));
    return true;
}

const Verb tokens_verbs[] = {
    {.name = "create", .args = "", .help = "make one and print it (--role, --name, --expires)", .run = create},
    {.name = "list", .args = "", .help = "show all, without their texts", .run = list},
    {.name = "revoke", .args = "ID", .n_args = 1, .help = "end one; the beginning of its id does", .run = revoke},
    {0},
};
