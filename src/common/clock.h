/* The only place that reads time. All times are int64_t microseconds. */
#pragma once

#include "common/arena.h"
#include "common/compiler.h"

#define USEC_PER_MSEC INT64_C(1000)
#define USEC_PER_SEC INT64_C(1000000)

int64_t clock_now_us(void);  /* monotonic: for durations and deadlines */
int64_t clock_wall_us(void); /* since 1970: for people and files */

/* Milliseconds until `deadline_us` for poll(2): 0 when past, -1 when deadline_us is 0 (none). */
int clock_poll_timeout(int64_t deadline_us);
void clock_sleep_us(int64_t us);

char *clock_rfc3339(Arena *arena, int64_t wall_us); /* 2026-11-23T13:41:30.123Z */
char *clock_duration(Arena *arena, int64_t us);     /* "0.42s", "12.3s", "3m 05s", "2h 03m" */
char *format_bytes(Arena *arena, int64_t bytes);    /* "812 B", "1.5 MB", "2.3 GB" (powers of 1024) */
char *format_count(Arena *arena, int64_t count);    /* "6,000,000" */
/* Parses "64MB", "1 GB", "4096", "10kB"; false when it is none or negative. */
NODISCARD bool parse_bytes(const char *text, int64_t *ret_bytes);
