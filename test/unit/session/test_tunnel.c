/* Tunnels: the command line of ssh, and what its words mean. No process is started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "session/tunnel.h"

#include <string.h>

static const TunnelSpec by_key = {
    .side = "source",
    .bastion = "bastion.example",
    .bastion_port = 2222,
    .user = "mover",
    .host = "db.internal",
    .port = 5433,
    .key_file = "/run/100%/key",
    .folder = "/var/lib/pg crane",
};

static const TunnelSpec by_password = {
    .side = "destination",
    .bastion = "[2001:db8::1]",
    .bastion_port = 22,
    .user = "it's me",
    .host = "fd00::5",
    .port = 5432,
    .password_file = "/run/password",
    .folder = "/state",
};

static int set_up(void **state) {
    *state = arena_new();
    return 0;
}

static int tear_down(void **state) {
    arena_free(*state);
    return 0;
}

/* All words with a blank behind each. */
static const char *joined(Arena *arena, const char *const *words) {
    const char *text = " ";

    for (; *words != NULL; words++)
        text = arena_printf(arena, "%s%s ", text, *words);
    return text;
}

static void assert_has(const char *text, const char *part) {
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

static void assert_lacks(const char *text, const char *part) {
    if (strstr(text, part) != NULL)
        fail_msg("\"%s\" is in: %s", part, text);
}

static void test_argv_by_key(void **state) {
    const char *text = joined(*state, tunnel_argv(*state, &by_key, "/usr/bin/ssh", 40001));
    static const char *const parts[] = {
        " /usr/bin/ssh -N -a -x -F none ",
        " -o ExitOnForwardFailure=yes ",
        " -o StrictHostKeyChecking=accept-new ",
        " -o UserKnownHostsFile=ssh_known_hosts ",
        " -o GlobalKnownHostsFile=/dev/null ",
        " -o IdentitiesOnly=yes ",
        " -o IdentityAgent=none ",
        " -o ControlMaster=no ",
        " -o ProxyCommand=none ",
        " -o ServerAliveInterval=15 ",
        " -o BatchMode=yes ",
        " -o PreferredAuthentications=publickey ",
        " -i /run/100%%/key ",
        " -L 127.0.0.1:40001:db.internal:5433 ",
        " -l mover -p 2222 -- bastion.example ",
    };

    for (size_t at = 0; at < COUNT_OF(parts); at++)
        assert_has(text, parts[at]);
    assert_lacks(text, "password");
    assert_lacks(text, "pg crane"); /* it is run there */
}

static void test_argv_by_password(void **state) {
    const char *text = joined(*state, tunnel_argv(*state, &by_password, "/bin/ssh", 40002));

    assert_has(text, " -o BatchMode=no ");
    assert_has(text, " -o PubkeyAuthentication=no ");
    assert_has(text, " -L 127.0.0.1:40002:[fd00::5]:5432 ");
    assert_has(text, " -l it's me -p 22 -- 2001:db8::1 ");
    assert_lacks(text, " -i ");
    assert_lacks(text, "/run/password");
}

static void test_environment(void **state) {
    const char *text = joined(*state, tunnel_environment(*state, &by_password, "/usr/bin/pgcrane"));

    assert_has(text, " SSH_ASKPASS=/usr/bin/pgcrane ");
    assert_has(text, " SSH_ASKPASS_REQUIRE=force ");
    assert_has(text, " PGCRANE_ASKPASS_FILE=/run/password ");
    text = joined(*state, tunnel_environment(*state, &by_key, "/usr/bin/pgcrane"));
    assert_has(text, " SSH_ASKPASS_REQUIRE=never ");
    assert_has(text, " SSH_AUTH_SOCK= ");
    assert_lacks(text, "ASKPASS_FILE");
}

static void test_json_and_back(void **state) {
    const TunnelSpec *specs[] = {&by_key, &by_password};

    for (size_t at = 0; at < COUNT_OF(specs); at++) {
        CLEANUP(json_freep) json_t *json = tunnel_spec_to_json(specs[at]);
        TunnelSpec back;
        tunnel_spec_from_json(*state, json, &back);
        CLEANUP(json_freep) json_t *again = tunnel_spec_to_json(&back);
        assert_true(json_equal(json, again));
        assert_int_equal(json_object_size(json), 8);
    }
}

/* ---- What ssh could take for something else ---- */

static void assert_refused(TunnelSpec spec, const char *part) {
    Error err;

    assert_false(tunnel_check(&spec, &err));
    assert_string_equal(error_reason_name(err.reason), "BAD_REQUEST");
    assert_has(err.message, part);
}

static void test_check(void **state UNUSED) {
    static const char *const words[] = {"", "-oProxyCommand=x", "a b", "a\nb", "a\tb", "a\x7f", "\x01"};
    static const char *const hosts[] = {"a/b", "u@h", "%h", "a,b"};
    Error err;
    TunnelSpec spec;

    assert_true(tunnel_check(&by_key, &err));
    spec = by_password;
    spec.user = "DOMAIN\\me";
    assert_true(tunnel_check(&spec, &err));
    for (size_t at = 0; at < COUNT_OF(words); at++) {
        spec = by_key;
        spec.user = words[at];
        assert_refused(spec, "username");
    }
    for (size_t at = 0; at < COUNT_OF(words) + COUNT_OF(hosts); at++) {
        const char *host = at < COUNT_OF(words) ? words[at] : hosts[at - COUNT_OF(words)];
        spec = by_key;
        spec.bastion = host;
        assert_refused(spec, "hostname");
        spec = by_key;
        spec.host = host;
        assert_refused(spec, ": host");
    }
}

static void test_no_way_to_log_in(void **state UNUSED) {
    TunnelSpec spec = by_key;
    Error err;

    spec.key_file = NULL;
    assert_false(tunnel_check(&spec, &err));
    assert_string_equal(error_reason_name(err.reason), "TUNNEL_REFUSED");
    assert_has(err.remedy, "privateKey");
}

/* ---- What it says ---- */

static const struct {
    const char *said, *reason;
    bool retryable;
    const char *part;
} sayings[] = {
    {"ssh: connect to host b port 22: Connection refused\r\n", "TUNNEL_FAILED", true, "Connection refused"},
    {"ssh: Could not resolve hostname b: Name or service not known\r\n", "TUNNEL_FAILED", true, "Could not resolve"},
    {"Warning: Permanently added 'b' (ED25519) to the list of known hosts.\r\nmover@b: Permission denied "
     "(publickey).\r\n",
     "TUNNEL_REFUSED", false, "2222: mover@b: Permission denied (publickey)."},
    {"Load key \"/run/key\": error in libcrypto\r\nmover@b: Permission denied (publickey).\r\n", "TUNNEL_REFUSED",
     false, "Load key \"/run/key\": error in libcrypto; mover@b"},
    {"Received disconnect from b port 22:2: Too many authentication failures\r\n", "TUNNEL_REFUSED", false, "Too many"},
    {"channel 1: open failed: administratively prohibited: no\r\n", "TUNNEL_FAILED", false, "prohibited"},
    {"channel 1: open failed: connect failed: Connection refused\r\n", "TUNNEL_FAILED", true, "connect failed"},
    {"", "TUNNEL_FAILED", true, "ssh ended without a word"},
    {"evil \x1b[31m\a\n", "TUNNEL_FAILED", true, "evil  [31m"},
};

static void test_explain(void **state UNUSED) {
    for (size_t at = 0; at < COUNT_OF(sayings); at++) {
        Error why;
        tunnel_explain(&by_key, sayings[at].said, &why);
        assert_string_equal(error_reason_name(why.reason), sayings[at].reason);
        assert_int_equal(why.retryable, sayings[at].retryable);
        assert_has(why.message, sayings[at].part);
        assert_has(why.message, "SSH tunnel to the source db.internal:5433 through mover@bastion.example:2222: ");
        assert_lacks(why.message, "Permanently added");
        assert_has(why.remedy, "ssh -v -N -F none -o 'UserKnownHostsFile=/var/lib/pg crane/ssh_known_hosts' -o"
                               " IdentitiesOnly=yes -i KEY -L 127.0.0.1:15432:db.internal:5433 -l mover -p 2222 --"
                               " bastion.example");
    }
}

static void test_quoting(void **state UNUSED) {
    Error why;

    tunnel_explain(&by_password, "no", &why);
    assert_has(why.remedy, " -l 'it'\\''s me' ");
    assert_lacks(why.remedy, "KEY");
}

static void test_host_key(void **state UNUSED) {
    Error why;

    tunnel_explain(&by_key,
                   "@@@@@@@@@@@@@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
                   "Add correct host key in ssh_known_hosts to get rid of this message.\r\n"
                   "Offending ED25519 key in ssh_known_hosts:12\r\n  remove with:\r\n"
                   "Host key verification failed.\r\n",
                   &why);
    assert_string_equal(error_reason_name(why.reason), "TUNNEL_HOST_KEY");
    assert_false(why.retryable);
    assert_has(why.message, "line 12 of /var/lib/pg crane/ssh_known_hosts");
    assert_has(why.remedy, "ssh-keygen -R '[bastion.example]:2222' -f '/var/lib/pg crane/ssh_known_hosts'");
    tunnel_explain(&by_password, "Offending RSA key in ssh_known_hosts:3\nHost key verification failed.\n", &why);
    assert_has(why.remedy, "ssh-keygen -R 2001:db8::1 -f /state/ssh_known_hosts");
    tunnel_explain(&by_key, "Host key verification failed.\r\n", &why);
    assert_string_equal(error_reason_name(why.reason), "TUNNEL_HOST_KEY");
    assert_has(why.remedy, "ssh_known_hosts");
}

/* As much as there may be of it: the end is kept, and whole characters. */
static void test_long_words(void **state) {
    const char *said = "";
    Error why;

    for (int at = 0; at < 500; at++)
        said = arena_printf(*state, "%s\xc3\xa9", said);
    said = arena_printf(*state, "%sthe end\n", said);
    tunnel_explain(&by_key, said, &why);
    assert_has(why.message, ": ... \xc3\xa9");
    assert_string_equal(why.message + strlen(why.message) - 7, "the end");
}

static void test_port_was_taken(void **state UNUSED) {
    assert_true(
        tunnel_port_was_taken("bind [127.0.0.1]:40001: Address already in use\r\nchannel_setup_fwd_listener_tcpip:"
                              " cannot listen to port: 40001\r\nCould not request local forwarding.\r\n"));
    assert_false(tunnel_port_was_taken("bind [10.0.0.1]:40001: Address already in use\r\n"));
    assert_false(tunnel_port_was_taken("ssh: connect to host b port 22: Connection refused\r\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_argv_by_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_argv_by_password, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_environment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_and_back, set_up, tear_down),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_no_way_to_log_in),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_host_key),
        cmocka_unit_test_setup_teardown(test_long_words, set_up, tear_down),
        cmocka_unit_test(test_port_was_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
