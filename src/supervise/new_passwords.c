/*
 * New passwords for roles whose passwords cannot be read at the source.
 *
 * NOTES
 * The seed is sealed in the transaction that gives the session its number, before the session is started: a session
 * that has one finds it in the store, whatever dies. Names are added up over sessions, also of one that was lost: it
 * may have told of roles, committed them, and died. A name too many does no harm: its role is made by the next session,
 * with the same password, or was never made. When the passwords were fetched, the next session that makes roles gets
 * another seed; what the one before has told is then told no more. They cannot be fetched while a session is under way,
 * nor behind one that failed, when another one follows. Behind one that was stopped they can (instance.c): a name too
 * many is then given out with a password that no role has, and once more, with the one that it has, when it is made.
 */
#include "supervise/new_passwords.h"

#include "secrets/new_passwords.h"
#include "vault/vault.h"

#include <string.h>
#include <strings.h>

static const char flag_name[] = "new-passwords";

bool new_passwords_is_flag(const char *name) {
    return strcmp(name + strspn(name, "-"), flag_name) == 0;
}

static bool is_wanted(const Record *job) {
    const json_t *flags = json_get_array(json_object_get(job->api, "dumpFlags"), "dumpFlags");

    for (size_t at = 0; at < json_array_size(flags); at++) {
        const json_t *flag = json_array_get(flags, at);

        if (new_passwords_is_flag(json_get_string(flag, "name", "")))
            return strcasecmp(json_get_string(flag, "value", "true"), "true") == 0;
    }
    return false;
}

bool new_passwords_prepare(StoreTx *tx, Secrets *secrets, Record *job, Error *err) {
    CLEANUP(secret_wipe) Secret seed = {0};

    if (!is_wanted(job) || record_has_secret(job, job_new_passwords_field))
        return true;
    new_passwords_seed(&seed);
    if (!vault_set(tx, secrets, job->resource.name, job_new_passwords_field, seed.bytes, seed.len, err))
        return error_wrap(err, "the seed of new passwords");
    record_note_secret(job, job_new_passwords_field, true);
    return true;
}

bool new_passwords_seed_of(StoreTx *tx, Secrets *secrets, const Record *job, json_t **ret_seed, Error *err) {
    CLEANUP(secret_wipe) Secret seed = {0};

    *ret_seed = NULL;
    if (!is_wanted(job) || !record_has_secret(job, job_new_passwords_field))
        return true;
    if (!vault_get(tx, secrets, job->resource.name, job_new_passwords_field, &seed, err))
        return error_wrap(err, "the seed of new passwords");
    *ret_seed = json_string_lossy(seed.bytes);
    return true;
}

static bool has(const json_t *names, const char *name) {
    for (size_t at = 0; at < json_array_size(names); at++)
        if (strcmp(json_string_value(json_array_get(names, at)), name) == 0)
            return true;
    return false;
}

static const json_t *told_of(const json_t *said) {
    return json_get_array(json_get_object(said, "databases"), "new_passwords");
}

bool new_passwords_are_news(const Record *job, const json_t *said) {
    const json_t *told = told_of(said), *names = json_object_get(job->run, job_run_NEW_PASSWORDS);

    for (size_t at = 0; record_has_secret(job, job_new_passwords_field) && at < json_array_size(told); at++) {
        const char *name = json_string_value(json_array_get(told, at));

        if (name != NULL && !has(names, name))
            return true;
    }
    return false;
}

void new_passwords_note(Record *job, const json_t *said) {
    const json_t *told = told_of(said);
    json_t *names = json_object_get(job->run, job_run_NEW_PASSWORDS);

    if (!record_has_secret(job, job_new_passwords_field)) /* of a seed that is gone: they were given out */
        return;
    for (size_t at = 0; at < json_array_size(told); at++) {
        const char *name = json_string_value(json_array_get(told, at));

        if (name == NULL || has(names, name))
            continue;
        if (names == NULL) {
            names = json_array();
            (void)json_object_set_new(job->run, job_run_NEW_PASSWORDS, names);
        }
        (void)json_array_append_new(names, json_string_lossy(name));
    }
}
