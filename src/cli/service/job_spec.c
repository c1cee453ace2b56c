/* Migration jobs from options. */
#include "cli/service/job_spec.h"

#include "cli/service/profile_spec.h"

#include <string.h>
#include <strings.h>

/* Words of the command line, and what the API calls them. */
typedef struct Word {
    const char *word, *value;
} Word;

static const Word types[] = {{"continuous", "CONTINUOUS"}, {"one-time", "ONE_TIME"}, {0}};
static const Word levels[] = {{"min", "MIN"}, {"optimal", "OPTIMAL"}, {"max", "MAX"}, {0}};

/* The API's own name is taken as well. */
static bool take_word(const Word *words, const char *flag, const char *text, const char **ret_value, Error *err) {
    const Word *word = words;

    while (word->word != NULL && strcasecmp(word->word, text) != 0 && strcasecmp(word->value, text) != 0)
        word++;
    if (word->word != NULL) {
        *ret_value = word->value;
        return true;
    }
    error_set(err, REASON_USAGE, "--%s: there is no \"%.40s\"", flag, text);
    if (words[2].word == NULL)
        return error_remedy(err, "--%s is %s or %s", flag, words[0].word, words[1].word);
    return error_remedy(err, "--%s is %s, %s or %s", flag, words[0].word, words[1].word, words[2].word);
}

json_t *job_spec_objects(const StringVec *databases) {
    json_t *list = json_array();

    for (size_t at = 0; databases != NULL && at < databases->len; at++)
        (void)json_array_append_new(list, json_pack("{s:{s:s, s:o}}", "objectIdentifier", "type", "DATABASE",
                                                    "database", json_string_lossy(databases->items[at])));
    if (databases != NULL)
        return json_pack("{s:{s:s, s:o}}", "sourceObjectsConfig", "objectsSelectionType", "SPECIFIED_OBJECTS",
                         "objectConfigs", list);
    json_decref(list);
    return json_pack("{s:{s:s}}", "sourceObjectsConfig", "objectsSelectionType", "ALL_OBJECTS");
}

static bool take_databases(const MigrateOptions *options, json_t *job, Error *err) {
    bool some = options->databases.len > 0;

    if (some && options->all_databases)
        return error_set(err, REASON_USAGE, "--database and --all-databases exclude each other");
    if (some || options->all_databases)
        (void)json_object_set_new(job, "objectsConfig", job_spec_objects(some ? &options->databases : NULL));
    return true;
}

bool job_spec_take_options(Arena *arena, const MigrateOptions *options, json_t *job, Error *err) {
    const char *type = NULL, *level = NULL;

    if (options->type != NULL && !take_word(types, "type", options->type, &type, err))
        return false;
    if (options->parallel != NULL && !take_word(levels, "parallel", options->parallel, &level, err))
        return false;
    if (type != NULL)
        (void)json_object_set_new(job, "type", json_string(type));
    if (level != NULL)
        (void)json_object_set_new(job, "performanceConfig", json_pack("{s:s}", "dumpParallelLevel", level));
    if (options->display_name != NULL)
        (void)json_object_set_new(job, "displayName", json_string_lossy(options->display_name));
    return take_databases(options, job, err) && spec_take_labels(arena, &options->labels, job, err);
}
