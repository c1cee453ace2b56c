/*
 * What the server reads: pgcrane.conf, pg_hba.conf, pg_ident.conf, standby.conf.
 *
 * All of it is generated anew, from the spec and the mode alone: one file to be replaced, and a text that can be
 * compared with the one that is in force. data/postgresql.conf is initdb's, with one line added that includes ours, so
 * that the server is started by pg_ctl -D alone, also by people.
 *
 * The administrator comes in through the socket as the user that servers run as, or as root where that is us: so
 * pgcrane needs no password for what it does itself.
 */
#include "common/hash.h"
#include "provision/local/internal.h"
#include "provision/local/settings.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

enum { CONF_MAX = 256 * 1024 };

static void put(const Local *local, Buf *text, const char *name, const char *value) {
    buf_printf(text, "%s = %s\n", name, settings_quote(local->arena, value));
}

static void put_all(const Local *local, Buf *text, const char *title, const SettingVec *settings) {
    buf_printf(text, "\n# %s\n", title);
    for (size_t at = 0; at < settings->len; at++)
        put(local, text, settings->items[at].name, settings->items[at].value);
}

static void put_flags(const Local *local, Buf *text) {
    buf_append_str(text, "\n# flags\n");
    for (size_t at = 0; at < local->spec->flags.len; at++)
        put(local, text, local->spec->flags.items[at].name, local->spec->flags.items[at].value);
}

static void put_place(const Local *local, Buf *text) {
    const char *addresses = local->spec->networks.len > 0 ? "*" : "127.0.0.1";

    buf_append_str(text, "\n# place\n");
    put(local, text, "port", arena_printf(local->arena, "%d", local->primary.port));
    put(local, text, "listen_addresses", addresses);
    put(local, text, "unix_socket_directories", local->primary.run);
    put(local, text, "hba_file", arena_printf(local->arena, "%s/pg_hba.conf", local->conf));
    put(local, text, "ident_file", arena_printf(local->arena, "%s/pg_ident.conf", local->conf));
    put(local, text, "log_directory", local->primary.log);
    put(local, text, "ssl", "on");
    put(local, text, "ssl_cert_file", arena_printf(local->arena, "%s/server.crt", local->tls));
    put(local, text, "ssl_key_file", arena_printf(local->arena, "%s/server.key", local->tls));
    put(local, text, "cluster_name", local->id);
}

static Machine machine_of(const Local *local) {
    Machine machine = settings_machine(local->folder);

    /* What is free changes all the time; settings are not to. */
    machine.disk_mb = json_get_int(provision_journal_get(local->journal, "machine"), "disk_mb", machine.disk_mb);
    return machine;
}

static void put_settings(const Local *local, ProvisionMode mode, Buf *text) {
    Machine machine = machine_of(local);
    SettingVec by_size = {0}, fixed = {0}, of_mode = {0};
    int64_t disk_mb = local->spec->disk_mb > 0 ? local->spec->disk_mb : machine.disk_mb;

    settings_derive(local->arena, local->spec, &machine, &by_size);
    settings_fixed(local->arena, &fixed);
    settings_of_mode(local->arena, mode, disk_mb, &of_mode);
    buf_printf(text,
               "# Written by pgcrane for instance %s, and replaced by it: what is changed here is lost. ALTER SYSTEM "
               "stands above it.\n",
               local->id);
    put_all(local, text, "by the size of the instance", &by_size);
    put_flags(local, text);
    put_all(local, text, "fixed", &fixed);
    put_place(local, text);
    /* MIGRATING and PRIMARY are one text: a promote changes nothing of it. */
    put_all(local, text, mode == PROVISION_LOAD ? "while it is loaded" : "otherwise than while it is loaded", &of_mode);
}

/* What a client is asked for. md5 is either of both, as the role's verifier is; scram-sha-256 refuses MD5 verifiers, so
 * that whoever has asked for those by the flag gets the other. */
static const char *method_of(const Local *local) {
    for (size_t at = 0; at < local->spec->flags.len; at++)
        if (strcasecmp(local->spec->flags.items[at].name, "password_encryption") == 0 &&
            strcasecmp(local->spec->flags.items[at].value, "scram-sha-256") != 0)
            return "md5";
    return "scram-sha-256";
}

static void put_hba(const Local *local, Buf *text) {
    const char *kind = local->spec->require_tls ? "hostssl" : "host", *method = method_of(local);

    buf_printf(text,
               "# Written by pgcrane, and replaced by it.\n"
               "local all postgres peer map=pgcrane\n"
               "local replication postgres peer map=pgcrane\n"
               "local all all %s\n"
               "host all all 127.0.0.1/32 %s\n"
               "host all all ::1/128 %s\n",
               method, method, method);
    for (size_t at = 0; at < local->spec->networks.len; at++) {
        const char *network = local->spec->networks.items[at];
        const char *mask = strchr(network, '/') != NULL ? "" : strchr(network, ':') != NULL ? "/128" : "/32";
        buf_printf(text, "%s all all %s%s %s\n", kind, network, mask, method);
    }
}

static void put_ident(const Local *local, Buf *text) {
    buf_printf(text, "# Written by pgcrane, and replaced by it.\npgcrane %s postgres\n", local->owner.name);
    if (local->owner.is_other)
        buf_append_str(text, "pgcrane root postgres\n");
}

/* In the order in which they are written: the settings name the others. */
bool conf_write(const Local *local, ProvisionMode mode, const char **ret_hash, Error *err) {
    const char *const names[] = {"pg_hba.conf", "pg_ident.conf", "pgcrane.conf"};
    uint64_t hash = hash_text64("");

    for (size_t at = 0; at < COUNT_OF(names); at++) {
        CLEANUP(buf_fini) Buf text;
        buf_init(&text, CONF_MAX);
        if (at == 0)
            put_hba(local, &text);
        else if (at == 1)
            put_ident(local, &text);
        else
            put_settings(local, mode, &text);
        if (!buf_ok(&text, names[at], err) ||
            !place_write(local, arena_printf(local->arena, "%s/%s", local->conf, names[at]), text.data, err))
            return false;
        hash = hash_text64_more(hash, text.data);
    }
    *ret_hash = arena_printf(local->arena, "%016" PRIx64, hash);
    return true;
}

/* Behind those of the primary, which it has copied. */
bool conf_write_standby(Local *local, Error *err) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, CONF_MAX);
    buf_append_str(&text, "# Written by pgcrane, and replaced by it.\n");
    put(local, &text, "port", arena_printf(local->arena, "%d", local->standby.port));
    put(local, &text, "unix_socket_directories", local->standby.run);
    put(local, &text, "log_directory", local->standby.log);
    put(local, &text, "cluster_name", arena_printf(local->arena, "%s-standby", local->id));
    put(local, &text, "hot_standby", "on");
    return buf_ok(&text, "standby.conf", err) &&
           place_write(local, arena_printf(local->arena, "%s/standby.conf", local->conf), text.data, err);
}
