/*
 * generateSshScript: a shell script that a person runs on a host near the source, so that the source can be reached
 * through a host that this service reaches.
 */
#include "api/kinds.h"
#include "api/migration_jobs.h"

#include <string.h>

/* For a shell: in single quotes. */
static const char *quote(Arena *arena, const char *text) {
    CLEANUP(buf_fini) Buf quoted;

    buf_init(&quoted, 64 * 1024);
    buf_append_char(&quoted, '\'');
    for (const char *at = text; *at != '\0'; at++)
        if (*at == '\'')
            buf_append_str(&quoted, "'\\''");
        else
            buf_append_char(&quoted, *at);
    buf_append_char(&quoted, '\'');
    return arena_strndup(arena, quoted.data, quoted.len);
}

static const char *make_script(Arena *arena, const char *vm, int64_t port, const char *host, int64_t host_port) {
    return arena_printf(
        arena,
        "#!/bin/sh\n"
        "# Opens port %lld of the bastion host and leads what comes there to the source. It has to run as long as\n"
        "# the migration does, on a host that reaches both. On the bastion, sshd needs GatewayPorts=clientspecified\n"
        "# when this service is another host.\n"
        "set -eu\n"
        "bastion=%s\n"
        "source=%s\n"
        "while :; do\n"
        "    ssh -N -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=3 \\\n"
        "        -R \"*:%lld:$source:%lld\" -- \"$bastion\" || echo \"ssh has ended: again in 5 s\" >&2\n"
        "    sleep 5\n"
        "done\n",
        (long long)port, quote(arena, vm), quote(arena, host), (long long)port, (long long)host_port);
}

bool migration_ssh_script(ApiCall *call, Error *err) {
    CLEANUP(record_fini) Record job = {0}, source = {0};
    const char *vm = json_get_string(call->body, "vm", "");

    if (!kind_load(call, &job, err) ||
        !record_load(call->tx, STORE_CONNECTION_PROFILE, json_get_string(job.api, "source", ""), &source, err))
        return false;
    const json_t *postgresql = json_object_get(source.api, "postgresql");
    const char *host = json_get_string(postgresql, "host", "");
    if (host[0] == '\0')
        return error_set(err, REASON_JOB_STATE, "%s names no host", source.resource.name);
    if (vm[0] == '-' || vm[0] == '\0')
        return call_refuse(call, "vm", "must be the name of a host, as ssh takes it");
    const json_t *given = json_object_get(job.api, "reverseSshConnectivity");
    int64_t port = json_get_int(call->body, "vmPort", json_get_int(given, "vmPort", 5432));
    const char *script = make_script(call->arena, vm, port, host, json_get_int(postgresql, "port", 5432));
    call->answer = json_pack("{s:s}", "script", script);
    return true;
}
