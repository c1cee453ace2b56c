/* Every command of pgcrane. */
#include "cli/commands.h"

#include <string.h>

static const char *const migrate_about[] = {
    "Moves a PostgreSQL database to another server: schema, data, indexes, constraints, sequences, large objects, "
    "grants and statistics. SOURCE and DEST are connection strings as psql takes them: a URI or key=value pairs. The "
    "destination database must exist; what it lacks is checked, and told all at once, before anything is changed.",
    "The source is only read. All tables show one moment of it; the application may go on writing meanwhile, but what "
    "it writes after that moment is not moved.",
    "When a run was interrupted, for whatever reason, the same command goes on where it ended: what was committed at "
    "the destination is not copied again. Ctrl-C ends cleanly.",
    "Passwords are best left to ~/.pgpass, PGPASSFILE or a service file. One given in a connection string on the "
    "command line is struck out of the process list as soon as it has been read; PGCRANE_SOURCE and PGCRANE_DEST never "
    "show there.",
    NULL,
};

static const Example migrate_examples[] = {
    {"Check everything and show the plan, changing nothing:",
     "pgcrane migrate --dry-run postgresql://app@old.example/shop postgresql://app@new.example/shop"},
    {"Move the database with 8 copy lanes:",
     "pgcrane migrate -j 8 postgresql://app@old.example/shop postgresql://app@new.example/shop"},
    {"Move two schemas, owned by the role that connects to the destination:",
     "pgcrane migrate -n sales -n stock --no-owner --no-acl service=old service=new"},
    {"From a script, with JSON lines to read:",
     "PGCRANE_SOURCE=service=old PGCRANE_DEST=service=new pgcrane migrate --yes --json > run.jsonl"},
    {NULL, NULL},
};

static const char *const help_about[] = {
    "Without a name: all commands. With one: how that command is used. Also: pgcrane help exit-codes, pgcrane help "
    "errors, pgcrane help environment.",
    NULL,
};

static const char *const docs_about[] = {
    "Prints documentation generated from pgcrane's own tables: man, man-migrate, options, errors, exit-codes, phases "
    "or "
    "bash-completion.",
    NULL,
};

const Command commands[] = {
    {
        .name = "migrate",
        .args = "SOURCE DEST [OPTION]...",
        .help = "move a database to another server",
        .has_options = true,
        .run = migrate_main,
        .about = migrate_about,
        .examples = migrate_examples,
    },
    {
        .name = "help",
        .args = "[COMMAND | exit-codes | errors | environment]",
        .help = "show how a command is used",
        .run = help_main,
        .about = help_about,
    },
    {.name = "version", .args = "", .help = "show the version", .run = version_main},
    {
        .name = "docs",
        .args = "PAGE",
        .help = "print generated documentation",
        .hidden = true,
        .run = docs_main,
        .about = docs_about,
    },
};
const size_t commands_count = COUNT_OF(commands);

const Command *command_find(const char *name) {
    for (size_t at = 0; at < commands_count; at++)
        if (strcmp(commands[at].name, name) == 0)
            return &commands[at];
    return NULL;
}
