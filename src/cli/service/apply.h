/* The command `apply`. */
#pragma once

#include "cli/service/service.h"

bool apply_run(Service *service, Error *err);
