/* Looking again and again. */
#pragma once

#include "cli/service/service.h"

/* Appends a picture to `out`. *ret_over: there is nothing more to see. */
typedef bool (*WatchLook)(Service *service, void *context, Buf *out, bool *ret_over, Error *err);

/*
 * Without --watch: looks once, into service->out. With it: each second, until it is over or Ctrl-C comes, which is no
 * error. On a terminal each picture stands where the one before stood; elsewhere one is written when it differs from
 * the one before.
 */
NODISCARD bool watch_run(Service *service, WatchLook look, void *context, Error *err);
