/* The exit codes of pgcrane; which error ends with which is in common/errors.def. */
#pragma once

#include "common/compiler.h"

enum { EXIT_CODE_OK = 0, EXIT_CODE_FAILED = 2, EXIT_CODE_CANCELLED = 3, EXIT_CODE_UNPROVEN = 4, EXIT_CODE_USAGE = 64 };

typedef struct ExitCodeInfo {
    int code;
    const char *help;
} ExitCodeInfo;

extern const ExitCodeInfo exit_code_infos[];
extern const size_t exit_code_infos_count;
