/*
 * One thread that waits for changes of the store, for all who want to know of them: streams of events of jobs, and
 * calls that wait for an operation.
 *
 * For any number of threads. watch_freep() after the server is freed.
 */
#pragma once

#include "common/json.h"
#include "http/stream.h"
#include "store/store.h"

typedef struct Watch Watch; /* Api has one: api_watch() */

/* waiting_max: calls that may wait at a time. */
NODISCARD bool watch_new(Store *store, int waiting_max, Watch **ret_watch, Error *err);
/* Ends what waits and all streams; new ones end at once. */
void watch_stop(Watch *watch);
void watch_freep(Watch **watch);

/* May one more call wait? Each occupies a thread of the server, so that only a few do. */
bool watch_enter(Watch *watch);
void watch_leave(Watch *watch);
/* Grows with each change. */
uint64_t watch_turn(Watch *watch);
/* Until the turn is no longer `seen` (true), or the deadline, or stop (false). */
bool watch_wait(Watch *watch, uint64_t seen, int64_t deadline_us, const Stop *stop);

/* The event log of a job as a stream, from behind after_id on: each line an event with its id. Ends with the job. */
void watch_stream(Watch *watch, HttpResponse *response, const char *job, int64_t after_id);
/* One line of the log, as streams and lists show it. New reference. */
json_t *watch_event_json(const StoreEvent *event, Arena *arena);
