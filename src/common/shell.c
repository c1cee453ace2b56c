/* Text for a POSIX shell. */
#include "common/shell.h"

#include <string.h>

char *shell_quote(Arena *arena, const char *text) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:@%+,-=";
    if (text[0] != '\0' && text[strspn(text, plain)] == '\0')
        return arena_strdup(arena, text);
    size_t quotes = 0;
    for (const char *at = text; *at != '\0'; at++)
        quotes += *at == '\'' ? 1 : 0;
    char *quoted = arena_alloc(arena, strlen(text) + quotes * 3 + 3);
    char *to = quoted;
    *to++ = '\'';
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\'') {
            memcpy(to, "'\\''", 4);
            to += 4;
        } else {
            *to++ = *at;
        }
    }
    *to++ = '\'';
    *to = '\0';
    return quoted;
}
