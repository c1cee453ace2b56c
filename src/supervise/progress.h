/* What a job shows of its databases' progress: the API's output-only field `progress`. */
#pragma once

#include "supervise/seat.h"

/* X(key, kind, meaning): kinds SUM, RATE (sums as numbers with a fraction), MOST (the largest), LEAST. Absent when no
 * seat knows. */
#define PROGRESS_FIELDS(X)                                                                                             \
    X(bytesDone, SUM, "of the tables' size on the source's disk, copied")                                              \
    X(bytesTotal, SUM, "the tables' size on the source's disk")                                                        \
    X(rowsDone, SUM, "rows copied")                                                                                    \
    X(tablesDone, SUM, "tables copied")                                                                                \
    X(tablesTotal, SUM, "tables to copy")                                                                              \
    X(indexesDone, SUM, "indexes built")                                                                               \
    X(indexesTotal, SUM, "indexes to build")                                                                           \
    X(bytesPerSecond, RATE, "copied over the last seconds")                                                            \
    X(etaSeconds, MOST, "until the copy is whole, or until caught up")                                                 \
    X(lagBytes, MOST, "WAL of the source that is not applied yet")                                                     \
    X(lagSeconds, MOST, "age of the oldest change that is not applied yet")                                            \
    X(retainedBytes, MOST, "WAL that the source keeps because of the job")                                             \
    X(retainedLimitBytes, MOST, "what the source keeps at most")                                                       \
    X(headroomSeconds, LEAST, "until that is reached, at the present rate")                                            \
    X(catalogAge, MOST, "transactions that the source's catalogs keep dead rows for, because of the job")              \
    X(promoteSeconds, MOST,                                                                                            \
      "for which writes wait when it is promoted now, an estimate: the lag and a second; behind a promote, as "        \
      "measured")                                                                                                      \
    X(insertsPerSecond, RATE, "applied over the last seconds")                                                         \
    X(updatesPerSecond, RATE, "applied over the last seconds")                                                         \
    X(deletesPerSecond, RATE, "applied over the last seconds")

/* The object. Beside the fields: `tables`, the busiest ones with what was applied to each by the sessions of now, and
 * waitingFor, a text, "" = for nothing. New reference. */
enum { PROGRESS_TABLES_MAX = 50 };
json_t *progress_of_job(Arena *arena, const SeatPicture *pictures, size_t count);
/* waitingFor alone: of a job that is over the numbers stay as they were at its end. In the arena. */
const char *progress_waiting_for(Arena *arena, const SeatPicture *pictures, size_t count);
