/* New passwords of roles that a job has made: given out once. */
#pragma once

#include "api/call.h"

bool job_passwords(ApiCall *call, Error *err);
