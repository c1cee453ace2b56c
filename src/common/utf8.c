/* The little that is needed of UTF-8: finding whole characters in bytes that may be anything. */
#include "common/utf8.h"

static bool is_continuation(unsigned char c) {
    return (c & 0xc0) == 0x80;
}

/* What the first byte promises; 0 for a byte that begins nothing (continuation, overlong C0/C1, above F4). */
static size_t promised_len(unsigned char first) {
    if (first < 0x80)
        return 1;
    if (first < 0xc2)
        return 0;
    if (first < 0xe0)
        return 2;
    if (first < 0xf0)
        return 3;
    return first < 0xf5 ? 4 : 0;
}

/* Second bytes that make an overlong form, a surrogate, or a number above U+10FFFF. */
static bool second_is_bad(unsigned char first, unsigned char second) {
    return (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
           (first == 0xf4 && second > 0x8f);
}

size_t utf8_char_len(const char *text, size_t len) {
    const unsigned char *bytes = (const unsigned char *)text;
    size_t promised = len == 0 ? 0 : promised_len(bytes[0]);
    if (promised > len)
        return 0;
    for (size_t i = 1; i < promised; i++) {
        if (!is_continuation(bytes[i]))
            return 0;
    }
    return promised > 1 && second_is_bad(bytes[0], bytes[1]) ? 0 : promised;
}

size_t utf8_cut(const char *text, size_t len, size_t max) {
    if (len <= max)
        return len;
    size_t cut = max;
    /* Bytes that are no UTF-8 at all are cut where they are: never go back by more than a character. */
    while (cut > 0 && max - cut < 4 && is_continuation((unsigned char)text[cut]))
        cut--;
    return max - cut == 4 ? max : cut;
}
