/* Every command of pgcrane. */
#include "cli/commands.h"

#include <string.h>

static const char *const migrate_about[] = {
    "Moves a PostgreSQL database to another server: schema, data, indexes, constraints, sequences, large objects, "
    "grants and statistics. SOURCE and DEST are connection strings as psql takes them: a URI or key=value pairs. The "
    "destination database must exist; what it lacks is checked, and told all at once, before anything is changed.",
    "Without --follow the source is only read. All tables show one moment of it; the application may go on writing "
    "meanwhile, but what it writes after that moment is not moved.",
    "With --follow the copy is followed by every change of the source, until pgcrane promote (or --promote=auto) makes "
    "the destination the database: the application's writes are away for a moment only. The source needs wal_level = "
    "logical, keeps a replication slot meanwhile, and publications; promote and abort remove them. pgcrane status, "
    "promote and abort work from other terminals.",
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
    {"Move a database in production, and decide later when the application changes over:",
     "pgcrane migrate --follow postgresql://app@old.example/shop postgresql://app@new.example/shop"},
    {"From a script, with JSON lines to read:",
     "PGCRANE_SOURCE=service=old PGCRANE_DEST=service=new pgcrane migrate --yes --json > run.jsonl"},
    {NULL, NULL},
};

static const char *const promote_about[] = {
    "Makes the destination of a migration that was begun with --follow the database: waits until it has caught up, "
    "stops writes on the source, applies what is left, brings sequences up to date, proves that nothing came after it, "
    "and opens the destination. Until then everything can be undone, and is when a step fails or Ctrl-C calls it off: "
    "the source is writable as before, and is still followed.",
    "JOB is the id of the migration or its beginning; it may be left out when there is one. While the copy is "
    "under way, it waits for its end. When no process follows at the moment, this one goes on with it first. Passwords "
    "are not kept: they come from ~/.pgpass, or PGCRANE_SOURCE "
    "and PGCRANE_DEST. Options that are not given are as the migration was begun.",
    "--dry-run tries everything that can be tried without stopping a write, and estimates how long writes would be "
    "away.",
    NULL,
};

static const Example promote_examples[] = {
    {"How long would writes be away?", "pgcrane promote --dry-run"},
    {"Promote, with a pooler that holds the application's queries meanwhile:",
     "pgcrane promote --hook-before='pooler-pause shop' --hook-after='pooler-resume shop new.example'"},
    {NULL, NULL},
};

static const char *const status_about[] = {
    "Shows how a migration stands: state, phase, lag, what the source keeps because of it, the busiest tables, "
    "problems. Without JOB all migrations of the state folder are listed, or the only one is shown. With --json each "
    "is one line, a JSON object.",
    NULL,
};

static const Example status_examples[] = {
    {"Watch it until it ends:", "pgcrane status --watch"},
    {"For a monitor, the lag in bytes:", "pgcrane status --json | jq .progress.cdc.lag_bytes"},
    {NULL, NULL},
};

static const char *const abort_about[] = {
    "Gives a migration up: a process that runs it is stopped, then everything that was made on the source is removed "
    "(slot, publications, event triggers, replica identities). The destination keeps what it has. What the source "
    "writes from then on cannot be followed any more; to migrate again, begin with --restart.",
    "It asks both sides, because the destination has the record of what was made. When the destination is gone for "
    "good, --source-only removes from the source what is known by its name: slot, publications, event triggers with "
    "their "
    "schema, sessions. Replica identities that --identity-full changed, and a source that a promote left read-only, it "
    "does not touch, since only the destination knew what was there before: it names them, with the statements, and "
    "keeps the migration on the list, so that it can be asked again. So it is, without the option, when the "
    "destination "
    "is there and the record is not.",
    NULL,
};

static const Example abort_examples[] = {
    {"Without a question, from a script:", "pgcrane abort --yes 3f9a"},
    {"The destination does not exist any more:", "pgcrane abort --source-only 3f9a"},
    {NULL, NULL},
};

/* What each takes of options.def: whole groups, and single flags. */
static const char *const migrate_takes[] = {"Speed", "What to move", "Following", "Promote", "Running", "Output", NULL};
static const char *const promote_takes[] = {"Promote", "state-dir", "dry-run", "yes", "Output", NULL};
static const char *const status_takes[] = {"Status", "state-dir", "json", "no-color", NULL};
static const char *const abort_takes[] = {"Abort", "state-dir", "yes", "Output", NULL};

static const char *const serve_about[] = {
    "Serves Google's Database Migration API v1 over HTTP: connection profiles, migration jobs and their operations, as "
    "gcloud, Terraform and the googleapis clients know them. What it is asked for is kept in the store: an SQLite file "
    "in the state folder, or a PostgreSQL database that several daemons share.",
    "It listens on the loopback interface only. SIGTERM and Ctrl-C end it when the requests under way are answered.",
    NULL,
};

static const char *const serve_takes[] = {"Service", "state-dir", "verbose", NULL};

static const char *const help_about[] = {
    "Without a name: all commands. With one: how that command is used. Also: pgcrane help exit-codes, pgcrane help "
    "errors, pgcrane help environment.",
    NULL,
};

static const char *const docs_about[] = {
    "Prints documentation generated from pgcrane's own tables: man, man-COMMAND, options, errors, exit-codes, phases "
    "or bash-completion.",
    NULL,
};

const Command commands[] = {
    {
        .name = "migrate",
        .args = "SOURCE DEST [OPTION]...",
        .help = "move a database to another server",
        .takes = migrate_takes,
        .run = migrate_main,
        .about = migrate_about,
        .examples = migrate_examples,
    },
    {
        .name = "promote",
        .args = "[JOB] [OPTION]...",
        .help = "make the destination of a followed migration the database",
        .takes_job = true,
        .takes = promote_takes,
        .run = promote_main,
        .about = promote_about,
        .examples = promote_examples,
    },
    {
        .name = "status",
        .args = "[JOB] [OPTION]...",
        .help = "show how migrations stand",
        .takes_job = true,
        .takes = status_takes,
        .run = status_main,
        .about = status_about,
        .examples = status_examples,
    },
    {
        .name = "abort",
        .args = "[JOB] [OPTION]...",
        .help = "give a migration up and remove what it made on the source",
        .takes_job = true,
        .takes = abort_takes,
        .run = abort_main,
        .about = abort_about,
        .examples = abort_examples,
    },
    {
        .name = "serve",
        .args = "[OPTION]...",
        .help = "serve the API",
        .hidden = true, /* until jobs are carried out */
        .takes_none = true,
        .takes = serve_takes,
        .run = serve_main,
        .about = serve_about,
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

bool command_takes(const Command *command, const OptionInfo *info) {
    for (const char *const *word = command->takes; word != NULL && *word != NULL; word++)
        if (strcmp(*word, info->group) == 0 || strcmp(*word, info->flag) == 0)
            return true;
    return false;
}
