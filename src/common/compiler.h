/* Attributes and small macros that every file may use. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF(format_index, first_arg) __attribute__((format(printf, format_index, first_arg)))
#define NORETURN __attribute__((noreturn))
#define CLEANUP(function) __attribute__((cleanup(function)))
#define RETURNS_NONNULL __attribute__((returns_nonnull))
#define UNUSED __attribute__((unused))

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* For a `switch` over an enum whose values are all handled. */
#define UNREACHABLE() __builtin_unreachable()
