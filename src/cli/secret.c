/*
 * Finds the secrets inside a connection string, and strikes them out where they stand.
 *
 * Reads the two forms as libpq does, but more tolerantly: a string that libpq will refuse is masked as well, since it
 * stands in `ps` all the same.
 */
#include "cli/secret.h"

#include <ctype.h>
#include <string.h>

static const char *const secret_keys[] = {"password", "sslpassword", "scram_client_key", "scram_server_key",
                                          "oauth_client_secret"};

static bool is_secret_key(const char *key, size_t len) {
    for (size_t at = 0; at < COUNT_OF(secret_keys); at++)
        if (strlen(secret_keys[at]) == len && strncmp(secret_keys[at], key, len) == 0)
            return true;
    return false;
}

static bool strike_out(char *text, size_t len) {
    memset(text, '*', len);
    return len > 0;
}

static int hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Keys of a URI's query may be percent-encoded too ("pass%77ord"). Too long for any key we know: no match. */
static bool is_secret_encoded_key(const char *key, size_t len) {
    char decoded[32];
    size_t used = 0;
    for (size_t at = 0; at < len && used < sizeof(decoded); at++) {
        bool escape = key[at] == '%' && at + 2 < len && hex_value(key[at + 1]) >= 0 && hex_value(key[at + 2]) >= 0;
        decoded[used++] = escape ? (char)(hex_value(key[at + 1]) * 16 + hex_value(key[at + 2])) : key[at];
        at += escape ? 2 : 0;
    }
    return is_secret_key(decoded, used);
}

/* "user:password@" ends at the first '@' before any '/'. */
static bool mask_userinfo(char *authority) {
    size_t len = strcspn(authority, "@/");
    if (authority[len] != '@')
        return false;
    char *colon = memchr(authority, ':', len);
    if (colon == NULL)
        return false;
    return strike_out(colon + 1, (size_t)(authority + len - colon - 1));
}

static bool mask_query(char *query) {
    bool found = false;
    while (*query != '\0') {
        size_t len = strcspn(query, "&");
        char *equals = memchr(query, '=', len);
        if (equals != NULL && is_secret_encoded_key(query, (size_t)(equals - query)))
            found |= strike_out(equals + 1, (size_t)(query + len - equals - 1));
        query += len + (query[len] == '&' ? 1 : 0);
    }
    return found;
}

static bool mask_uri(char *authority) {
    bool found = mask_userinfo(authority);
    char *query = strchr(authority, '?');
    if (query != NULL)
        found |= mask_query(query + 1);
    return found;
}

/* Length of a value: quoted with '...' or up to the next blank; a backslash takes the next character with it. */
static size_t value_length(const char *value) {
    bool quoted = value[0] == '\'';
    size_t at = quoted ? 1 : 0;
    while (value[at] != '\0' && (quoted ? value[at] != '\'' : !isspace((unsigned char)value[at])))
        at += value[at] == '\\' && value[at + 1] != '\0' ? 2 : 1;
    return quoted && value[at] == '\'' ? at + 1 : at;
}

static char *skip_blanks(char *text) {
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

static bool mask_key_values(char *at) {
    bool found = false;
    while (*(at = skip_blanks(at)) != '\0') {
        char *key = at;
        size_t key_len = strcspn(at, "= \t\r\n\f\v");
        char *equals = skip_blanks(at + key_len);
        if (*equals != '=') {
            at = key_len > 0 ? key + key_len : at + 1;
            continue;
        }
        char *value = skip_blanks(equals + 1);
        size_t value_len = value_length(value);
        if (is_secret_key(key, key_len))
            found |= strike_out(value, value_len);
        at = value + value_len;
    }
    return found;
}

bool secret_mask(char *conninfo) {
    static const char *const schemes[] = {"postgresql://", "postgres://"};
    for (size_t at = 0; at < COUNT_OF(schemes); at++)
        if (strncmp(conninfo, schemes[at], strlen(schemes[at])) == 0)
            return mask_uri(conninfo + strlen(schemes[at]));
    return mask_key_values(conninfo);
}
