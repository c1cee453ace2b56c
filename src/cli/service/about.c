/* What help and manual pages say of the commands over the API. */
#include "cli/service/main.h"

/* Each of these commands says it once. */
#define WHERE                                                                                                          \
    "The service is looked for at http://127.0.0.1:8432; --server, or better PGCRANE_SERVER, says where else. Its "    \
    "token "                                                                                                           \
    "is in PGCRANE_TOKEN, or in the file that --token-file or PGCRANE_TOKEN_FILE names: never on the command line. "   \
    "Resources have names such as projects/pgcrane/locations/local/migrationJobs/shop, of which only the last word "   \
    "is "                                                                                                              \
    "to be typed: --project and --location are for those who also ask with gcloud or Terraform, and have others "      \
    "there."
#define SHOWN                                                                                                          \
    "--output json or yaml gives what the API answers, for scripts: a list as an array, one resource as an object."
#define ENDS                                                                                                           \
    "What takes its time is waited for, and the command fails as it fails: Ctrl-C and --timeout end the waiting "      \
    "only. "                                                                                                           \
    "--async shows the operation and returns at once. A request that is lost on the way is repeated, and done once."

const char *const profiles_about[] = {
    "A connection profile says how the service reaches a database server: host, port, role, database, TLS. Jobs are "
    "made "
    "from one profile to another. create and update take a connection string as psql does, or options; options win.",
    "The password is best given with --password-file, or with - from standard input. One in a connection string is "
    "struck "
    "out of the process list as soon as it has been read. The service keeps it sealed, and shows it to nobody.",
    ENDS,
    WHERE,
    SHOWN,
    NULL,
};

const Example profiles_examples[] = {
    {"Where a database is now, with the password from a password manager:",
     "pass show shop | pgcrane profiles create shop-old postgresql://app@old.example:5432/shop --password-file -"},
    {"And where it is to be:",
     "pgcrane profiles create shop-new postgresql://app@new.example/shop?sslmode=require --password-file new.txt"},
    {"Can the service log in there?", "pgcrane profiles test shop-new"},
    {"Another password:", "pgcrane profiles update shop-old --password-file old.txt"},
    {NULL, NULL},
};

const char *const jobs_about[] = {
    "A migration job moves the databases of one profile's server to another's, and follows every change until it is "
    "promoted. create makes it and starts nothing; verify runs every check; start begins; promote makes the "
    "destination "
    "the database. describe shows how far it is, what it waits for, and which verbs it takes now.",
    "wait ends when the job is in one of the states of --for, or has come as far as one of its phases; it fails at "
    "once "
    "when that will not happen unless somebody does something. logs shows what happened to the job, and with -f goes "
    "on as "
    "it happens.",
    "restart, promote and delete ask first; --yes agrees beforehand.",
    ENDS,
    WHERE,
    SHOWN,
    NULL,
};

const Example jobs_examples[] = {
    {"From the check to the promote:",
     "pgcrane jobs create shop shop-old shop-new && pgcrane jobs verify shop && pgcrane "
     "jobs start shop"},
    {"Only two of the server's databases:",
     "pgcrane jobs create shop shop-old shop-new --database shop --database stats"},
    {"How far is it?", "pgcrane jobs describe shop --watch"},
    {"In a script: when it has caught up, promote:",
     "pgcrane jobs wait shop --for READY_FOR_PROMOTE --timeout 86400 && pgcrane jobs promote shop --yes"},
    {"For a monitor, the lag of each job in bytes:",
     "pgcrane jobs list -o json | jq '.[] | {name, lag: .progress.lagBytes}'"},
    {NULL, NULL},
};

const char *const objects_about[] = {
    "The objects of a migration job are its databases, each with a state and a phase of its own.",
    WHERE,
    SHOWN,
    NULL,
};

const Example objects_examples[] = {
    {"Which databases has the source?", "pgcrane objects list shop --refresh"},
    {"What is wrong with one?", "pgcrane objects describe shop stats"},
    {NULL, NULL},
};

const char *const operations_about[] = {
    "Each change that the service is asked for is answered with an operation, which says when it is over, and how it "
    "ended. "
    "The other commands follow theirs; these are for what was asked with --async, or by somebody else.",
    WHERE,
    SHOWN,
    NULL,
};

const Example operations_examples[] = {
    {"Start several jobs, and wait for them all:",
     "for op in $(for job in a b c; do pgcrane jobs start $job --async; done); do pgcrane operations wait $op; done"},
    {"What is under way?", "pgcrane operations list --filter done=false"},
    {NULL, NULL},
};

const char *const instances_about[] = {
    "Servers that the service makes, on the machine that it runs on, as destinations of migrations: real PostgreSQL "
    "clusters, started again with the service, watched over, and backed up once they are the application's. Each comes "
    "with a connection profile of the same id, which a job names as its destination. While it is filled it may be in "
    "load mode, in which next to no WAL is written: should it go down then, it is made anew and filled again. It is "
    "durable before the first change of the source is applied.",
    "An instance stays when its job and its profile are deleted; delete --force removes it, with everything in it.",
    WHERE,
    SHOWN,
    NULL,
};

const Example instances_examples[] = {
    {"A server to migrate to:", "pgcrane instances create shop-new --pg-version 17 --tier db-custom-4-16384"},
    {"What is it doing?", "pgcrane instances describe shop-new"},
    {"What does PostgreSQL say?", "pgcrane instances logs shop-new"},
    {NULL, NULL},
};

const char *const apply_about[] = {
    "Makes connection profiles and migration jobs be as a file says: makes those that are missing, changes what "
    "differs, "
    "and leaves the rest. Nothing is ever deleted, nothing is started, and what the file does not name stays as it is. "
    "The plan is shown first, and done when somebody agrees; --yes agrees beforehand, --dry-run only shows it. Applied "
    "twice, a file changes nothing the second time.",
    "The file has two parts. profiles: under each id a profile as the API has it (postgresql, labels, displayName, "
    "role), or "
    "in short uri, a connection string, and passwordFile. jobs: under each id source and destination, the ids of "
    "profiles; "
    "type, CONTINUOUS if it is left out; databases, a list of names or all; labels, and what else the API knows of a "
    "job. "
    "Aliases and tags of YAML are not taken.",
    "Passwords cannot be compared, since the service shows them to nobody: one is sent when there is none yet, and "
    "again "
    "with --secrets.",
    WHERE,
    NULL,
};

const Example apply_examples[] = {
    {"What would be done?", "pgcrane apply -f shop.yaml --dry-run"},
    {"From a pipeline:", "pgcrane apply -f shop.yaml --yes"},
    {"A whole file:",
     "printf '%s\\n' 'profiles:' '  shop-old: {uri: \"postgresql://app@old.example/shop\"}' '  shop-new: "
     "{uri: \"postgresql://app@new.example/shop\"}' 'jobs:' '  shop: {source: shop-old, destination: "
     "shop-new}' | pgcrane apply -f - --yes"},
    {NULL, NULL},
};

const char *const apply_takes[] = {"Client", "Apply", "Waiting", "dry-run", "yes", "no-color", NULL};
