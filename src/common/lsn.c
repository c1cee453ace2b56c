/* WAL positions as the servers write them: two hexadecimal halves of 32 bits. */
#include "common/lsn.h"

#include <inttypes.h>

enum { HALF_DIGITS = 8 };

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* Takes one to eight digits; returns what follows them, NULL when there is none. More digits are left, and so refused
 * by the caller. */
static const char *take_half(const char *text, uint64_t *half) {
    int digits = 0;

    for (*half = 0; digits < HALF_DIGITS && hex_digit(*text) >= 0; digits++)
        *half = *half << 4 | (uint64_t)hex_digit(*text++);
    return digits > 0 ? text : NULL;
}

bool lsn_parse(const char *text, Lsn *ret_lsn) {
    uint64_t high = 0, low = 0;
    const char *rest = take_half(text, &high);

    if (rest == NULL || *rest != '/')
        return false;
    rest = take_half(rest + 1, &low);
    if (rest == NULL || *rest != '\0')
        return false;
    *ret_lsn = high << 32 | low;
    return true;
}

char *lsn_format(Arena *arena, Lsn lsn) {
    return arena_printf(arena, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
}
