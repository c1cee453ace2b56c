/* The report of a job: as JSON, or as a page of HTML for whoever asks with alt=html or accepts text/html. */
#pragma once

#include "api/call.h"

bool job_report(ApiCall *call, Error *err);
