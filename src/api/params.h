/* Query parameters: as Google takes them, what is unknown is refused. */
#pragma once

#include "api/call.h"

/* Fills call->params; what is wrong goes to call->violations. */
void params_read(ApiCall *call);
