/* The advisory lock by which a keeper sees whether a worker is attached: "pgcs" and a hash of the job id. */
#pragma once

#include "common/hash.h"

#define LEASE_CLASS "1885561715"

static inline int32_t lease_key(const char *job_id) {
    return (int32_t)hash_text32(job_id);
}
