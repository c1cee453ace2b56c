/* The event log of a job: as pages, or as a stream to whoever accepts text/event-stream. */
#pragma once

#include "api/call.h"

bool job_events(ApiCall *call, Error *err);
