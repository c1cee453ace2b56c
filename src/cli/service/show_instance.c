/* Instances, as people read them. */
#include "cli/service/show.h"

#include <string.h>

static const char *address(const Service *service, const json_t *instance) {
    const char *host = json_get_string(instance, "host", NULL);
    int64_t port = json_get_int(instance, "port", 0);

    return host != NULL ? arena_printf(service->arena, "%s:%lld", host, (long long)port) : NULL;
}

static TableCell version_cell(const Service *service UNUSED, const json_t *instance) {
    return (TableCell){.text = json_get_string(instance, "databaseVersion", NULL)};
}

static TableCell mode_cell(const Service *service UNUSED, const json_t *instance) {
    return (TableCell){.text = json_get_string(instance, "mode", NULL)};
}

static TableCell address_cell(const Service *service, const json_t *instance) {
    return (TableCell){.text = address(service, instance)};
}

static const char *trouble(const Service *service, const json_t *instance) {
    const char *error = json_get_string(json_get_object(instance, "error"), "message", NULL);
    const char *text = error != NULL ? error : json_get_string(instance, "trouble", NULL);

    return text != NULL ? arena_strndup(service->arena, text, strcspn(text, "\n")) : NULL;
}

static TableCell trouble_cell(const Service *service, const json_t *instance) {
    return (TableCell){.text = trouble(service, instance), .ink = INK_RED};
}

const ShowColumn show_instance_columns[] = {
    {{.title = "Instance"}, show_id_cell}, {{.title = "State"}, show_state_cell}, {{.title = "Mode"}, mode_cell},
    {{.title = "Version"}, version_cell},  {{.title = "Address"}, address_cell},  {{.title = "Trouble"}, trouble_cell},
};
const size_t show_instance_columns_count = COUNT_OF(show_instance_columns);

void show_instance_facts(const Service *service, const json_t *instance, FactVec *facts) {
    const char *state = json_get_string(instance, "state", "");
    const char *profile = json_get_string(instance, "connectionProfile", NULL);

    show_fact(service, facts, "Instance", INK_BOLD, service_id(service, json_get_string(instance, "name", "")));
    show_fact(service, facts, "State", show_state_ink(state), state);
    show_fact(service, facts, "Mode", INK_PLAIN, json_get_string(instance, "mode", NULL));
    show_fact(service, facts, "Version", INK_PLAIN, json_get_string(instance, "databaseVersion", NULL));
    show_fact(service, facts, "Address", INK_PLAIN, address(service, instance));
    show_fact(service, facts, "User", INK_PLAIN, json_get_string(instance, "username", NULL));
    show_fact(service, facts, "Profile", INK_PLAIN, profile != NULL ? service_id(service, profile) : NULL);
    show_fact(service, facts, "Made with", INK_PLAIN, json_get_string(instance, "provider", NULL));
    show_fact(service, facts, "Disk used", INK_PLAIN,
              json_get_string(instance, "diskUsedMb", NULL) == NULL
                  ? NULL
                  : arena_printf(service->arena, "%s MB", json_get_string(instance, "diskUsedMb", "")));
    show_fact(service, facts, "Created", INK_PLAIN, show_time(service, json_get_string(instance, "createTime", NULL)));
    show_fact(service, facts, "Trouble", INK_RED, json_get_string(instance, "trouble", NULL));
    show_fact(service, facts, "Error", INK_RED, show_status(service, json_object_get(instance, "error")));
}
