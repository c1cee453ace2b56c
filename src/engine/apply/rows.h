/* Rows of a group as the text PostgreSQL reads: array literals and COPY lines. Pure; values are text or NULL, never
 * unchanged or binary. */
#pragma once

#include "common/buf.h"
#include "engine/apply/table.h"

/* {"a","b",NULL}: one element of the key column `key` (index into the key), or of column `column`, for each row. */
void rows_append_key_array(Buf *buf, const BatchGroup *group, uint16_t key);
void rows_append_column_array(Buf *buf, const BatchGroup *group, uint16_t column);
/* One line a row, tab-separated, without generated columns. */
void rows_append_copy(Buf *buf, const ApplyTable *table, const BatchRow *row);
