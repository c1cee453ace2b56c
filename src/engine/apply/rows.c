/* Rows of a group as the text PostgreSQL reads (rows.h). */
#include "engine/apply/rows.h"

#include <string.h>

/* Appends the bytes with a backslash before each quote and backslash; runs without any go at once. */
static void append_escaped(Buf *buf, const char *bytes, size_t len) {
    size_t start = 0;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != '"' && bytes[i] != '\\')
            continue;
        buf_append(buf, bytes + start, i - start);
        buf_append_char(buf, '\\');
        start = i;
    }
    buf_append(buf, bytes + start, len - start);
}

static void append_element(Buf *buf, const PgoValue *value, bool first) {
    if (!first)
        buf_append_char(buf, ',');
    if (value->kind == PGO_NULL) {
        buf_append_str(buf, "NULL");
        return;
    }
    buf_append_char(buf, '"');
    append_escaped(buf, value->bytes, value->len);
    buf_append_char(buf, '"');
}

void rows_append_key_array(Buf *buf, const BatchGroup *group, uint16_t key) {
    buf_append_char(buf, '{');
    for (size_t i = 0; i < group->rows_count; i++)
        append_element(buf, &group->rows[i].key[key], i == 0);
    buf_append_char(buf, '}');
}

void rows_append_column_array(Buf *buf, const BatchGroup *group, uint16_t column) {
    buf_append_char(buf, '{');
    for (size_t i = 0; i < group->rows_count; i++)
        append_element(buf, &group->rows[i].values[column], i == 0);
    buf_append_char(buf, '}');
}

static bool same_image(const BatchRow *a, const BatchRow *b, uint16_t columns) {
    for (uint16_t c = 0; c < columns; c++) {
        const PgoValue *x = &a->key[c], *y = &b->key[c];

        if (x->kind != y->kind || x->len != y->len || (x->len > 0 && memcmp(x->bytes, y->bytes, x->len) != 0))
            return false;
    }
    return true;
}

void rows_append_images(Buf *images, Buf *nths, const BatchGroup *group, uint16_t columns) {
    size_t image = 0, nth = 0;

    for (size_t i = 0; i < group->rows_count; i++) {
        bool again = i > 0 && same_image(&group->rows[i - 1], &group->rows[i], columns);

        image += !again;
        nth = again ? nth + 1 : 1;
        buf_printf(images, "%c%zu", i == 0 ? '{' : ',', image);
        buf_printf(nths, "%c%zu", i == 0 ? '{' : ',', nth);
    }
    buf_append_char(images, '}');
    buf_append_char(nths, '}');
}

/* COPY's text form: the control characters have letters of their own, so that a line stays a line. 0: as it is. */
static const char copy_letters[256] = {['\\'] = '\\', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};

/* A pass for each of the four letters is many times faster than one that looks at every byte; most large values have
 * none. */
static bool is_plain(const char *bytes, size_t len) {
    static const char letters[] = {'\\', '\n', '\r', '\t'};

    for (size_t i = 0; i < sizeof(letters); i++)
        if (memchr(bytes, letters[i], len) != NULL)
            return false;
    return true;
}

enum { WORTH_PASSES = 256 };

static void append_copy_bytes(Buf *buf, const char *bytes, size_t len) {
    size_t start = 0;

    for (size_t i = len >= WORTH_PASSES && is_plain(bytes, len) ? len : 0; i < len; i++) {
        char letter = copy_letters[(uint8_t)bytes[i]];

        if (letter == 0)
            continue;
        buf_append(buf, bytes + start, i - start);
        buf_append_char(buf, '\\');
        buf_append_char(buf, letter);
        start = i + 1;
    }
    buf_append(buf, bytes + start, len - start);
}

/* False: the value goes on with the next call. */
static bool append_copy_value(Buf *buf, const PgoValue *value, size_t *done, size_t most) {
    if (value->kind == PGO_NULL) {
        buf_append_str(buf, "\\N");
        return true;
    }
    size_t len = MIN(value->len - *done, most);
    append_copy_bytes(buf, value->bytes + *done, len);
    *done += len;
    return *done == value->len;
}

bool rows_append_copy(Buf *buf, const ApplyTable *table, const BatchRow *row, RowCursor *cursor, size_t most) {
    for (; cursor->column < table->batch.columns_count; cursor->column++) {
        if (table->batch.columns[cursor->column].is_generated)
            continue;
        if (cursor->begun && cursor->done == 0)
            buf_append_char(buf, '\t');
        cursor->begun = true;
        if (!append_copy_value(buf, &row->values[cursor->column], &cursor->done, most))
            return false;
        cursor->done = 0;
    }
    buf_append_char(buf, '\n');
    return true;
}
