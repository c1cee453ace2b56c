/* From SQLSTATE to reason and whether trying again may help: one table, exact codes before classes. */
#pragma once

#include "common/error.h"

typedef struct SqlstateInfo {
    ErrorReason reason;
    bool retryable;
} SqlstateInfo;

/* "" or unknown gives SQL_FAILED, not retryable. */
SqlstateInfo sqlstate_info(const char *sqlstate);
