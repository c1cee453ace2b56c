/* The service's refusals in the words of the command line. */
#pragma once

#include "cli/service/service.h"

/* The remedy of an error that came from the API speaks of requests; behind this it is a command to type. Returns false.
 */
bool service_explain(const Service *service, Error *err);
