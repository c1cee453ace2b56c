/* The advisory lock by which a keeper sees whether a worker is attached: "pgcs" and a hash of the job id. */
#pragma once

#include <stdint.h>

#define LEASE_CLASS "1885561715"

/* FNV-1a, 32 bits. */
static inline int32_t lease_key(const char *job_id) {
    uint32_t hash = UINT32_C(2166136261);

    for (const char *c = job_id; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * UINT32_C(16777619);
    return (int32_t)hash;
}
