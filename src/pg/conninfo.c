/*
 * Connection strings: checked, resolved to options, shown without password, written as a service file.
 *
 * How options are resolved. libpq has no call that merges string, service file, environment and defaults without
 * connecting (PQconndefaults ignores the string, PQconninfoParse ignores the rest). A PGconn has merged them before it
 * validates them, and it validates before it opens a socket. So we start a connection with one option that is
 * certainly invalid, read the merged options back with PQconninfo(), and take the true value of the spoilt option from
 * a second such connection that spoils another one.
 *
 * Secrets. libpq's complaint about a string quotes the part it did not understand, which is often the tail of a
 * password with a blank, '@', '/' or '=' in it. Nothing quoted is passed on (mask_quoted). A password with '@' or '/'
 * in a URI can also parse well, with its tail as "host" or "port": such strings are refused before libpq could name
 * that host in an error.
 */
#include "pg/conn_internal.h"

#include <stdio.h>
#include <string.h>

#define PROBE "pgcrane-probe"

static const char *const uri_schemes[] = {"postgresql://", "postgres://"};

/* Never part of the service file: ours to choose, or without meaning there. */
static const char *const not_for_children[] = {"service",         "application_name", "fallback_application_name",
                                               "client_encoding", "replication",      "authtype"};

/* libpq's own reader takes lines of up to 1023 bytes (fe-connect.c, parseServiceFileInfo). */
enum { SERVICE_LINE_MAX = 1000, MASKED_MAX = 300 };

void conninfo_freep(PQconninfoOption **options) {
    PQconninfoFree(*options);
    *options = NULL;
}

const char *conninfo_get(const PQconninfoOption *options, const char *keyword) {
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o->val != NULL && o->val[0] != '\0' ? o->val : NULL;
    return NULL;
}

static void chomp(char *text) {
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
}

/* Replaces all from the first quote to the last one, also what looks unquoted between them (the quoted text may hold
 * quotes). Only a quoted "=" is kept, which libpq's grammar complaints begin with. */
static void mask_quoted(const char *message, char *ret_masked, size_t size) {
    const char *first = strchr(message, '"');
    const char *last = strrchr(message, '"');

    if (first != NULL && strncmp(first, "\"=\" ", 4) == 0)
        first = strchr(first + 3, '"');
    if (first == NULL || last <= first)
        snprintf(ret_masked, size, "%s", first == NULL ? message : "not understood");
    else
        snprintf(ret_masked, size, "%.*s\"...\"%s", (int)(first - message), message, last + 1);
    chomp(ret_masked);
}

static bool fail_masked(const char *message, Error *err) {
    char masked[MASKED_MAX];

    mask_quoted(message, masked, sizeof(masked));
    return error_set(err, REASON_BAD_CONNINFO, "the connection string is not valid: %s", masked);
}

/* --- Checks ------------------------------------------------------------------------------------------------------- */

static const char *after_scheme(const char *conninfo) {
    for (size_t i = 0; i < COUNT_OF(uri_schemes); i++)
        if (strncmp(conninfo, uri_schemes[i], strlen(uri_schemes[i])) == 0)
            return conninfo + strlen(uri_schemes[i]);
    return NULL;
}

/* In a URI the only '@' before the query stands between user and host. */
static bool check_uri(const char *conninfo, Error *err) {
    const char *authority = after_scheme(conninfo);
    if (authority == NULL)
        return true;

    const char *end = authority + strcspn(authority, "?");
    const char *slash = memchr(authority, '/', (size_t)(end - authority));
    const char *at = memchr(authority, '@', (size_t)(end - authority));

    if (at == NULL)
        return true;
    if ((slash == NULL || at < slash) && memchr(at + 1, '@', (size_t)(end - at - 1)) == NULL)
        return true;
    error_set(err, REASON_BAD_CONNINFO, "the connection URI has '@' or '/' in a place where it is ambiguous");
    return error_remedy(err, "in a URI write such characters of user, password and database as %%40 and %%2F");
}

static bool check_port(const PQconninfoOption *options, Error *err) {
    const char *port = conninfo_get(options, "port");

    if (port == NULL || port[strspn(port, "0123456789,")] == '\0')
        return true;
    error_set(err, REASON_BAD_CONNINFO, "the port in the connection string is not a number");
    return error_remedy(err, "in a URI write ':', '/', '@' and '#' of user and password as %%3A, %%2F, %%40 and %%23");
}

static bool check_string(const char *conninfo, Error *err) {
    char *message = NULL;
    PQconninfoOption *options CLEANUP(conninfo_freep) = PQconninfoParse(conninfo, &message);

    if (options == NULL) {
        fail_masked(message != NULL ? message : "out of memory", err);
        PQfreemem(message);
        return false;
    }
    return check_port(options, err) && check_uri(conninfo, err);
}

/* --- Resolving ---------------------------------------------------------------------------------------------------- */

/* The merged options with `spoilt` holding the probe. */
static bool probe(const char *conninfo, const char *spoilt, PQconninfoOption **ret_options, Error *err) {
    const char *const keywords[] = {"dbname", spoilt, NULL};
    const char *const values[] = {conninfo, PROBE, NULL};
    PGconn *pg = PQconnectStartParams(keywords, values, 1);
    PQconninfoOption *options = NULL;

    if (pg == NULL)
        return error_set(err, REASON_SYSTEM, "out of memory");
    if (strstr(PQerrorMessage(pg), PROBE) == NULL)
        fail_masked(PQerrorMessage(pg), err);
    else if ((options = PQconninfo(pg)) == NULL)
        error_set(err, REASON_SYSTEM, "out of memory");
    PQfinish(pg);
    if (options == NULL)
        return false;
    *ret_options = options;
    return true;
}

/* Both lists come from the same libpq: the same keywords in the same order. */
static void swap_value(PQconninfoOption *options, PQconninfoOption *other, const char *keyword) {
    for (size_t i = 0; options[i].keyword != NULL; i++) {
        if (strcmp(options[i].keyword, keyword) != 0)
            continue;
        char *value = options[i].val;
        options[i].val = other[i].val;
        other[i].val = value;
    }
}

bool conninfo_resolve(const char *conninfo, PQconninfoOption **ret_options, Error *err) {
    PQconninfoOption *options CLEANUP(conninfo_freep) = NULL;
    PQconninfoOption *other CLEANUP(conninfo_freep) = NULL;

    if (!check_string(conninfo, err) || !probe(conninfo, "sslmode", &options, err) ||
        !probe(conninfo, "gssencmode", &other, err))
        return false;
    swap_value(options, other, "sslmode");
    if (!check_port(options, err))
        return false;
    *ret_options = options;
    options = NULL;
    return true;
}

/* --- Forms -------------------------------------------------------------------------------------------------------- */

/* Copies item number `index` of a comma-separated list; of a list with one item, that one. */
static const char *list_item(Arena *arena, const char *list, size_t index) {
    if (list == NULL || strchr(list, ',') == NULL)
        return list;
    for (; index > 0; index--)
        list += strcspn(list, ",") + 1;
    return arena_strndup(arena, list, strcspn(list, ","));
}

/* "a:5432,b:7" of the hosts "a,b" and the ports ",7". libpq has checked that the lists match. */
static const char *display_hosts(Arena *arena, const char *hosts, const char *ports) {
    const char *shown = "";
    size_t count = 1;

    for (const char *c = hosts; *c != '\0'; c++)
        count += *c == ',';
    for (size_t i = 0; i < count; i++) {
        const char *port = list_item(arena, ports, i);
        shown = arena_printf(arena, "%s%s%s:%s", shown, i > 0 ? "," : "", list_item(arena, hosts, i),
                             port != NULL && port[0] != '\0' ? port : "5432");
    }
    return shown;
}

static bool is_elsewhere(const char *host, const char *hostaddr) {
    return hostaddr != NULL && strcmp(host, hostaddr) != 0 && strchr(host, ',') == NULL;
}

char *conninfo_display(Arena *arena, const PQconninfoOption *options) {
    const char *user = conninfo_get(options, "user");
    const char *host = conninfo_get(options, "host");
    const char *port = conninfo_get(options, "port");
    const char *dbname = conninfo_get(options, "dbname");
    const char *hostaddr = conninfo_get(options, "hostaddr");

    if (host == NULL)
        host = hostaddr;
    user = user != NULL ? user : "";
    dbname = dbname != NULL ? dbname : user;
    if (host == NULL || host[0] == '/')
        return arena_printf(arena, "%s@/%s (socket)", user, dbname);
    /* A port behind another address than the host's own, such as a tunnel's, is not the host's. */
    if (is_elsewhere(host, hostaddr))
        return arena_printf(arena, "%s@%s/%s (at %s)", user, host, dbname, display_hosts(arena, hostaddr, port));
    return arena_printf(arena, "%s@%s/%s", user, display_hosts(arena, host, port), dbname);
}

bool db_display(Arena *arena, const char *conninfo, const char **ret_display, Error *err) {
    PQconninfoOption *options CLEANUP(conninfo_freep) = NULL;

    if (!conninfo_resolve(conninfo, &options, err))
        return false;
    *ret_display = conninfo_display(arena, options);
    return true;
}

static bool is_for_children(const PQconninfoOption *option) {
    if (option->val == NULL || option->val[0] == '\0')
        return false;
    for (size_t i = 0; i < COUNT_OF(not_for_children); i++)
        if (strcmp(option->keyword, not_for_children[i]) == 0)
            return false;
    return true;
}

/* A service file has no quoting: the value is the rest of the line, without blanks at its end. */
static bool fits_service_line(const char *value) {
    size_t len = strlen(value);

    return len < SERVICE_LINE_MAX && strpbrk(value, "\r\n") == NULL && strchr(" \t\v\f", value[len - 1]) == NULL;
}

bool db_service_file(const char *conninfo, Buf *buf, Error *err) {
    PQconninfoOption *options CLEANUP(conninfo_freep) = NULL;

    if (!conninfo_resolve(conninfo, &options, err))
        return false;
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        if (is_for_children(o) && !fits_service_line(o->val))
            return error_set(err, REASON_BAD_CONNINFO,
                             "%s is longer than %d bytes, or has a line break or a blank at its end", o->keyword,
                             SERVICE_LINE_MAX);
    buf_append_str(buf, "[pgcrane]\n");
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        if (is_for_children(o))
            buf_printf(buf, "%s=%s\n", o->keyword, o->val);
    return buf_ok(buf, "the service file", err);
}
