/*
 * The command line of ssh, and what its words mean.
 *
 * NOTES
 * No configuration is read (-F none): neither a user's nor the system's could run a command or choose another key.
 * Words that come from a profile stand behind their option, or behind "--", and begin with no dash; none of them
 * reaches a shell.
 *
 * ssh expands % in names of files. That of known hosts is relative to the folder in which ssh is started, so that
 * whatever the folder's name has in it is nobody's to read; in that of the key % is doubled.
 */
#include "session/tunnel.h"

#include "common/vec.h"

#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 340 }; /* of ssh, in an error */

#define KNOWN_HOSTS "ssh_known_hosts"

/* ---- The spec ---- */

/* As src/api/profiles.c has it; but what is stored may be older than that check. */
static bool is_word(const char *text) {
    if (text[0] == '-' || text[0] == '\0')
        return false;
    for (const char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return false;
    return true;
}

static bool is_host(const char *text) {
    return is_word(text) && strpbrk(text, "/@%'\"\\,") == NULL;
}

bool tunnel_check(const TunnelSpec *spec, Error *err) {
    const char *wrong = NULL;

    if (!is_host(spec->bastion))
        wrong = "forwardSshConnectivity.hostname";
    else if (!is_word(spec->user))
        wrong = "forwardSshConnectivity.username";
    else if (!is_host(spec->host))
        wrong = "host";
    if (wrong != NULL)
        return error_set(err, REASON_BAD_REQUEST, "the %s's profile: %s is none that ssh can be given", spec->side,
                         wrong);
    if ((spec->key_file == NULL) != (spec->password_file == NULL))
        return true;
    error_set(err, REASON_TUNNEL_REFUSED, "the %s's profile has no way to log in at %s", spec->side, spec->bastion);
    return error_remedy(err, "give the profile forwardSshConnectivity.privateKey or password");
}

json_t *tunnel_spec_to_json(const TunnelSpec *spec) {
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:s*, s:s*, s:o}", "side", spec->side, "bastion", spec->bastion,
                     "bastion_port", (json_int_t)spec->bastion_port, "user", spec->user, "host", spec->host, "port",
                     (json_int_t)spec->port, "key_file", spec->key_file, "password_file", spec->password_file, "folder",
                     json_string_lossy(spec->folder));
}

void tunnel_spec_from_json(Arena *arena, const json_t *json, TunnelSpec *ret_spec) {
    *ret_spec = (TunnelSpec){
        .side = arena_strdup(arena, json_get_string(json, "side", "")),
        .bastion = arena_strdup(arena, json_get_string(json, "bastion", "")),
        .bastion_port = json_get_int(json, "bastion_port", 22),
        .user = arena_strdup(arena, json_get_string(json, "user", "")),
        .host = arena_strdup(arena, json_get_string(json, "host", "")),
        .port = json_get_int(json, "port", 5432),
        .key_file = arena_strdup(arena, json_get_string(json, "key_file", NULL)),
        .password_file = arena_strdup(arena, json_get_string(json, "password_file", NULL)),
        .folder = arena_strdup(arena, json_get_string(json, "folder", "")),
    };
}

/* ---- The command line ---- */

/* No command there, no agent, no X11, no configuration. */
static const char *const always[] = {"-N", "-a", "-x", "-F", "none"};

static const char *const options[] = {
    "ExitOnForwardFailure=yes",
    "StrictHostKeyChecking=accept-new",
    ("UserKnownHostsFile=" KNOWN_HOSTS),
    "GlobalKnownHostsFile=/dev/null",
    "HashKnownHosts=no",
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "ControlMaster=no",
    "ControlPath=none",
    "PermitLocalCommand=no",
    "ProxyCommand=none",
    "ConnectTimeout=15",
    "ServerAliveInterval=15", /* a bastion that is silent for 45 s is given up */
    "ServerAliveCountMax=3",
    "NumberOfPasswordPrompts=1",
    "LogLevel=INFO",
};

static const char *const options_by_key[] = {"BatchMode=yes", "PreferredAuthentications=publickey"};

/* In batch mode ssh asks for none. */
static const char *const options_by_password[] = {
    "BatchMode=no",
    "PubkeyAuthentication=no",
    "PreferredAuthentications=password,keyboard-interactive",
};

static void push_options(Arena *arena, StringVec *argv, const char *const *words, size_t count) {
    for (size_t at = 0; at < count; at++) {
        vec_push(arena, argv, "-o");
        vec_push(arena, argv, words[at]);
    }
}

static const char *double_percents(Arena *arena, const char *path) {
    char *doubled = arena_alloc(arena, 2 * strlen(path) + 1);
    size_t len = 0;

    for (const char *at = path; *at != '\0'; at++) {
        doubled[len++] = *at;
        if (*at == '%')
            doubled[len++] = '%';
    }
    return doubled;
}

/* An address of IPv6 has colons, as what it stands in. */
static const char *in_brackets(Arena *arena, const char *host) {
    return strchr(host, ':') != NULL && host[0] != '[' ? arena_printf(arena, "[%s]", host) : host;
}

static const char *without_brackets(Arena *arena, const char *host) {
    size_t len = strlen(host);

    return host[0] == '[' && host[len - 1] == ']' ? arena_strndup(arena, host + 1, len - 2) : host;
}

static void push_way(Arena *arena, const TunnelSpec *spec, int port, StringVec *argv) {
    vec_push(arena, argv, "-L");
    vec_push(arena, argv,
             arena_printf(arena, "127.0.0.1:%d:%s:%lld", port, in_brackets(arena, spec->host), (long long)spec->port));
    vec_push(arena, argv, "-l");
    vec_push(arena, argv, spec->user);
    vec_push(arena, argv, "-p");
    vec_push(arena, argv, arena_printf(arena, "%lld", (long long)spec->bastion_port));
    vec_push(arena, argv, "--");
    vec_push(arena, argv, without_brackets(arena, spec->bastion));
}

const char *const *tunnel_argv(Arena *arena, const TunnelSpec *spec, const char *ssh, int port) {
    StringVec argv = {0};

    vec_push(arena, &argv, ssh);
    for (size_t at = 0; at < COUNT_OF(always); at++)
        vec_push(arena, &argv, always[at]);
    push_options(arena, &argv, options, COUNT_OF(options));
    if (spec->key_file != NULL) {
        push_options(arena, &argv, options_by_key, COUNT_OF(options_by_key));
        vec_push(arena, &argv, "-i");
        vec_push(arena, &argv, double_percents(arena, spec->key_file));
    } else {
        push_options(arena, &argv, options_by_password, COUNT_OF(options_by_password));
    }
    push_way(arena, spec, port, &argv);
    vec_push(arena, &argv, NULL);
    return argv.items;
}

const char *const *tunnel_environment(Arena *arena, const TunnelSpec *spec, const char *self) {
    StringVec variables = {0};

    vec_push(arena, &variables, "LC_ALL=C");
    vec_push(arena, &variables, "SSH_AUTH_SOCK=");
    if (spec->password_file != NULL) {
        vec_push(arena, &variables, arena_printf(arena, "SSH_ASKPASS=%s", self));
        vec_push(arena, &variables, "SSH_ASKPASS_REQUIRE=force");
        vec_push(arena, &variables, arena_printf(arena, "%s=%s", TUNNEL_ASKPASS_FILE, spec->password_file));
    } else {
        vec_push(arena, &variables, "SSH_ASKPASS_REQUIRE=never");
    }
    vec_push(arena, &variables, NULL);
    return variables.items;
}

/* ---- By hand ---- */

static const char *quoted(Arena *arena, const char *word) {
    if (word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:@/=,+")] == '\0')
        return word;
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, 64 * 1024);
    buf_append_char(&text, '\'');
    for (const char *at = word; *at != '\0'; at++)
        if (*at == '\'')
            buf_append_str(&text, "'\\''");
        else
            buf_append_char(&text, *at);
    buf_append_char(&text, '\'');
    return arena_strndup(arena, text.data, text.len);
}

/* What a person would type. The key is in a file of theirs, and the port any that is free. */
static const char *command_by_hand(Arena *arena, const TunnelSpec *spec) {
    StringVec way = {0};
    const char *known = arena_printf(arena, "UserKnownHostsFile=%s/" KNOWN_HOSTS, spec->folder);
    const char *text = arena_printf(arena, "ssh -v -N -F none -o %s%s", quoted(arena, known),
                                    spec->key_file != NULL ? " -o IdentitiesOnly=yes -i KEY" : "");

    push_way(arena, spec, 15432, &way);
    for (size_t at = 0; at < way.len; at++)
        text = arena_printf(arena, "%s %s", text, quoted(arena, way.items[at]));
    return text;
}

/* ---- What its words mean ---- */

static bool is_noise(const char *line, size_t len) {
    return len == 0 || line[0] == '@' || strncmp(line, "Warning: Permanently added", MIN(len, (size_t)26)) == 0;
}

/* In one line: the last of it, which says how it ended. */
static const char *words_of(Arena *arena, const char *said) {
    CLEANUP(buf_fini) Buf text;

    buf_init(&text, 2 * TUNNEL_SAID_MAX);
    while (*said != '\0') {
        size_t len = strcspn(said, "\r\n");
        if (!is_noise(said, len)) {
            buf_append_str(&text, text.len > 0 ? "; " : "");
            buf_append(&text, said, len);
        }
        said += len + (said[len] != '\0');
    }
    for (size_t at = 0; at < text.len; at++)
        if ((unsigned char)text.data[at] < ' ' || text.data[at] == 0x7f)
            text.data[at] = ' ';
    size_t from = text.len > WORDS_MAX ? text.len - WORDS_MAX : 0;
    while (from > 0 && from < text.len && ((unsigned char)text.data[from] & 0xc0) == 0x80)
        from++;
    return text.len == 0 ? "ssh ended without a word"
                         : arena_printf(arena, "%s%s", from > 0 ? "... " : "", text.data + from);
}

/* "Offending ED25519 key in ssh_known_hosts:3" */
static long offending_line(const char *said) {
    const char *at = strstr(said, "Offending ");

    at = at != NULL ? strstr(at, KNOWN_HOSTS ":") : NULL;
    return at != NULL ? strtol(at + strlen(KNOWN_HOSTS ":"), NULL, 10) : 0;
}

static const char *through(Arena *arena, const TunnelSpec *spec) {
    return arena_printf(arena, "SSH tunnel to the %s %s:%lld through %s@%s:%lld", spec->side, spec->host,
                        (long long)spec->port, spec->user, spec->bastion, (long long)spec->bastion_port);
}

/* As ssh writes it into the file; there may be several lines, of sessions that met the bastion at the same time. */
static const char *known_name(Arena *arena, const TunnelSpec *spec) {
    const char *bastion = without_brackets(arena, spec->bastion);

    return spec->bastion_port == 22 ? bastion
                                    : arena_printf(arena, "[%s]:%lld", bastion, (long long)spec->bastion_port);
}

static void explain_host_key(Arena *arena, const TunnelSpec *spec, const char *said, Error *ret_why) {
    const char *file = arena_printf(arena, "%s/" KNOWN_HOSTS, spec->folder);
    long line = offending_line(said);

    if (line <= 0) {
        error_set(ret_why, REASON_TUNNEL_HOST_KEY, "%s: %s", through(arena, spec), words_of(arena, said));
        error_remedy(ret_why, "see what %s has of this host; by hand: %s", file, command_by_hand(arena, spec));
        return;
    }
    error_set(ret_why, REASON_TUNNEL_HOST_KEY,
              "%s: the bastion's host key is not the one that it showed at first, which is line %ld of %s",
              through(arena, spec), line, file);
    error_remedy(ret_why,
                 "somebody may be listening: ask whoever runs the bastion. If its key was changed, forget the old one:"
                 " ssh-keygen -R %s -f %s",
                 quoted(arena, known_name(arena, spec)), quoted(arena, file));
}

/* In the order in which they are looked for; retryable: as the reason has it, but for what a person has to change. */
static const struct {
    const char *words;
    ErrorReason reason;
    bool is_final;
} meanings[] = {
    {"REMOTE HOST IDENTIFICATION HAS CHANGED", REASON_TUNNEL_HOST_KEY, true},
    {"Host key verification failed", REASON_TUNNEL_HOST_KEY, true},
    {"Permission denied", REASON_TUNNEL_REFUSED, true},
    {"Too many authentication failures", REASON_TUNNEL_REFUSED, true},
    {"administratively prohibited", REASON_TUNNEL_FAILED, true},
};

void tunnel_explain(const TunnelSpec *spec, const char *said, Error *ret_why) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    ErrorReason reason = REASON_TUNNEL_FAILED;
    bool is_final = false;

    for (size_t at = COUNT_OF(meanings); at > 0; at--)
        if (strstr(said, meanings[at - 1].words) != NULL) {
            reason = meanings[at - 1].reason;
            is_final = meanings[at - 1].is_final;
        }
    if (reason == REASON_TUNNEL_HOST_KEY) {
        explain_host_key(arena, spec, said, ret_why);
        return;
    }
    error_set(ret_why, reason, "%s: %s", through(arena, spec), words_of(arena, said));
    ret_why->retryable = !is_final;
    error_remedy(ret_why, "by hand, where the service runs: %s", command_by_hand(arena, spec));
}

bool tunnel_port_was_taken(const char *said) {
    return strstr(said, "Address already in use") != NULL && strstr(said, "bind [127.0.0.1]") != NULL;
}
