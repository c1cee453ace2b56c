/*
 * The destination of a job, when it is a server that the service made.
 *
 * Part of a look (look.h); with any other destination nothing of it does anything.
 */
#pragma once

#include "jobs/instance.h"
#include "supervise/look.h"

/* With the job: look->has_instance, look->instance. */
NODISCARD bool destination_load(StoreTx *tx, Look *look, Error *err);
/* Behind look_decide(): sees to the mode of the server, and holds sessions back (look->holds) until it is ready. May
 * take the place of the look's decision. */
NODISCARD bool destination_look(Look *look, Error *err);
/* In the transaction that tells a fact of the job, before and behind it. */
NODISCARD bool destination_before_fact(StoreTx *tx, const Look *look, JobEvent fact, Error *err);
NODISCARD bool destination_after_fact(StoreTx *tx, const Look *look, JobEvent fact, Error *err);
