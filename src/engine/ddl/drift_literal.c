/*
 * Constants of the catalogue, compared by value where versions write one value in several ways (drift_internal.h).
 *
 * - Before 12 a float has all its digits ('0.100000000000000006'), since then as many as it takes ('0.1'). The cast
 * behind it says that it is one, or is of some. The bounds of partitions have no cast: there a number of 17 digits or
 * more is a float's when the shorter one is read as the same.
 * - 10 writes B'101'::"bit", others '101'::"bit".
 */
#include "engine/ddl/drift_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FLOAT_DIGITS = 17 };

typedef enum Reading { READ_AS_TEXT, READ_FLOAT4, READ_FLOAT8, READ_LONG_FLOAT8 } Reading;

static bool is_word_of(const SqlToken *tokens, size_t len, size_t i, const char *const *words, size_t count) {
    for (size_t w = 0; i < len && w < count; w++)
        if (sql_token_is_word(&tokens[i], words[w]))
            return true;
    return false;
}

static bool is_symbol_at(const SqlToken *tokens, size_t len, size_t i, char symbol) {
    return i < len && sql_token_is_symbol(&tokens[i], symbol);
}

/* What the cast behind the constant makes of it. */
static Reading reading_of(const SqlToken *tokens, size_t len, size_t i) {
    static const char *const eights[] = {"DOUBLE", "POINT", "LSEG", "BOX", "PATH", "POLYGON", "LINE", "CIRCLE"};
    static const char *const fours[] = {"REAL"};
    bool is_bound = len > 2 && sql_token_is_word(&tokens[0], "FOR") && sql_token_is_word(&tokens[1], "VALUES");

    if (!is_symbol_at(tokens, len, i + 1, ':') || !is_symbol_at(tokens, len, i + 2, ':'))
        return is_bound ? READ_LONG_FLOAT8 : READ_AS_TEXT;
    if (is_symbol_at(tokens, len, i + 4, '.')) /* a type of somebody's schema */
        return READ_AS_TEXT;
    if (is_word_of(tokens, len, i + 3, eights, COUNT_OF(eights)))
        return READ_FLOAT8;
    return is_word_of(tokens, len, i + 3, fours, COUNT_OF(fours)) ? READ_FLOAT4 : READ_AS_TEXT;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool begins_number(const char *text) {
    text += *text == '-';
    return is_digit(*text) || (*text == '.' && is_digit(text[1]));
}

static size_t digits_of(const char *text, const char *end) {
    size_t digits = 0;

    for (; text < end && *text != 'e' && *text != 'E'; text++)
        digits += is_digit(*text) && (digits > 0 || *text != '0');
    return digits;
}

/* Both texts go on behind their numbers, which end before the constant's quote at the latest. */
static bool same_number(const char **a, const char **b, Reading reading) {
    char *a_end = NULL, *b_end = NULL;
    bool same = false;

    if (reading == READ_FLOAT4) {
        float x = strtof(*a, &a_end), y = strtof(*b, &b_end);

        same = memcmp(&x, &y, sizeof(x)) == 0;
    } else {
        double x = strtod(*a, &a_end), y = strtod(*b, &b_end);

        same = memcmp(&x, &y, sizeof(x)) == 0;
    }
    if (reading == READ_LONG_FLOAT8 && digits_of(*a, a_end) < FLOAT_DIGITS && digits_of(*b, b_end) < FLOAT_DIGITS)
        same = (size_t)(a_end - *a) == (size_t)(b_end - *b) && memcmp(*a, *b, (size_t)(a_end - *a)) == 0;
    *a = a_end;
    *b = b_end;
    return same;
}

static bool same_numbers(const SqlToken *left, const SqlToken *right, Reading reading) {
    const char *a = left->text, *b = right->text;
    const char *a_end = a + left->len, *b_end = b + right->len;

    while (a < a_end && b < b_end) {
        if (begins_number(a) && begins_number(b)) {
            if (!same_number(&a, &b, reading))
                return false;
        } else if (*a++ != *b++) {
            return false;
        }
    }
    return a == a_end && b == b_end;
}

static bool is_bits(const SqlToken *tokens, size_t len, size_t i) {
    static const char name[] = "\"bit\"";
    const SqlToken *type = i + 3 < len ? &tokens[i + 3] : NULL;

    return is_symbol_at(tokens, len, i + 1, ':') && is_symbol_at(tokens, len, i + 2, ':') && type != NULL &&
           (sql_token_is_word(type, "BIT") || (type->len == strlen(name) && memcmp(type->text, name, type->len) == 0));
}

static bool same_but_for_b(const SqlToken *with, const SqlToken *without) {
    return with->len == without->len + 1 && with->text[0] == 'B' &&
           memcmp(with->text + 1, without->text, without->len) == 0;
}

bool drift_same_token(const SqlToken *left, const SqlToken *right, size_t len, size_t i) {
    const SqlToken *a = &left[i], *b = &right[i];

    if (a->kind != b->kind)
        return false;
    if (a->len == b->len && memcmp(a->text, b->text, a->len) == 0)
        return true;
    if (a->kind != SQL_TOKEN_STRING)
        return false;
    if (is_bits(left, len, i) && (same_but_for_b(a, b) || same_but_for_b(b, a)))
        return true;
    Reading reading = reading_of(left, len, i);
    return reading != READ_AS_TEXT && reading == reading_of(right, len, i) && same_numbers(a, b, reading);
}
