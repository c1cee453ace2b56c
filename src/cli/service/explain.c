/* Remedies by reason: what the API says of headers and requests, as commands. */
#include "cli/service/explain.h"

#include <string.h>

typedef enum Middle { NOTHING, COMMAND, JOB } Middle;

/* What stands between the two parts: the command's name, or the job that it was about. */
static const struct {
    ErrorReason reason;
    Middle middle;
    const char *before, *behind;
} remedies[] = {
    {REASON_TOKEN_NEEDED, NOTHING,
     "set PGCRANE_TOKEN, or name a file that holds a token with --token-file; where the service runs, pgcrane tokens "
     "create makes one",
     ""},
    {REASON_NOT_PERMITTED, NOTHING,
     "ask with a token of a role that may: where the service runs, pgcrane tokens list shows them", ""},
    {REASON_TOO_MANY_FAILURES, NOTHING, "wait a minute, then ask with a good token", ""},
    {REASON_NO_RESOURCE, COMMAND, "pgcrane ",
     " list shows what is there; --project and --location say where it is looked for"},
    {REASON_NAME_TAKEN, COMMAND, "choose another id, or change what is there: pgcrane ", " update"},
    {REASON_BAD_REQUEST, COMMAND, "see pgcrane ", " --help"},
    {REASON_JOB_STATE, JOB, "pgcrane jobs describe ", " shows its state, and what it takes now"},
    {REASON_STORE_UNAVAILABLE, NOTHING,
     "run the command again when the service's store is back: the service's log says what is wrong", ""},
};

/* "objects list" and "apply" take no ID of a job where "jobs start" does. */
static const char *middle_of(const Service *service, Middle middle) {
    bool has_job = strcmp(service->command->name, "jobs") == 0 || strcmp(service->command->name, "objects") == 0;
    const char *job = has_job ? service_word(service, 1) : NULL;

    if (middle == COMMAND)
        return strcmp(service->command->name, "apply") == 0 || strcmp(service->command->name, "objects") == 0
                   ? "jobs"
                   : service->command->name;
    return middle == NOTHING ? "" : job != NULL ? service_typed(service, job) : "ID";
}

bool service_explain(const Service *service, Error *err) {
    static const char command[] = "pgcrane ";

    if (strncmp(err->remedy, command, strlen(command)) == 0) /* it is one to type already */
        return false;
    bool is_database = strcmp(service->command->name, "objects") == 0 && service_word(service, 2) != NULL;
    if (err->reason == REASON_NO_RESOURCE && is_database)
        return error_remedy(err, "pgcrane objects list %s shows its databases; --refresh asks the source first",
                            service_typed(service, service_word(service, 1)));
    for (size_t at = 0; at < COUNT_OF(remedies); at++)
        if (remedies[at].reason == err->reason)
            return error_remedy(err, "%s%s%s", remedies[at].before, middle_of(service, remedies[at].middle),
                                remedies[at].behind);
    return false;
}
