/*
 * A backlog, fetched by SQL instead of streamed. Only repl.c includes it.
 *
 * Contract
 * - pull_open() gives NULL without an error when the backlog is not worth it, or cannot be fetched here; the caller
 *   streams then.
 * - pull_receive() gives the same messages as a stream would, in the same order, whole transactions a chunk, and behind
 *   each chunk a keepalive with the position up to which everything has been given. *ret_over: nothing more comes; the
 *   caller streams from pull_position() on.
 * - Confirmed is what pull_acknowledge() was told, never more. Belongs to one thread.
 */
#pragma once

#include "pg/repl_internal.h"

typedef struct Pull Pull;

NODISCARD bool pull_open(const DbTarget *source, const ReplStart *start, const ReplSlot *slot, const Stop *stop,
                         Pull **ret_pull, Error *err);
void pull_closep(Pull **pull); /* ends what runs, within DRAIN_TIMEOUT_US */
ReplResult pull_receive(Pull *pull, int64_t deadline_us, ReplData *ret_data, bool *ret_over, Error *err);
void pull_acknowledge(Pull *pull, uint64_t durable_lsn);
void pull_stay_alive(Pull *pull); /* instead of pull_receive(), while there is no room for what it gives */
uint64_t pull_position(const Pull *pull);
