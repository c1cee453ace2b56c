/* What the files of the receiver share; nobody else includes it. */
#pragma once

#include "engine/follow/follow_internal.h"

/* A relation of the stream. */
typedef struct Known {
    uint32_t oid;
    const SeamPicture *picture;    /* of its copy; NULL: not among the tables, the hook judges */
    const FollowTable *followed;   /* NULL as well */
    const PgoRelation *definition; /* as it came last; NULL: none came yet */
    uint64_t ddl;                  /* Receiver.ddl when it came */
    bool is_resolved;              /* the next two are of this definition */
    bool apply;
    bool got_keyed; /* it is keyless, and an update or delete of it came */
    const ApplyTable *table;
} Known;

typedef struct Receiver {
    Follow *follow;
    ReplStream *stream;
    Arena *decoded; /* the message at hand */
    OidMap known;   /* of Known */
    Item *item;     /* being filled; NULL: none was taken yet */
    Lsn start;      /* transactions that committed before are in the destination */
    uint64_t ddl;   /* messages given to the hook so far */
    /* The source's transaction at hand */
    bool in_transaction, is_dropped, has_changes, has_messages;
    Lsn commit_lsn;
    uint32_t xid;
    int64_t time_us;
    /* What was received */
    Lsn progress;         /* everything that committed before is in an item, or nothing to us */
    Lsn pushed;           /* position of the last item that commits */
    int64_t transactions; /* that ended since */
    int64_t oldest_us, last_us;
    bool is_open; /* items were pushed since, so that the destination's transaction is open */
    int64_t skipped, ignored;
    /* Times */
    int64_t pending_since_us, advanced_us, confirm_due_us, ask_due_us;
    Lsn confirmed; /* told to the source */
    Lsn asked;     /* the source's end when it wanted a reply last */
} Receiver;

/* --- receiver.c --- */

/* receiver->item is there afterwards; waits while the queue is full. */
NODISCARD bool receiver_item(Receiver *receiver, Error *err);
/* All items handed over but `most` have been applied. */
NODISCARD bool receiver_wait_until(Receiver *receiver, size_t most, Error *err);
NODISCARD bool receiver_push(Receiver *receiver, ItemKind kind, bool commits, Error *err);
/* The batch, if there is anything in it or a commit is due. */
NODISCARD bool receiver_hand_over(Receiver *receiver, bool commits, Error *err);
/* What a relation is in the destination, after all that came before. */
NODISCARD bool receiver_ask(Receiver *receiver, const Known *known, bool asks, Answer *ret_answer, Error *err);
void receiver_note_progress(Receiver *receiver, Lsn lsn);

/* --- messages.c --- */

void receiver_know_tables(Receiver *receiver);
NODISCARD bool receiver_take_message(Receiver *receiver, const PgoMessage *message, size_t len, Error *err);
