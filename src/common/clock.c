/* The only place that reads time; and numbers as people read them. */
#include "common/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static int64_t read_clock(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * USEC_PER_SEC + now.tv_nsec / 1000;
}

int64_t clock_now_us(void) {
    return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_us(void) {
    return read_clock(CLOCK_REALTIME);
}

int clock_poll_timeout(int64_t deadline_us) {
    if (deadline_us == 0)
        return -1;
    int64_t left = deadline_us - clock_now_us();
    if (left <= 0)
        return 0;
    /* Rounded up: a wait that ends a fraction too early would spin until its deadline. */
    int64_t msec = left / USEC_PER_MSEC + (left % USEC_PER_MSEC != 0);
    return (int)MIN(msec, (int64_t)INT_MAX);
}

void clock_sleep_us(int64_t us) {
    if (us <= 0)
        return;
    int64_t until = clock_now_us() + us;
    struct timespec at = {.tv_sec = (time_t)(until / USEC_PER_SEC), .tv_nsec = (long)(until % USEC_PER_SEC) * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

char *clock_rfc3339(Arena *arena, int64_t wall_us) {
    int64_t part = wall_us % USEC_PER_SEC;
    if (part < 0)
        part += USEC_PER_SEC;
    time_t seconds = (time_t)((wall_us - part) / USEC_PER_SEC);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    char text[64];
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    return arena_printf(arena, "%s.%03dZ", text, (int)(part / USEC_PER_MSEC));
}

/* Rounds before it chooses the form: 59.96 s is "1m 00s", not "60.0s". */
char *clock_duration(Arena *arena, int64_t us) {
    us = MAX(us, 0);
    int64_t hundredths = (us + 5000) / 10000;
    if (hundredths < 1000)
        return arena_printf(arena, "%" PRId64 ".%02ds", hundredths / 100, (int)(hundredths % 100));
    int64_t tenths = (us + 50000) / 100000;
    if (tenths < 600)
        return arena_printf(arena, "%" PRId64 ".%ds", tenths / 10, (int)(tenths % 10));
    int64_t seconds = (us + USEC_PER_SEC / 2) / USEC_PER_SEC;
    if (seconds < 3600)
        return arena_printf(arena, "%" PRId64 "m %02ds", seconds / 60, (int)(seconds % 60));
    int64_t minutes = (seconds + 30) / 60;
    return arena_printf(arena, "%" PRId64 "h %02dm", minutes / 60, (int)(minutes % 60));
}

static const char *const byte_units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};

char *format_bytes(Arena *arena, int64_t bytes) {
    const char *sign = bytes < 0 ? "-" : "";
    uint64_t rest = bytes < 0 ? -(uint64_t)bytes : (uint64_t)bytes;
    if (rest < 1024)
        return arena_printf(arena, "%s%" PRIu64 " B", sign, rest);
    double value = (double)rest;
    size_t unit = 0;
    /* 1023.95 and more would be printed as 1024.0. */
    while (value >= 1023.95 && unit + 1 < COUNT_OF(byte_units)) {
        value /= 1024;
        unit++;
    }
    return arena_printf(arena, "%s%.1f %s", sign, value, byte_units[unit]);
}

char *format_count(Arena *arena, int64_t count) {
    char digits[32];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, count < 0 ? -(uint64_t)count : (uint64_t)count);
    char *text = arena_alloc(arena, 48);
    char *out = text;
    if (count < 0)
        *out++ = '-';
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    return text;
}

static bool unit_factor(const char *unit, int64_t *ret_factor) {
    for (size_t i = 0; i < COUNT_OF(byte_units); i++) {
        if (strcasecmp(unit, byte_units[i]) == 0) {
            *ret_factor = INT64_C(1) << (10 * i);
            return true;
        }
    }
    return false;
}

bool parse_bytes(const char *text, int64_t *ret_bytes) {
    int64_t number = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, text[i] - '0', &number))
            return false;
    }
    const char *unit = text + digits;
    unit += strspn(unit, " ");
    int64_t factor = 1;
    if (*unit != '\0' && !unit_factor(unit, &factor))
        return false;
    if (__builtin_mul_overflow(number, factor, &number))
        return false;
    *ret_bytes = number;
    return true;
}
