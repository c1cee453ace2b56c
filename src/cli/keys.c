/* The command `keys`: the keys that secrets in the store are sealed with. */
#include "cli/verbs.h"
#include "serve/files.h"
#include "vault/vault.h"

#include <inttypes.h>
#include <string.h>

typedef struct Opened {
    Store *store;
    Secrets *secrets;
} Opened;

static void opened_close(Opened *opened) {
    secrets_freep(&opened->secrets);
    store_closep(&opened->store);
}

static bool open_both(Arena *arena, const Arguments *arguments, Opened *opened, Error *err) {
    return verb_open_store(arena, arguments, &opened->store, err) &&
           service_open_secrets(arena, opened->store, &arguments->options, &opened->secrets, err);
}

static const char *newest(const SecretsKeyIds *ids) {
    return ids->ids[ids->count - 1];
}

/* --- list --- */

static void put_usage(const VaultUsage *usage, bool json, Buf *out) {
    for (size_t at = 0; at < usage->keys.count; at++) {
        const char *id = usage->keys.ids[at];
        bool is_newest = at + 1 == usage->keys.count;
        if (json)
            verb_json(out, json_pack("{s:s, s:b, s:I}", "id", id, "newest", (int)is_newest, "secrets",
                                     (json_int_t)usage->counts[at]));
        else
            buf_printf(out, "%s  %8" PRId64 " secrets%s\n", id, usage->counts[at], is_newest ? "  newest" : "");
    }
}

static bool list(Arena *arena, const Arguments *arguments, Buf *out, Error *err) {
    CLEANUP(opened_close) Opened opened = {0};
    VaultUsage usage;

    if (!open_both(arena, arguments, &opened, err) || !vault_usage(opened.store, opened.secrets, &usage, err))
        return false;
    put_usage(&usage, arguments->options.json, out);
    if (usage.strange > 0)
        verb_note("%" PRId64 " secrets are sealed with keys that are not in the key file: they do not open.",
                  usage.strange);
    return true;
}

/* --- rotate, reseal --- */

static bool audit_body(StoreTx *tx, void *context, Error *err) {
    StoreAudit *line = context;

    return store_audit_append(tx, line, err);
}

/* Before it is done: what was interrupted has been begun by somebody. */
static bool audit(Arena *arena, Store *store, const char *action, Error *err) {
    const DoorCaller caller = verb_caller(arena);
    StoreAudit line = {
        .who = caller.who, .action = action, .resource = "keys", .from = caller.from, .outcome = "BEGUN"};

    return store_write(store, arena, audit_body, &line, err);
}

static bool reseal_failed(const VaultReseal *result, Error *err) {
    *err = result->first;
    return error_wrap(err, "%" PRId64 " secrets were sealed anew, %" PRId64 " do not open, the first one",
                      result->resealed, result->failed);
}

static bool reseal_all(const Opened *opened, bool json, Buf *out, Error *err) {
    VaultReseal result;
    SecretsKeyIds ids;

    if (!vault_reseal(opened->store, opened->secrets, &result, err))
        return false;
    if (result.failed > 0)
        return reseal_failed(&result, err);
    secrets_key_ids(opened->secrets, &ids);
    if (json)
        verb_json(out, json_pack("{s:s, s:I, s:I}", "newest", newest(&ids), "resealed", (json_int_t)result.resealed,
                                 "current", (json_int_t)result.current));
    else
        buf_printf(out, "All %" PRId64 " secrets are sealed with key %s, %" PRId64 " of them anew.\n",
                   result.resealed + result.current, newest(&ids), result.resealed);
    return true;
}

static bool reseal(Arena *arena, const Arguments *arguments, Buf *out, Error *err) {
    CLEANUP(opened_close) Opened opened = {0};

    return open_both(arena, arguments, &opened, err) && audit(arena, opened.store, "keys.reseal", err) &&
           reseal_all(&opened, arguments->options.json, out, err);
}

static bool rotate(Arena *arena, const Arguments *arguments, Buf *out, Error *err) {
    CLEANUP(opened_close) Opened opened = {0};

    if (!open_both(arena, arguments, &opened, err) || !audit(arena, opened.store, "keys.rotate", err) ||
        !secrets_add_key(opened.secrets, err))
        return false;
    if (!reseal_all(&opened, arguments->options.json, out, err)) {
        verb_note("The new key is in the file: pgcrane keys reseal goes on from here.");
        return false;
    }
    verb_note("Keep a copy of %s, and copy it to the other nodes of this store.",
              service_key_file(arena, &arguments->options));
    return true;
}

/* --- prune --- */

static bool prune(Arena *arena, const Arguments *arguments, Buf *out, Error *err) {
    CLEANUP(opened_close) Opened opened = {0};
    size_t dropped = 0;

    if (!open_both(arena, arguments, &opened, err) || !audit(arena, opened.store, "keys.prune", err) ||
        !vault_prune(opened.store, opened.secrets, &dropped, err))
        return false;
    if (arguments->options.json)
        verb_json(out, json_pack("{s:I}", "dropped", (json_int_t)dropped));
    else
        buf_printf(out, "%zu keys that have sealed nothing here any more are taken out of the file.\n", dropped);
    return true;
}

const Verb keys_verbs[] = {
    {.name = "list", .args = "", .help = "show the keys, and how many secrets each has sealed", .run = list},
    {.name = "rotate", .args = "", .help = "make a new key and seal everything anew", .run = rotate},
    {.name = "reseal", .args = "", .help = "go on with a rotation that was interrupted", .run = reseal},
    {.name = "prune", .args = "", .help = "take keys out of the file that are in use no more", .run = prune},
    {0},
};
