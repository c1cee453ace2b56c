/* Reaching the process that runs a migration (control.h is the other end). */
#pragma once

#include "wire/wire.h"

/* *ret_wire NULL: nobody listens there, or does not come to it (it is stopped by a signal). Never waits. */
NODISCARD bool control_connect(const char *folder, Wire **ret_wire, Error *err);
