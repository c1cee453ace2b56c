/*
 * For groups of unit tests: no descriptor may stay open, and the system can be made to run out of descriptors.
 * (Memory is LeakSanitizer's matter, in the build with sanitizers.)
 */
#pragma once

#include "common/compiler.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static inline int open_descriptors(void) {
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        abort();
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static inline int leaks_begin(void **state) {
    *state = (void *)(intptr_t)open_descriptors();
    return 0;
}

static inline int leaks_end(void **state) {
    return (int)(intptr_t)*state == open_descriptors() ? 0 : -1;
}

/* From now on only `spare` more descriptors can be opened. Returns what restore_descriptors() takes. */
static inline rlim_t limit_descriptors(int spare) {
    struct rlimit limit;
    int lowest_free = dup(0);
    close(lowest_free);
    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)(lowest_free + spare);
    setrlimit(RLIMIT_NOFILE, &limit);
    return before;
}

static inline void restore_descriptors(rlim_t before) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = before;
    setrlimit(RLIMIT_NOFILE, &limit);
}
