/*
 * What is kept of a job's sessions for its report (model/job_report.h): in the store, beside the objects' bodies, so
 * that it outlives the sessions' folders and is there on every node.
 *
 * A picture is merged in when the database comes to another state or phase, when its promote's result is known, and
 * when its session's own report is there: not each time that anything is counted.
 */
#pragma once

#include "supervise/seat.h"

/* Is there more to be kept than the object's `run` says was kept? */
bool report_is_due(const Record *object, const SeatPicture *picture);
/* In the transaction that saves the object, whose `run` it changes. */
NODISCARD bool report_keep(StoreTx *tx, Record *object, const SeatPicture *picture, Error *err);
/* Of the whole instance; kept with the job. */
NODISCARD bool report_keep_instance(StoreTx *tx, const char *job, const json_t *said, Error *err);
