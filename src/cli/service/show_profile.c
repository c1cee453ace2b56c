/* Connection profiles. */
#include "cli/service/show.h"

#include <string.h>

static const json_t *server_of(const json_t *profile) {
    return json_get_object(profile, "postgresql");
}

/* "app@old.example:5432/shop"; of a server that the service makes, what it is. */
static const char *where(const Service *service, const json_t *profile) {
    const json_t *server = server_of(profile);
    const char *user = json_get_string(server, "username", ""), *database = json_get_string(server, "database", "");
    const char *host = json_get_string(server, "host", NULL);
    const char *id = json_get_string(server, "cloudSqlId", json_get_string(server, "alloydbClusterId", NULL));
    long long port = (long long)json_get_int(server, "port", 0);

    if (server == NULL)
        return json_get_object(profile, "cloudsql") != NULL  ? "an instance that the service makes"
               : json_get_object(profile, "alloydb") != NULL ? "a cluster that the service makes"
                                                             : NULL;
    const char *place = host != NULL ? host : id != NULL ? id : "?";
    const char *shown = arena_printf(service->arena, "%s%s%s", user, user[0] != '\0' ? "@" : "", place);
    if (port > 0)
        shown = arena_printf(service->arena, "%s:%lld", shown, port);
    return database[0] != '\0' ? arena_printf(service->arena, "%s/%s", shown, database) : shown;
}

static TableCell where_cell(const Service *service, const json_t *profile) {
    return (TableCell){.text = where(service, profile)};
}

/* Only what was said of it: SSL_TYPE_UNSPECIFIED is nothing. */
static const char *tls(const json_t *profile) {
    const char *type = json_get_string(json_get_object(server_of(profile), "ssl"), "type", NULL);

    return type != NULL && strcmp(type, "SSL_TYPE_UNSPECIFIED") == 0 ? NULL : type;
}

static TableCell tls_cell(const Service *service UNUSED, const json_t *profile) {
    return (TableCell){.text = tls(profile)};
}

static TableCell side_cell(const Service *service UNUSED, const json_t *profile) {
    return (TableCell){.text = json_get_string(profile, "role", NULL)};
}

static TableCell created_cell(const Service *service, const json_t *profile) {
    return (TableCell){.text = show_time(service, json_get_string(profile, "createTime", NULL)), .ink = INK_DIM};
}

const ShowColumn show_profile_columns[] = {
    {{.title = "Profile"}, show_id_cell}, {{.title = "State"}, show_state_cell}, {{.title = "Side"}, side_cell},
    {{.title = "Where"}, where_cell},     {{.title = "TLS"}, tls_cell},          {{.title = "Created"}, created_cell},
};
const size_t show_profile_columns_count = COUNT_OF(show_profile_columns);

/* "through app@bastion.example:22" */
static const char *tunnel(const Service *service, const json_t *profile) {
    const json_t *ssh = json_get_object(server_of(profile), "forwardSshConnectivity");

    if (ssh == NULL)
        return NULL;
    return arena_printf(service->arena, "%s@%s:%lld", json_get_string(ssh, "username", ""),
                        json_get_string(ssh, "hostname", ""), (long long)json_get_int(ssh, "port", 22));
}

void show_profile_facts(const Service *service, const json_t *profile, FactVec *facts) {
    const char *state = json_get_string(profile, "state", "");
    const char *set = json_get_bool(server_of(profile), "passwordSet", false) ? "set" : "none";

    show_fact(service, facts, "Profile", INK_BOLD, service_id(service, json_get_string(profile, "name", "")));
    show_fact(service, facts, "Title", INK_PLAIN, json_get_string(profile, "displayName", NULL));
    show_fact(service, facts, "State", show_state_ink(state), state);
    show_fact(service, facts, "Side", INK_PLAIN, json_get_string(profile, "role", NULL));
    show_fact(service, facts, "Provider", INK_PLAIN, json_get_string(profile, "provider", NULL));
    show_fact(service, facts, "Where", INK_PLAIN, where(service, profile));
    show_fact(service, facts, "Password", INK_PLAIN, server_of(profile) != NULL ? set : NULL);
    show_fact(service, facts, "TLS", INK_PLAIN, tls(profile));
    show_fact(service, facts, "SSH tunnel", INK_PLAIN, tunnel(service, profile));
    show_fact(service, facts, "Labels", INK_PLAIN, show_labels(service, profile));
    show_fact(service, facts, "Created", INK_PLAIN, show_time(service, json_get_string(profile, "createTime", NULL)));
    show_fact(service, facts, "Changed", INK_PLAIN, show_time(service, json_get_string(profile, "updateTime", NULL)));
    show_fact(service, facts, "Error", INK_RED, show_status(service, json_object_get(profile, "error")));
}
