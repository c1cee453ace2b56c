/* Every command of pgcrane. */
#include "cli/commands.h"

#include "cli/service/main.h"

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
    "When the source is gone for good, --dest-only takes the record from the destination. One that a promote had "
    "opened "
    "is made what it would have become (foreign keys are validated). One that was never opened keeps what it has, and "
    "the command says what that is, and what it lacks.",
    NULL,
};

static const Example abort_examples[] = {
    {"Without a question, from a script:", "pgcrane abort --yes 3f9a"},
    {"The destination does not exist any more:", "pgcrane abort --source-only 3f9a"},
    {"The source was lost after the promote had opened the destination:", "pgcrane abort --dest-only 3f9a"},
    {NULL, NULL},
};

/* What each takes of options.def: whole groups, and single flags. */
static const char *const migrate_takes[] = {"Speed", "What to move", "Following", "Promote", "Running", "Output", NULL};
static const char *const promote_takes[] = {"Promote", "state-dir", "dry-run", "yes", "Output", NULL};
static const char *const status_takes[] = {"Status", "state-dir", "json", "no-color", NULL};
static const char *const tokens_takes[] = {"Tokens", "store", "config", "state-dir", "json", NULL};
static const char *const keys_takes[] = {"store", "key-file", "config", "state-dir", "json", NULL};
static const char *const abort_takes[] = {"Abort", "state-dir", "yes", "Output", NULL};

static const char *const serve_about[] = {
    "Serves Google's Database Migration API v1 over HTTP: connection profiles, migration jobs and their operations, as "
    "gcloud, Terraform and the googleapis clients know them. What it is asked for is kept in the store: an SQLite file "
    "in the state folder, or a PostgreSQL database that several daemons share.",
    "On the loopback interface whoever is on this machine may ask, until the first token is made (pgcrane tokens). On "
    "any other address it speaks TLS, and everybody needs a token.",
    "SIGTERM and Ctrl-C end it when the requests under way are answered. Jobs go on meanwhile: each of their databases "
    "has a process of its own, which the next daemon finds again.",
    NULL,
};

static const Example serve_examples[] = {
    {"On this machine, for whoever is on it:", "pgcrane serve"},
    {"As pgcrane.service does:", "pgcrane serve --config=/etc/pgcrane/pgcrane.conf"},
    {"For others:", "pgcrane serve --listen=0.0.0.0:8432 --tls-cert=service.crt --tls-key=service.key"},
    {"One of several nodes of one store:",
     "PGCRANE_STORE_FILE=/etc/pgcrane/store pgcrane serve --key-file=/var/lib/pgcrane/keys"},
    {NULL, NULL},
};

static const char *const serve_takes[] = {"Service", "state-dir", "verbose", NULL};

static const char *const tokens_about[] = {
    "Tokens are what clients of the service show: in the header \"Authorization: Bearer pgc_...\". This command works "
    "on the store itself, so it needs no token, and may be run while the service runs.",
    "create prints a new token to standard output: once, since only a hash of it is kept. viewer may look at "
    "everything but secrets; operator may also make, change, start, promote and delete; admin also has what concerns "
    "the service itself. Give each client one of its own, named, with the least role and a time after which it "
    "expires; revoke ends one at once. list shows them, with the hour in which each was last used.",
    "While there is no token at all, and the service listens on the loopback interface or a unix socket only, whoever "
    "is on that machine may do everything. The first token that is made ends that.",
    NULL,
};

static const Example tokens_examples[] = {
    {"A token for a pipeline, for three months:", "pgcrane tokens create --role operator --name ci --expires 90d"},
    {"Into a file, and into no terminal:", "(umask 077; pgcrane tokens create --role viewer > token)"},
    {"End one, by the beginning of its id:", "pgcrane tokens revoke 3f9a"},
    {NULL, NULL},
};

static const char *const keys_about[] = {
    "Passwords and private keys that the service stores are sealed with a key that is not in the store, but in a file "
    "beside it, which the service makes when it is started first. Keep a copy of the file, apart from copies of the "
    "store: without it no stored secret can be read. Whoever has both, has the secrets.",
    "rotate puts a new key into the file and seals everything anew. It may be interrupted at any moment, and the "
    "service may go on meanwhile: everything opens before, while and after. reseal goes on with what is not sealed "
    "with the newest key. Old keys stay in the file, since copies of the store may need them; prune takes those out "
    "that have sealed nothing in this store any more. list shows the keys, by their ids, and how many secrets each "
    "has sealed.",
    "Where several nodes share a store, all have the same file: rotate on one, copy the file to the others at once, "
    "prune when that is done. Until a node has the file, it cannot open what was sealed anew.",
    NULL,
};

static const Example keys_examples[] = {
    {"Change the key, once a year or when somebody leaves:", "pgcrane keys rotate"},
    {"And forget the old one:", "pgcrane keys prune"},
    {NULL, NULL},
};

static const char *const help_about[] = {
    "Without a name: all commands. With one: how that command is used. Also: pgcrane help exit-codes, pgcrane help "
    "errors, pgcrane help environment.",
    NULL,
};

static const char *const docs_about[] = {
    "Prints documentation generated from pgcrane's own tables: man, man-COMMAND, options, errors, exit-codes, phases, "
    "job-states, bash-completion, or man-pages, the names of those COMMANDs.",
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
        .help = "serve the API, and carry out what it is asked for",
        .takes_none = true,
        .takes = serve_takes,
        .run = serve_main,
        .about = serve_about,
        .examples = serve_examples,
    },
    {
        .name = "tokens",
        .args = "VERB [ID] [OPTION]...",
        .help = "make, list and revoke tokens of the service",
        .takes = tokens_takes,
        .verbs = tokens_verbs,
        .run = verb_main,
        .about = tokens_about,
        .examples = tokens_examples,
    },
    {
        .name = "keys",
        .args = "VERB [OPTION]...",
        .help = "rotate the keys that stored secrets are sealed with",
        .takes = keys_takes,
        .verbs = keys_verbs,
        .run = verb_main,
        .about = keys_about,
        .examples = keys_examples,
    },
    {
        .name = "profiles",
        .args = "VERB [ID] [OPTION]...",
        .help = "make, show, change and test connection profiles of the service",
        .takes = profiles_takes,
        .verbs = profiles_verbs,
        .run = service_main,
        .about = profiles_about,
        .examples = profiles_examples,
    },
    {
        .name = "jobs",
        .args = "VERB [ID] [OPTION]...",
        .help = "make, run, watch and promote migration jobs of the service",
        .takes = jobs_takes,
        .verbs = jobs_verbs,
        .run = service_main,
        .about = jobs_about,
        .examples = jobs_examples,
    },
    {
        .name = "objects",
        .args = "VERB JOB [DATABASE] [OPTION]...",
        .help = "show the databases of a migration job",
        .takes = objects_takes,
        .verbs = objects_verbs,
        .run = service_main,
        .about = objects_about,
        .examples = objects_examples,
    },
    {
        .name = "operations",
        .args = "VERB [ID] [OPTION]...",
        .help = "show, wait for and cancel what the service was asked to do",
        .takes = operations_takes,
        .verbs = operations_verbs,
        .run = service_main,
        .about = operations_about,
        .examples = operations_examples,
    },
    {
        .name = "instances",
        .args = "VERB [ID] [OPTION]...",
        .help = "make, show and remove servers to migrate to",
        .takes = instances_takes,
        .verbs = instances_verbs,
        .run = service_main,
        .about = instances_about,
        .examples = instances_examples,
    },
    {
        .name = "apply",
        .args = "-f FILE [OPTION]...",
        .help = "make profiles and jobs of the service be as a file says",
        .takes_none = true,
        .takes = apply_takes,
        .run = apply_main,
        .about = apply_about,
        .examples = apply_examples,
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

const Verb *command_verb(const Command *command, const char *name) {
    for (const Verb *verb = command->verbs; verb != NULL && verb->name != NULL; verb++)
        if (strcmp(verb->name, name) == 0)
            return verb;
    return NULL;
}

static bool is_among(const char *const *words, const OptionInfo *info) {
    for (; words != NULL && *words != NULL; words++)
        if (strcmp(*words, info->group) == 0 || strcmp(*words, info->flag) == 0)
            return true;
    return false;
}

bool command_takes(const Command *command, const OptionInfo *info) {
    return is_among(command->takes, info);
}

bool verb_takes(const Verb *verb, const OptionInfo *info) {
    static const char *const always[] = {"Client", "no-color", NULL};

    return verb->takes == NULL || is_among(verb->takes, info) || is_among(always, info);
}
