/*
 * Fail points: named places where a test makes the process die, err or wait.
 *
 * The variable is read anew at each passage: nothing to initialise, and only test builds pay for it. Passages are
 * counted by the entry's place in the list.
 */
#include "common/failpoint.h"

#ifdef PGCRANE_FAILPOINTS

#include "common/clock.h"
#include "common/log.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ENTRIES_MAX = 32, ENTRY_TEXT_MAX = 128 };

static atomic_ullong passages[ENTRIES_MAX];

/* A whole number at `text`, to its end. */
static bool read_number(const char *text, unsigned long long *ret_number) {
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *ret_number = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool act(const char *name, const char *action, Error *err) {
    unsigned long long msec;
    if (strcmp(action, "kill") == 0)
        kill(getpid(), SIGKILL); /* uncovered: tested, but a killed process writes no coverage */
    if (strcmp(action, "error") == 0 || strcmp(action, "retryable") == 0) {
        error_set(err, REASON_FAILPOINT, "fail point %s", name);
        err->retryable = *action == 'r';
        return false;
    }
    if (strncmp(action, "sleep=", 6) == 0 && read_number(action + 6, &msec)) {
        log_info("fail point %s: sleeping for %llu ms", name, msec); /* a test may wait for it */
        clock_sleep_us((int64_t)msec * USEC_PER_MSEC);
        return true;
    }
    return error_set(err, REASON_FAILPOINT, "fail point %s: bad action \"%s\"", name, action);
}

/* `entry` is NAME:ACTION[:N] and is cut into its parts. */
static bool pass(char *entry, size_t index, const char *name, Error *err) {
    char *action = strchr(entry, ':');
    if (action == NULL)
        return error_set(err, REASON_FAILPOINT, "PGCRANE_FAILPOINT: \"%s\" has no action", entry);
    *action++ = '\0';
    if (strcmp(entry, name) != 0)
        return true;
    unsigned long long passage = atomic_fetch_add(&passages[index], 1) + 1;
    char *count = strchr(action, ':');
    unsigned long long wanted = passage;
    if (count != NULL) {
        *count++ = '\0';
        if (!read_number(count, &wanted))
            return error_set(err, REASON_FAILPOINT, "fail point %s: bad count \"%s\"", name, count);
    }
    return passage != wanted || act(name, action, err);
}

bool failpoint(const char *name, Error *err) {
    const char *list = getenv("PGCRANE_FAILPOINT");
    for (size_t index = 0; list != NULL && *list != '\0'; index++) {
        size_t len = strcspn(list, ",");
        if (index == ENTRIES_MAX || len >= ENTRY_TEXT_MAX)
            return error_set(err, REASON_FAILPOINT, "PGCRANE_FAILPOINT is too long");
        char entry[ENTRY_TEXT_MAX] = "";
        memcpy(entry, list, len);
        if (!pass(entry, index, name, err))
            return false;
        list += len + (list[len] == ',');
    }
    return true;
}

#endif
