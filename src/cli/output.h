/* Results to standard output, errors to standard error. */
#pragma once

#include "common/buf.h"
#include "common/error.h"
#include "wire/wire.h"

NODISCARD bool output_results(const Buf *text, Error *err);
/* A line of --json: {"type": ..., "body": ...}, appended. */
void output_json_line(Buf *out, WireType type, const json_t *body);
/* Prints an error for people; returns its exit code. */
int output_error(const Error *err);
/* Writes the results of a command that is done; returns the exit code of the process. */
int output_finish(const Buf *text);
