/* What waits for OPEN (waiting.c), shared by its files and the steps; nobody outside the promote includes this. */
#pragma once

#include "engine/promote/promote_internal.h"

typedef struct WaitingStatement {
    const Acting *table;
    const char *sql;
} WaitingStatement;

/* What is to be done on the destination, as it is now. */
typedef struct WaitingWork {
    Arena *arena;
    ActingVec dest;
    bool *chosen;          /* per entry of the new archive; no foreign key among them */
    ActingVec drops;       /* on the destination */
    ActingVec keys;        /* foreign keys to be made, as the source has them */
    StringVec key_notes;   /* SQL: their comments */
    const Acting **tables; /* per entry, for the trial: what it is on */
    VEC(WaitingStatement) security;
} WaitingWork;

/* PREPARE: reads the source anew and tries it all; what the destination refuses is a problem. */
NODISCARD bool waiting_prepare(Promote *promote, StringVec *problems, Error *err);
/* In OPEN's transaction. */
NODISCARD bool waiting_run(Promote *promote, Error *err);

/* keys.c: in OPEN's transaction, without a look at any row; what is left is in the ledger (promote_finish_keys()). */
NODISCARD bool waiting_add_keys(const Promote *promote, const WaitingWork *work, Error *err);

/* holders.c */
/* Warns of sessions of others that hold on the destination what OPEN will have to lock; in a dry run as notes, too. */
NODISCARD bool holders_warn(Promote *promote, const WaitingWork *work, Error *err);
/* Of a lock that OPEN did not get: says who has it, and how he is ended. Rolls back. Always false. */
bool holders_explain(const Promote *promote, const WaitingWork *work, Error *err);

bool waiting_everything(const LoadParams *load, size_t entry); /* an EntryFilter */
