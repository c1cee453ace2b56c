/* FNV-1a: small, stable hashes for names of locks and jobs. Not for anything an opponent chooses. */
#pragma once

#include <stdint.h>

static inline uint32_t hash_text32(const char *text) {
    uint32_t hash = UINT32_C(2166136261);

    for (const char *c = text; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * UINT32_C(16777619);
    return hash;
}

/* Goes on from the hash of what came before. */
static inline uint64_t hash_text64_more(uint64_t hash, const char *text) {
    for (const char *c = text; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * UINT64_C(1099511628211);
    return hash;
}

static inline uint64_t hash_text64(const char *text) {
    return hash_text64_more(UINT64_C(14695981039346656037), text);
}
