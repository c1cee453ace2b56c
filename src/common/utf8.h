/* The little that is needed of UTF-8: finding whole characters in bytes that may be anything. */
#pragma once

#include "common/compiler.h"

/* Length (1 to 4) of the character at `text`, of which `len` bytes are there; 0 when they are no UTF-8. */
size_t utf8_char_len(const char *text, size_t len);
/* The longest prefix of at most `max` bytes that does not end inside a character. */
size_t utf8_cut(const char *text, size_t len, size_t max);
