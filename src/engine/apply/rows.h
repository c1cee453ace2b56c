/* Rows of a group as the text PostgreSQL reads: array literals and COPY lines. Pure; values are text or NULL, never
 * unchanged or binary. */
#pragma once

#include "common/buf.h"
#include "engine/apply/table.h"

/* {"a","b",NULL}: one element of the key column `key` (index into the key), or of column `column`, for each row. */
void rows_append_key_array(Buf *buf, const BatchGroup *group, uint16_t key);
void rows_append_column_array(Buf *buf, const BatchGroup *group, uint16_t column);
/* Identity FULL: for each row the number of its image, and which of the rows with that image it is, both from 1. */
void rows_append_images(Buf *images, Buf *nths, const BatchGroup *group, uint16_t columns);

typedef struct RowCursor { /* {0} to begin with */
    uint16_t column;
    size_t done; /* bytes of its value */
    bool begun;
} RowCursor;

/* One line a row, tab-separated, without generated columns. At most `most` bytes of one value at a time: false = call
 * again with the same cursor. */
bool rows_append_copy(Buf *buf, const ApplyTable *table, const BatchRow *row, RowCursor *cursor, size_t most);
