/*
 * Every command of pgcrane: dispatch, help, man pages and completion all read this table.
 *
 * A command gets its own name as argv[0] and returns the exit code of the process.
 */
#pragma once

#include "common/buf.h"
#include "model/options.h"

typedef struct Example {
    const char *what;
    const char *command;
} Example;

typedef struct Arguments Arguments;
struct Service;

/* What a command does that has more than one thing to do: pgcrane COMMAND VERB ... */
typedef struct Verb {
    const char *name;
    const char *args;         /* words behind it, "" when there are none */
    size_t n_args;            /* how many those are */
    size_t n_more;            /* how many more there may be */
    const char *const *takes; /* groups and flags, beside those of the group Client; NULL = whatever the command does */
    const char *help;
    bool (*run)(Arena *arena, const Arguments *arguments, Buf *out, Error *err); /* cli/verbs.h */
    bool (*ask)(struct Service *service, Error *err); /* of commands over the API: cli/service/service.h */
} Verb;

typedef struct Command {
    const char *name;
    const char *args; /* synopsis behind the name, "" when there is none */
    const char *help; /* one line */
    bool hidden;
    bool takes_job;           /* an argument JOB, which may be left out when there is one */
    bool takes_none;          /* options, and no argument */
    const char *const *takes; /* groups and flags of options.def, NULL-terminated; NULL = no options */
    const Verb *verbs;        /* ends with an empty row; NULL = none. run is verb_main or service_main then */
    int (*run)(int argc, char **argv);
    const char *const *about; /* paragraphs, NULL-terminated; NULL = none */
    const Example *examples;  /* ends with an empty row; NULL = none */
} Command;

extern const Command commands[];
extern const size_t commands_count;

/* NULL when there is none of that name. */
const Command *command_find(const char *name);

/* NULL when there is none of that name. */
const Verb *command_verb(const Command *command, const char *name);

bool command_takes(const Command *command, const OptionInfo *info);
bool verb_takes(const Verb *verb, const OptionInfo *info);

int migrate_main(int argc, char **argv);
int promote_main(int argc, char **argv);
int status_main(int argc, char **argv);
int abort_main(int argc, char **argv);
int serve_main(int argc, char **argv);
int verb_main(int argc, char **argv);
int help_main(int argc, char **argv);
int version_main(int argc, char **argv);
int docs_main(int argc, char **argv);

extern const Verb tokens_verbs[];
extern const Verb keys_verbs[];
