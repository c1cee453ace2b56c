/*
 * The certificate of an instance, by an authority of its own whose key is thrown away: whoever trusts ca.crt trusts
 * this one certificate and no other.
 *
 * All of it is made in a folder beside, which then gets its name: tls/ is there as a whole or not at all. It stays when
 * the data is made anew, so that clients that know ca.crt go on.
 */
#include "common/fd.h"
#include "common/proc.h"
#include "provision/local/internal.h"
#include "provision/local/tree.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_MAX = 64, PEM_MAX = 64 * 1024, CONFIG_MAX = 16 * 1024 };

static const char valid_days[] = "3650";

/* As programs of openssl are called; {folder} is where they work. */
static const char *const authority_request[] = {
    OPENSSL,  "req",       "-x509", "-new",     "-newkey", "ec",         "-pkeyopt", "ec_paramgen_curve:prime256v1",
    "-nodes", "-sha256",   "-days", valid_days, "-config", "{}/ca.conf", "-keyout",  "{}/ca.key",
    "-out",   "{}/ca.crt", NULL};
static const char *const server_request[] = {
    OPENSSL,         "req",     "-new",    "-newkey",        "ec",      "-pkeyopt",      "ec_paramgen_curve:prime256v1",
    "-nodes",        "-sha256", "-config", "{}/server.conf", "-keyout", "{}/server.key", "-out",
    "{}/server.csr", NULL};
static const char *const server_signature[] = {
    OPENSSL,       "x509",       "-req",   "-sha256",       "-days",       valid_days, "-in",      "{}/server.csr",
    "-CA",         "{}/ca.crt",  "-CAkey", "{}/ca.key",     "-set_serial", "1",        "-extfile", "{}/server.conf",
    "-extensions", "extensions", "-out",   "{}/server.crt", NULL};
static const char *const *const commands[] = {authority_request, server_request, server_signature};
static const char *const left_overs[] = {"ca.key", "server.csr", "ca.conf", "server.conf"};

/* As ourselves: nothing of it is the server's user's. */
static bool run_command(const Local *local, const char *const *words, const char *folder, Error *err) {
    const char *argv[32] = {NULL};

    for (size_t at = 0; words[at] != NULL && at + 1 < COUNT_OF(argv); at++)
        argv[at] =
            strncmp(words[at], "{}", 2) == 0 ? arena_printf(local->arena, "%s%s", folder, words[at] + 2) : words[at];
    if (proc_run(&(ProcSpec){.argv = argv}, local->call->stop, err))
        return true;
    error_remedy(err, "openssl version; openssl list -public-key-algorithms shows whether it can do EC");
    return error_wrap(err, "the certificate of instance %s", local->id);
}

/* ---- What openssl reads ---- */

static void put_addresses(Buf *text) {
    struct ifaddrs *all = NULL;
    char address[INET6_ADDRSTRLEN];
    int count = 0;

    if (getifaddrs(&all) != 0)
        return; /* the loopback's is named anyway */
    for (const struct ifaddrs *each = all; each != NULL && count < NAMES_MAX; each = each->ifa_next) {
        const struct sockaddr *found = each->ifa_addr;
        if (found == NULL || (each->ifa_flags & IFF_LOOPBACK) != 0)
            continue;
        const void *bytes = found->sa_family == AF_INET
                                ? (const void *)&((const struct sockaddr_in *)(const void *)found)->sin_addr
                            : found->sa_family == AF_INET6
                                ? (const void *)&((const struct sockaddr_in6 *)(const void *)found)->sin6_addr
                                : NULL;
        if (bytes != NULL && inet_ntop(found->sa_family, bytes, address, sizeof(address)) != NULL)
            buf_printf(text, "IP.%d = %s\n", 3 + count++, address);
    }
    freeifaddrs(all);
}

static bool is_host_name(const char *name) {
    return name[0] != '\0' && strlen(name) < 64 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == strlen(name);
}

static bool write_server_conf(const Local *local, const char *folder, Error *err) {
    CLEANUP(buf_fini) Buf text;
    char host[256] = "";
    const char *path = arena_printf(local->arena, "%s/server.conf", folder);

    buf_init(&text, CONFIG_MAX);
    buf_printf(&text,
               "[req]\nprompt = no\ndistinguished_name = name\n[name]\nCN = %s\n[extensions]\n"
               "basicConstraints = critical,CA:FALSE\nextendedKeyUsage = serverAuth\nsubjectAltName = @names\n"
               "[names]\nDNS.1 = localhost\nIP.1 = 127.0.0.1\nIP.2 = ::1\n",
               local->id);
    if (gethostname(host, sizeof(host) - 1) == 0 && is_host_name(host))
        buf_printf(&text, "DNS.2 = %s\n", host);
    put_addresses(&text);
    return buf_ok(&text, path, err) && fd_write_file(path, text.data, text.len, 0600, err);
}

static bool write_authority_conf(const Local *local, const char *folder, Error *err) {
    const char *path = arena_printf(local->arena, "%s/ca.conf", folder);
    const char *text = arena_printf(local->arena,
                                    "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n"
                                    "[name]\nCN = pgcrane %s\n[extensions]\nbasicConstraints = critical,CA:TRUE\n"
                                    "keyUsage = critical,keyCertSign\nsubjectKeyIdentifier = hash\n",
                                    local->id);

    return fd_write_file(path, text, strlen(text), 0600, err);
}

/* ---- All of it ---- */

static bool give_to_server(const Local *local, const char *folder, Error *err) {
    static const char *const files[] = {"ca.crt", "server.crt", "server.key"};

    for (size_t at = 0; at < COUNT_OF(files); at++) {
        const char *path = arena_printf(local->arena, "%s/%s", folder, files[at]);
        CLEANUP(buf_fini) Buf text;
        buf_init(&text, PEM_MAX);
        if (!fd_read_file(path, &text, err) || !place_write(local, path, text.data, err))
            return false;
    }
    return true;
}

bool tls_make_named(const Local *local, const char *name, Error *err) {
    const char *fresh = arena_printf(local->arena, "%s.new", name);
    const char *folder = arena_printf(local->arena, "%s/%s", local->folder, fresh);

    if (!tree_remove(folder, err))
        return false;
    if (mkdir(folder, 0700) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot make folder %s", folder);
    if (!write_authority_conf(local, folder, err) || !write_server_conf(local, folder, err))
        return false;
    for (size_t at = 0; at < COUNT_OF(commands); at++)
        if (!run_command(local, commands[at], folder, err))
            return false;
    for (size_t at = 0; at < COUNT_OF(left_overs); at++)
        if (!tree_remove_in(folder, left_overs[at], err))
            return false;
    if (!give_to_server(local, folder, err))
        return false;
    if (local->owner.is_other && chmod(folder, 0711) != 0)
        return error_errno(err, REASON_SYSTEM, "cannot set the mode of %s", folder);
    return tree_rename_in(local->folder, fresh, name, err);
}

bool tls_make(Local *local, Error *err) {
    return place_exists(local->tls) || tls_make_named(local, "tls", err);
}

bool tls_authority(const Local *local, const char **ret_pem, Error *err) {
    const char *path = arena_printf(local->arena, "%s/ca.crt", local->tls);
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, PEM_MAX);
    *ret_pem = NULL;
    if (!place_exists(path))
        return true;
    if (!fd_read_file(path, &text, err))
        return false;
    *ret_pem = arena_strndup(local->arena, text.data, text.len);
    return true;
}
