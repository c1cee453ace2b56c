/* The question before something is destroyed. */
#pragma once

#include "cli/screen.h"
#include "model/options.h"

typedef struct ConfirmInput {
    const MigrateOptions *options;
    Screen *screen;
    int signal_fd; /* readable = the question is over, the answer is no; not read here */
    int worker_fd; /* hung up = the same */
} ConfirmInput;

/* Answers a CONFIRM message: true with --yes, else asked for when there is a terminal to ask on, else false. */
bool confirm_answer(const ConfirmInput *input, const json_t *body);
