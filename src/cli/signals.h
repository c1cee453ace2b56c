/* Signals as readable events. */
#pragma once

#include "common/error.h"

/* Blocks SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT, to be read from *ret_fd (non-blocking), and SIGPIPE. */
NODISCARD bool signals_open(int *ret_fd, Error *err);
/* Only those that ask to stop, and SIGPIPE. */
NODISCARD bool signals_open_stops(int *ret_fd, Error *err);
/* The next signal that has come, 0 = none. */
int signals_next(int fd);
/* One that asks to stop. */
bool signal_is_stop(int number);
