/*
 * New passwords of roles that a job has made: given out once, to an administrator.
 *
 * What is answered is taken away in the same transaction: the seed, of which alone they can be made again, and the
 * names. So an answer that is lost on the way is lost for good, and two that ask at once are not answered both. The
 * audit log and the job's say who asked, never what was answered; there is no operation, which would keep it.
 */
#include "api/job_passwords.h"

#include "api/kinds.h"
#include "api/vault.h"
#include "jobs/job.h"

static bool is_none(const ApiCall *call, Error *err) {
    error_set(err, REASON_JOB_STATE, "%s has no new passwords to give out: none were made, or they were given out",
              call->resource);
    return error_remedy(err, "set one by \\password ROLE on the destination, as somebody who may; new ones are made for"
                             " roles that a job with dumpFlags new-passwords makes itself");
}

static bool forget(ApiCall *call, Record *job, Error *err) {
    if (!store_secret_remove(call->tx, call->resource, job_new_passwords_field, err))
        return false;
    record_note_secret(job, job_new_passwords_field, false);
    (void)json_object_del(job->run, job_run_NEW_PASSWORDS);
    CLEANUP(json_freep) json_t *detail = json_pack("{s:s}", "by", call->grant.who);
    return job_save(call->tx, call->arena, job, err) &&
           job_log(call->tx, call->resource, "PASSWORDS_FETCHED", "the new passwords were given out", detail, err);
}

bool job_passwords(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0};
    const Vault *vault = api_config(call->api)->vault;
    json_t *list = json_array();

    call->answer = json_pack("{s:o}", "passwords", list);
    if (!kind_load(call, &job, err))
        return false;
    /* What it makes has passwords of the same seed, and is not in the list yet. */
    if (job_is_preparing(&job))
        return error_set(err, REASON_JOB_STATE, "%s: roles are still being made, or that failed: ask when it went well",
                         call->resource);
    const json_t *roles = json_object_get(job.run, job_run_NEW_PASSWORDS);
    if (json_array_size(roles) == 0 || !record_has_secret(&job, job_new_passwords_field))
        return is_none(call, err);
    for (size_t at = 0; at < json_array_size(roles); at++) {
        const char *role = json_string_value(json_array_get(roles, at)), *password = NULL;

        if (!vault->new_password(vault->context, call->tx, call->arena, call->resource, role, &password, err))
            return false;
        (void)json_array_append_new(list, json_pack("{s:s, s:s}", "role", role, "password", password));
    }
    return forget(call, &job, err);
}
