/* Reaching the process that runs a migration (control.h is the other end). */
#pragma once

#include "wire/wire.h"

/* *ret_wire NULL: nobody listens there. */
NODISCARD bool control_connect(const char *folder, Wire **ret_wire, Error *err);
