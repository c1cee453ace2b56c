/*
 * What the files of the local provider share.
 *
 * STATE_DIR/instances/ID
 *   journal.json, lock   ours (journal.h)
 *   conf/    pgcrane.conf (included by data/postgresql.conf), pg_hba.conf, pg_ident.conf, standby.conf: ours; the
 *            server reads them
 *   tls/     ca.crt, server.crt, server.key: ours; the server reads them
 *   tls.next/  those that follow them (renew.c)
 *   load     the marker of load mode (mode.c)
 *   data, log, run, backups, standby-data, standby-log, standby-run: the server's user's
 *
 * When we are root the server's user is somebody else, who may put links into folders of his own. So nothing is
 * written there by us: programs that do run as that user, and what is removed is removed by descriptors (tree.h).
 */
#pragma once

#include "provision/journal.h"

#include <sys/types.h>

/* Our own user, or somebody else when we are root. */
typedef struct Owner {
    const char *name;
    uid_t uid;
    gid_t gid;
    bool is_other;
} Owner;

/* One data folder and the process that serves it. */
typedef struct Server {
    const char *name; /* for people */
    const char *step; /* of the journal: {"made", "port", ...} */
    const char *data, *log, *run;
    int port; /* 0 = none yet */
} Server;

typedef struct Local {
    ProvisionCall *call;
    Arena *arena;
    ProvisionJournal *journal;
    const char *id;
    const ProvisionSpec *spec; /* NULL where there is none */
    const char *folder, *conf, *tls, *backups, *marker;
    Owner owner;
    const char *bindir; /* NULL until programs_find() */
    Server primary, standby;
    const char *made_up; /* password of this call; NULL = none */
} Local;

/* A step of an operation; the failpoint "provision.OPERATION.NAME" is behind it. */
typedef struct LocalStep {
    const char *name;
    bool (*run)(Local *local, Error *err);
} LocalStep;

/* ---- place.c ---- */
NODISCARD bool local_open(ProvisionCall *call, const char *id, const ProvisionSpec *spec, Local *ret_local, Error *err);
void local_tell(const Local *local, const char *format, ...) PRINTF(2, 3);
NODISCARD bool local_steps(Local *local, const char *operation, const LocalStep *steps, size_t count, Error *err);
/* As the server's user, in C locale. argv[0] is a name in the folder of the programs, or a path. */
NODISCARD bool local_run(const Local *local, const char *const *argv, Error *err);
NODISCARD bool local_capture(const Local *local, const char *const *argv, Buf *out, Error *err);
/* Dies with us; `fd3` as in ProcSpec. */
NODISCARD bool local_run_tied(const Local *local, const char *const *argv, int fd3, Error *err);
/* Appends a line to a file of the server's user, as that user. */
NODISCARD bool local_append(const Local *local, const char *path, const char *line, Error *err);
/* Ours; one the server's user may pass through. */
NODISCARD bool place_make(Local *local, Error *err);
/* Of the server's user alone. */
NODISCARD bool place_make_owned(const Local *local, const char *path, Error *err);
/* A file of ours in a folder of ours that the server may read. */
NODISCARD bool place_write(const Local *local, const char *path, const char *text, Error *err);
/* The server's user can come here. */
NODISCARD bool place_check_reach(const Local *local, Error *err);
NODISCARD bool place_remove_file(const char *path, Error *err); /* durably; absent is fine */
bool place_exists(const char *path);

/* ---- programs.c ---- */
NODISCARD bool programs_find(Local *local, int major, Error *err);
/* "13, 15, 18": those from `least` on that are here, whole; "" = none. */
NODISCARD bool programs_list(Local *local, int least, const char **ret_list, Error *err);
/* Of the instance that is there. */
NODISCARD bool programs_known(Local *local, Error *err);
const char *programs_path(const Local *local, const char *name);
bool programs_have(const Local *local, const char *name);

/* ---- server.c ---- */
bool server_is_running(const Local *local, const Server *server, pid_t *ret_pid /* may be NULL */);
/* Of pg_controldata; `ret_identifier` may be NULL. Looks for the programs where that was not done yet. */
NODISCARD bool server_control(Local *local, const Server *server, const char **ret_state, const char **ret_identifier,
                              Error *err);
/* A server that was never up, and whose words are about what it is to be, is an error that is not retryable. */
NODISCARD bool server_start(const Local *local, const Server *server, Error *err);
/* Words of a start that failed: may it go well at another time as it is? */
bool server_start_may_pass(const char *said);
NODISCARD bool server_stop(const Local *local, const Server *server, const char *how, Error *err);
NODISCARD bool server_restart(const Local *local, const Server *server, Error *err);
/* One that runs reads its settings and certificates again. */
NODISCARD bool server_reload(const Local *local, const Server *server, Error *err);
/* Is there room for one on the disk? */
NODISCARD bool server_check_room(const Local *local, Error *err);
/* A whole copy of the primary's data, with the WAL that it needs; slot: for a standby, with settings to follow by it;
 * NULL = none. Dies with us. */
NODISCARD bool server_copy(const Local *local, const char *path, const char *slot, Error *err);
/* Whatever state it is in: no process of it lives, no shared memory of it is left. */
NODISCARD bool server_end(const Local *local, const Server *server, Error *err);

/* ---- session.c: connections to it ---- */
typedef struct DbConn DbConn;
NODISCARD bool session_open(const Local *local, const Server *server, DbConn **ret_conn, Error *err);
NODISCARD bool session_exec(const Local *local, const char *sql, Error *err);
/* PROVISION_REFUSED when a server that runs has anything that initdb did not make. */
NODISCARD bool session_refuse_content(const Local *local, Error *err);
/* The administrator's password becomes the spec's or this call's, when it is another one. */
NODISCARD bool session_password(Local *local, Error *err);

/* ---- conf.c ---- */
/* *ret_hash: of all that the server reads, as text. */
NODISCARD bool conf_write(const Local *local, ProvisionMode mode, const char **ret_hash, Error *err);
NODISCARD bool conf_write_standby(Local *local, Error *err);

/* ---- check.c, flags.c ---- */
/* Problems are appended to `problems`, one sentence each. */
NODISCARD bool flags_check(const Local *local, StringVec *problems, Error *err);
/* The flag that words of the server are about, by its name or what they quote of its value; NULL = none of the spec's.
 */
const char *flags_named(const Local *local, const char *words);
bool local_check(ProvisionCall *call, const ProvisionSpec *spec, Error *err);
NODISCARD bool check_spec(Local *local, Error *err);

/* ---- tls.c, renew.c ---- */
#define OPENSSL "/usr/bin/openssl"
NODISCARD bool tls_make(Local *local, Error *err);
/* In the instance's folder, with an authority of its own: there as a whole or not at all. */
NODISCARD bool tls_make_named(const Local *local, const char *name, Error *err);
/* Another certificate, in good time before the one that is there ends. *ret_notice: what people should know of it;
 * NULL = nothing. */
NODISCARD bool tls_renew(Local *local, const char **ret_notice, Error *err);
NODISCARD bool tls_authority(const Local *local, const char **ret_pem, Error *err); /* NULL = none yet */

/* ---- data.c ---- */
/* Words of initdb that say that it cannot go well at another time either. */
bool data_is_hopeless(const char *said);
NODISCARD bool data_make(Local *local, Error *err);
char *data_new_password(Arena *arena);

/* ---- mode.c ---- */
typedef enum LoadMark { MARK_NONE, MARK_LOADING, MARK_SYNCED } LoadMark;
NODISCARD bool mode_set_mark(const Local *local, Error *err);
NODISCARD bool mode_remove_mark(Local *local, Error *err);
/* What is in it is worth nothing. */
NODISCARD bool mode_is_damaged(Local *local, LoadMark *ret_mark, bool *ret_damaged, Error *err);
NODISCARD bool mode_converge(Local *local, Error *err);
NODISCARD bool mode_settle(Local *local, Error *err);

/* ---- describe.c ---- */
NODISCARD bool local_status(Local *local, ProvisionStatus *ret_status, Error *err);
bool local_describe(ProvisionCall *call, const char *id, ProvisionStatus *ret_status, Error *err);
bool local_read_log(ProvisionCall *call, const char *id, size_t max, Buf *ret_text, Error *err);

/* ---- backup.c, standby.c, tend.c ---- */
/* When one is due; also removes what is too old. */
NODISCARD bool backup_make(Local *local, Error *err);
/* There is one, and it runs; asked again, nothing is done. */
NODISCARD bool standby_keep(Local *local, Error *err);
NODISCARD bool standby_remove(Local *local, Error *err);
bool local_promote(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);
bool local_tend(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);

/* ---- create.c, remove.c ---- */
/* Opened and checked, and not being removed. */
NODISCARD bool local_open_checked(ProvisionCall *call, const ProvisionSpec *spec, Local *ret_local, Error *err);
/* Fails when it was not made to its end. */
NODISCARD bool local_require_created(const Local *local, Error *err);
bool local_create(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);
bool local_reconfigure(ProvisionCall *call, const ProvisionSpec *spec, ProvisionStatus *ret_status, Error *err);
bool local_remove(ProvisionCall *call, const char *id, Error *err);
