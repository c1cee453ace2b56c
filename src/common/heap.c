/* Single objects whose lives do not nest in a scope. */
#include "common/heap.h"

#include <stdio.h>
#include <stdlib.h>

void *heap_alloc(size_t size) {
    void *object = calloc(1, size);
    if (object == NULL) {
        fprintf(stderr, "pgcrane: out of memory (%zu bytes)\n", size); /* uncovered: needs a full machine */
        abort();
    }
    return object;
}

void heap_free(void *object) {
    free(object);
}
