/*
 * A promote of one database alone, which a job of several may be asked for.
 *
 * What stands in `run` of the object, under seat_run_PROMOTE: {"operation", "cancel"?, "over"?, "error"?}. It is
 * written by the errand that asks, and by the look that sees how it ended. The session knows the promote by its
 * operation.
 */
#pragma once

#include "supervise/seat.h"

/* Name of the one that is under way; NULL = none is. Borrowed. */
const char *promotes_wish(const Record *object);
bool promotes_is_cancelled(const Record *object);
/* Notes how it ended, if the picture shows that it has. True: `run` was changed. */
bool promotes_note(Record *object, const SeatPicture *picture);
/* Of one that is no part of the job any more. True: `run` was changed. */
bool promotes_leave(Record *object, const SeatPicture *picture);
/* Of a promote that ends with an error, all of which may not hold for all: those that are promoted all the same. */
NODISCARD bool promotes_say(StoreTx *tx, Arena *arena, const char *operation, const StringVec *promoted, Error *err);
