/*
 * One run of a migration inside the worker: what its steps share.
 *
 * Owned by the main thread. The reporter thread touches only wire, tracker, stop, `confirm` and `request`; the watch
 * tells events, and touches `stop`, `heard_us`, and, which are settled before it starts, `names`, `options` and the
 * source's target; the applier's hooks, too, read `options`. Lives until the process ends.
 */
#pragma once

#include "engine/demote/demote.h"
#include "engine/follow/follow.h"
#include "engine/guard/guard.h"
#include "engine/instance/instance.h"
#include "engine/load/serial.h"
#include "engine/preflight/preflight.h"
#include "engine/promote/promote.h"
#include "engine/schema/filter.h"
#include "engine/snapshot/snapshot.h"
#include "pg/client_bins.h"
#include "wire/wire.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct Confirm {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool pending, yes;
} Confirm;

/* What was asked of a run that follows: written by the reporter, taken by the main thread. */
typedef struct PromoteRequest {
    pthread_mutex_t lock;
    bool pending;
    int64_t no;             /* who asked numbers its requests, and hears the number again with the answer */
    MigrateOptions options; /* of the group Promote, and dry_run */
    Arena *arena;           /* of the options */
    Stop called_off;
} PromoteRequest;

/* A run about a whole instance: what was asked for, and what is known so far (instance.c). */
typedef struct InstanceRun {
    bool wanted; /* it is one, or is about guards: it has no phases, no ledger */
    bool prepare;
    bool check; /* all that is found is told, errors too, and room for all databases is looked for */
    bool all;
    StringVec names;
    StringVec apart; /* of a check: those that need no room any more */
    StringVec over;  /* those that are the application's already */
    InstanceList list;
    InstanceMade made;
    const char *seed;        /* of new passwords; NULL = none are made */
    StringVec new_passwords; /* roles that were told to have one; their COMMIT may have failed */
    FindingVec findings;
} InstanceRun;

/* A run that guards the destination, or hands it back (demote.c). */
typedef struct DemoteRun {
    const char *database; /* of the control connection to the destination; NULL = as the connection string has it */
    bool allow_non_empty;
    bool is_new; /* the journal did not know the job before this run */
    bool some;   /* while an instance is made ready, only these are guarded */
    StringVec names;
    bool has_known;
    StringVec known; /* ... and what is none of these */
    size_t released;
} DemoteRun;

typedef struct RunStep RunStep;

/* What is done in the place of a migration. */
typedef struct RunSteps {
    const char *action;
    const RunStep *items;
    const size_t *count;
} RunSteps;

typedef struct Watch Watch;

/* The watch asks the source every two seconds: without an answer for so long nothing that is known of it is news. */
#define RUN_SILENCE_US (15 * USEC_PER_SEC)

typedef struct Run {
    Arena *arena;
    Wire *wire;
    pthread_mutex_t picture_lock; /* two threads tell of the progress: none an older picture than the other */
    Stop stop;
    Tracker *tracker;
    Confirm confirm;
    MigrateOptions options;
    /* connect */
    DbTarget source_target, dest_target, lane_source_target, lane_dest_target;
    DbTarget apply_target; /* the destination, for the stream's changes */
    WriteSettings write_settings;
    DbConn *source, *dest; /* control connections */
    LedgerIdentity identity;
    const char *state_dir; /* of this job */
    const char *source_display, *dest_display;
    int log_fd;
    ClientBin pg_dump;
    bool ledger_exists;
    bool finished; /* nothing is left to do: a dry run */
    /* dry run */
    bool instance_follows; /* roles and database are made before the migration itself begins */
    bool dest_absent;      /* the database is not there yet: `dest` is another one of the server */
    MendVec mends;         /* to be carried out, if they are what is found */
    /* ledger, snapshot */
    Ledger ledger;
    bool has_ledger; /* taken by this run */
    LedgerSnapshot snapshot;
    int64_t snapshots_used;
    /* schema */
    Toc toc;
    bool *chosen;
    bool *entry_done;
    uint32_t *table_oids; /* of chosen TABLE entries, sorted */
    size_t table_oids_count;
    /* load */
    Pool *pool;
    int64_t lanes;
    Plan plan;
    LoadParams load;
    LoadResult result;
    int64_t chunks_kept;
    NotMovedVec not_moved;
    bool members_compared; /* those of extensions: in the list */
    json_t *report;        /* of a run that is done: sent when the reporter has ended, before DONE */
    StringVec notes;
    const RunSteps *steps; /* of a run that is no migration */
    InstanceRun instance;
    /* following */
    bool is_abort;
    int64_t dest_standbys; /* as many as following has seen at last */
    /* An abort: there is nothing on the source that can be asked, its database is gone or lets nobody in, and there is
     * no slot; the name that its database has now, NULL = the one that was asked for; why that lets us not in, NULL =
     * it does (abort_open.c). */
    bool source_gone;
    const char *source_now, *source_closed;
    int64_t left_on_source;     /* by an abort: what may be this migration's doing, and nobody can know */
    bool seizes;                /* another run of this migration is not to go on */
    LedgerHolder holder;        /* of the migration's lock: our session, before that one that was left */
    LedgerHolder source_holder; /* the same on the source */
    bool has_source_lock;
    int holder_fd;          /* worker.lock; -1 = not ours */
    bool is_made;           /* the destination is a server that the service made: filled in load mode, maybe */
    StringVec orphans;      /* ids of earlier migrations of the job, whose destinations are lost */
    const char *owner;      /* the service's job; "" = none */
    const char *owner_name; /* for people */
    bool guarded;           /* the destination is, for that job */
    DemoteRun demote;
    const char *given_job_id; /* what the command says it is; "" = to be found out */
    const char *known_job_id; /* what the service knows of the migration that is removed; "" = nothing was made */
    SeamNames names;
    JournalStream stream;
    const char *published; /* the publications as they were made (seam_check_published()); NULL = not known yet */
    Watch *watch;
    atomic_int_fast64_t heard_us; /* when anything was last heard of the source, by stream or watch; 0 = not yet */
    bool replica_role;            /* the destination lets us leave triggers and foreign keys out */
    bool opened;                  /* the promote is behind us: only closing is left */
    PromoteRequest request;
    PromoteResult promoted;
    bool promote_asked;   /* the last one was asked for, whatever --promote says */
    int64_t promote_no;   /* that request's number; 0 = it began by itself */
    bool promote_refused; /* the last one: */
    Error refusal;
    bool hook_told;         /* that a hook is due whose command is elsewhere */
    bool promote_unsettled; /* the last one could not be taken back, or may have opened the destination */
} Run;

/* What the control plane is told waits for its turn when nobody reads; nothing here waits for that. False: the peer is
 * gone. Takes over `body`. */
NODISCARD bool run_send(Run *run, WireType type, json_t *body, Error *err);
/* A line for people, at once; left to the log alone when far too many before it were not read. */
void run_event(Run *run, const char *level, const char *format, ...) PRINTF(3, 4);
/* Asks through the control plane and waits. CANCELLED when stopped meanwhile. */
NODISCARD bool run_confirm(Run *run, const char *title, const StringVec *lines, bool *ret_yes, Error *err);

/* Is it this job's, or is it nobody's business whose it is? */
bool run_is_owned(const Run *run, const LedgerIdentity *found);
/* The migration's lock (holder.c): for this run, and for a control connection to the destination that was opened anew.
 */
NODISCARD bool run_lock(Run *run, Error *err);
NODISCARD bool run_lock_again(Run *run, Error *err);
/* For one to the source that was opened anew. Nothing when this run had no lock there. */
NODISCARD bool run_lock_source_again(Run *run, Error *err);

/* Steps, in order (worker.c has the table). Each may be run again. */
NODISCARD bool step_connect(Run *run, Error *err);
NODISCARD bool step_preflight(Run *run, Error *err);
NODISCARD bool step_dry_run(Run *run, Error *err);
NODISCARD bool step_start_over(Run *run, Error *err);
/* START's fields of a dry run. */
NODISCARD bool dry_run_from_json(Run *run, const json_t *body, Error *err);
#define DRY_RUN_MAINTENANCE "postgres"
/* The destination's maintenance database in place of one that is yet to be made. */
NODISCARD bool dry_run_open_absent(Run *run, Error *err);
/* Carries out run->mends, when all of them are safe fixes of `findings`, and tells what came of it (WIRE_MENDED). */
NODISCARD bool dry_run_mend(Run *run, const PreflightInput *input, const FindingVec *findings, Error *err);
NODISCARD bool step_ledger(Run *run, Error *err);
NODISCARD bool step_snapshot(Run *run, Error *err);
NODISCARD bool step_schema(Run *run, Error *err);
NODISCARD bool step_pre_data(Run *run, Error *err);
NODISCARD bool step_recover(Run *run, Error *err);
NODISCARD bool step_abort(Run *run, Error *err);
NODISCARD bool step_orphans(Run *run, Error *err);
NODISCARD bool step_seam(Run *run, Error *err);
NODISCARD bool step_load(Run *run, Error *err);
NODISCARD bool step_foreign_keys(Run *run, Error *err);
NODISCARD bool step_post_data(Run *run, Error *err);
NODISCARD bool step_sequences(Run *run, Error *err);
NODISCARD bool step_refresh(Run *run, Error *err);
NODISCARD bool step_analyze(Run *run, Error *err);
NODISCARD bool step_durable(Run *run, Error *err);
NODISCARD bool step_follow(Run *run, Error *err);
NODISCARD bool step_close_source(Run *run, Error *err);
/* Until the standbys that the destination has, or had, know that it was opened; for a minute at most. */
NODISCARD bool run_wait_for_standbys(Run *run, Error *err);
NODISCARD bool step_statistics(Run *run, Error *err);
NODISCARD bool step_finish(Run *run, Error *err);

/* The steps of a run about a whole instance (instance.c has the table). */
struct RunStep {
    const char *name;
    bool (*run)(Run *run, Error *err);
    bool retry;     /* may be tried again */
    unsigned kinds; /* worker.c: of which runs */
};
extern const RunStep instance_steps[];
extern const size_t instance_steps_count;
NODISCARD bool step_instance_connect(Run *run, Error *err);
NODISCARD bool step_instance_tell(Run *run, Error *err);
InstanceInput run_instance_input(Run *run);
/* Fails when there are findings that are errors; all are told before. */
NODISCARD bool run_instance_refuse(Run *run, const char *changed, Error *err);

/* The steps of a run that guards the destination, and of one that hands it back (demote.c has the tables). */
extern const RunStep demote_steps[], release_steps[];
extern const size_t demote_steps_count, release_steps_count;
/* START's own fields of guards. */
void run_guard_from_json(Run *run, const json_t *body);
/* Of a run about an instance, for a job whose destination is guarded: before its databases are made, and behind that.
 * Nothing for other jobs. */
NODISCARD bool run_guard_missing(Run *run, Error *err);
NODISCARD bool run_guard_databases(Run *run, Error *err);
/* LoadParams' hold_back, of a Run. */
NODISCARD bool run_hold_back(void *context, HeldBack *held, Error *err);
/* Hands the destination's database back, as soon as it is the application's. Of a job that is not guarded nothing; what
 * cannot be done now is told, and is the service's to try again. */
void run_release_guard(Run *run);
/* START's own fields of it. */
NODISCARD bool instance_from_json(Run *run, const json_t *body, Error *err);
NODISCARD bool run_instance_reconnect(Run *run, Error *err);

/* The run's own log in the state folder, from when it has an id. */
NODISCARD bool run_open_log(Run *run, Error *err);
/* Who the server says that it is: the system, and the database. */
NODISCARD bool run_server_identity(DbConn *conn, Arena *arena, const char **ret_system, const char **ret_database,
                                   Error *err);
/* The migration's id. From both ends, as run_server_identity() has them: the same two databases always give the same
 * one, on any machine and whatever their names are. */
const char *run_make_job_id(Arena *arena, const char *source_system, const char *source_database,
                            const char *dest_system, const char *dest_database);
/* Reads from the ledger which entries of the archive are done; nothing before the archive was read. */
NODISCARD bool run_note_done(Run *run, Error *err);
/* What --restart would drop, a line each; none when there is no unfinished run. */
/* Cuts the plan's tables into ranges, as the options and the destination have it. */
NODISCARD bool run_split_plan(Run *run, Arena *arena, Plan *plan, Error *err);
NODISCARD bool run_describe_start_over(Run *run, Arena *arena, StringVec *ret_lines, Error *err);
/* An abort that does without the destination: run->dest is NULL. */
bool run_is_source_only(const Run *run);
bool run_is_dest_only(const Run *run);
/* Of a source that is gone: what is left to be done on the destination, when a promote had opened it. */
NODISCARD bool run_close_dest(Run *run, bool *ret_opened, Error *err);
/* Opens what is broken of the two control connections, and takes its place in both servers again. */
NODISCARD bool run_reconnect(Run *run, Error *err);
/* As run_reconnect(), but tried for another time than the usual minute. */
NODISCARD bool run_reconnect_within(Run *run, int64_t patience_us, Error *err);
/* report.json in the state folder; without a ledger also run->report, for the control plane. */
NODISCARD bool run_report(Run *run, Error *err);
/* Before a ledger is made, or goes with its migration unfinished. */
NODISCARD bool run_remove_report(const Run *run, Error *err);

/* --- following (seam.c, watch.c, follow.c, promote.c) --- */

/* Publishes what has an identity now; the tables as they are. */
NODISCARD bool run_publish(Run *run, Arena *arena, SeamTable **ret_tables, size_t *ret_count, Error *err);
/* Is the source still the one that the stream belongs to, with all that the destination holds of it? */
NODISCARD bool run_check_source(Run *run, Error *err);
/* Around each snapshot of a migration that is followed; otherwise nothing. */
NODISCARD bool run_before_snapshot(Run *run, Error *err);
NODISCARD bool run_mark_snapshot(Run *run, Error *err);
/* An entry of the archive that is our own doing on the source: publications, capture of definitions. */
bool run_is_own_entry(const TocEntry *entry);
/* Entries that wait for the promote's OPEN. */
bool run_is_deferred(const LoadParams *load, size_t entry);
/* Of what the journal names all but slot and publications. */
NODISCARD bool run_keep_slot_only(Run *run, Error *err);
/* Everything that the journal names. */
NODISCARD bool run_remove_from_source(Run *run, Error *err);
/* For an abort, by the migration's id: the source's database, whatever its name is now, or another one of its server.
 */
NODISCARD bool run_open_source_alone(Run *run, Error *err);
/* For an abort of both sides, behind the destination's connection: run_open_source_alone(), where the source has no
 * database of the name (`why`), or another one has the name (`why` NULL; run->identity is what is there). Elsewhere
 * nothing. run->finished: nothing was ever made. */
NODISCARD bool run_open_lost_source(Run *run, const Error *why, Error *err);
/* The control connections' targets, with the identity's id. */
void run_set_targets(Run *run);
/* Follows until everything up to `until` is applied. */
NODISCARD bool run_follow_until(Run *run, Lsn until, Error *err);
/* W of the latest snapshot, when tables were copied under more than one; else 0. */
NODISCARD bool run_needs_catching_up(Run *run, Lsn *ret_until, Error *err);
/* Promotes now; *ret_opened false with a result of true: refused or undone, told to the control plane, follow on. */
typedef struct PromoteSubject {
    Follow *follow;
    const FollowTable *tables;
    size_t count;
    void (*opened)(void *context); /* the destination is open: nothing more may be applied, `follow` is to be ended */
    void (*unsettled)(void *context); /* it may be open: as above. `opened` may come behind it */
    void *context;
} PromoteSubject;
NODISCARD bool run_promote(Run *run, const PromoteSubject *subject, bool *ret_opened, Error *err);
/* What a promote has left that was killed, or could not be taken back: the destination is open (run->opened), or the
 * source is made writable again, with the hook that is due. Nothing left is fine. */
NODISCARD bool run_settle_promote(Run *run, Error *err);
/* What to do when that is for somebody else to do. Always false. */
bool run_remedy_unsettled(const Run *run, Error *err);
/* Sends a picture of the progress now, not when its turn comes; none while earlier messages wait. */
void run_send_progress(Run *run);
/* A PROMOTE message (reporter's thread). */
void run_request_promote(Run *run, const json_t *body);
/* Stops the promote under way, or takes away the request for one that has not begun: true then. */
bool run_call_off(Run *run);
NODISCARD bool run_ledger_is_gone(Run *run, bool *ret_gone, Error *err);
/* Copies the tables again that the ledger calls suspect, where both sides have them and no difference of the catalogues
 * makes the destination refuse, or mistake, their rows: compared as the snapshot has the source's. Nothing is followed
 * meanwhile: so transactions of the source are waited for, and locks of the destination, for a few seconds only.
 * *ret_copied 0: try again later. `blocked` is called with the transactions that were in the way. */
NODISCARD bool run_copy_again(Run *run, SeamBlocked blocked, void *context, size_t *ret_copied, Error *err);
/* Is there one that could be copied now, by `drifts` as last compared? Else, *ret_held: one waits for nothing but
 * `drifts`. Asked while following. */
NODISCARD bool run_has_ready_suspects(Run *run, const DriftVec *drifts, bool *ret_has, bool *ret_held, Error *err);
bool run_wanted(void *context, const char *schema, const char *name); /* a DriftWanted, of a Run */
bool run_is_filtered(const Run *run);
DriftParams run_drift_params(Run *run, Arena *arena);
/* The comparison, without waiting for locks for long. source: run->source, or one in a transaction, which a failure
 * ends. */
NODISCARD bool run_compare_briefly(Run *run, DbConn *source, Arena *arena, DriftVec *ret_drifts, Error *err);

/* A thread that reads what the slot costs, and takes tables that lost their identity out of the publication of updates.
 * Starting it twice is fine. */
NODISCARD bool watch_start(Run *run, Error *err);
void watch_end(Run *run);
/* False: what it found ends the run. */
NODISCARD bool watch_check(Run *run, Error *err);
/* Was a table taken out since this was last asked? */
bool watch_take_unpublished(Run *run);
void watch_fill(Run *run, Arena *arena, CdcProgress *cdc);
Lsn watch_current(Run *run); /* the source's end of WAL as of a moment ago; 0 = not known */
