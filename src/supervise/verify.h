/*
 * What the files that carry out VERIFY share. One look at the errand makes one Verify; what lasts from one look to the
 * next is in the folders of its sessions, and in the operation.
 */
#pragma once

#include "model/estimate.h"
#include "supervise/errands.h"

/* Sessions of a database, one behind another: each stage has a folder of its own. */
typedef enum VerifyStage { VERIFY_LOOK, VERIFY_MEND_SERVER, VERIFY_MEND, VERIFY_AGAIN } VerifyStage;

enum { VERIFY_AT_ONCE = 4 };

typedef struct Verify {
    Errands *errands;
    const json_t *fixes; /* [{database, side, statement}], as the request has them; NULL = none */
    json_t *promoted;    /* names */
    /* sessions of the stage that is looked at */
    int busy, at_once;
    bool all_over;
    bool no_more; /* none is begun any more: something went wrong */
    bool lives;   /* one that changes something, of whatever stage */
    /* what was found */
    json_t *details, *shown;
    size_t errors;
    int64_t left_out;
    Estimate estimate;
    bool failed; /* a session ended otherwise than by findings */
    Error why;
    /* mending.c */
    json_t *noted;  /* [{database, side, statement, state}]: what an earlier look began to carry out; NULL = nothing */
    json_t *plan;   /* [{database, side, statement, wide, state}]: each statement once, with the database whose session
                     * carries it out; NULL = not made yet */
    bool wide_turn; /* statements of the server are carried out before those of databases */
} Verify;

/* Keeps the first of them. */
void verify_fail(Verify *verify, const Error *why);

/* What a session of `database` ("" = of the instance) says; begins one when none was, and there is room for it. mends
 * as errands->mends. */
NODISCARD bool verify_visit(Verify *verify, VerifyStage stage, const char *database, const json_t *mends,
                            SeatPicture *ret_picture, Error *err);
/* As that, and begins none. */
NODISCARD bool verify_peek(const Verify *verify, VerifyStage stage, const char *database, SeatPicture *ret_picture,
                           Error *err);
/* It ended otherwise than well or by findings. */
bool verify_has_failed(const SeatPicture *picture);

typedef bool (*VerifyCall)(Verify *verify, const char *database, Error *err);
/* Every database of the job that is not promoted. instance: what its session says. */
NODISCARD bool verify_each(Verify *verify, const SeatPicture *instance, VerifyCall call, Error *err);
/* Adds what a session found; its failure is the whole's. */
NODISCARD bool verify_collect(Verify *verify, const char *database, const SeatPicture *picture, Error *err);

/* ---- mending.c ---- */

/* In the transaction that begins a look. */
NODISCARD bool mending_load(StoreTx *tx, Verify *verify, Error *err);
/* Carries out what is asked for, when all of it is found, and looks again. verify->all_over says whether that is so. */
NODISCARD bool mending_go_on(Verify *verify, const SeatPicture *instance, Error *err);
/* [{database, side, statement, state}] of all that was changed, or may have been; new reference. NULL = nothing was
 * begun. */
json_t *mending_told(const Verify *verify);
/* Writes them to the job's log. */
NODISCARD bool mending_log(StoreTx *tx, const char *job, const json_t *mended, Error *err);
