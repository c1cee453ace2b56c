/* `pgcrane jobs passwords`: the new passwords of roles that a job has made, which the service gives out once. */
#include "cli/service/jobs.h"

#include "cli/service/show.h"

static void put_table(const Service *service, const json_t *list, Buf *out) {
    static const TableColumn columns[] = {{"ROLE", false}, {"PASSWORD", false}};
    const TableStyle style = {.utf8 = service->tty.utf8, .color = service->tty.color};
    TableCell *cells = arena_array(service->arena, TableCell, json_array_size(list) * COUNT_OF(columns) + 1);

    for (size_t at = 0; at < json_array_size(list); at++) {
        const json_t *item = json_array_get(list, at);

        cells[2 * at] = (TableCell){.text = json_get_string(item, "role", "")};
        cells[2 * at + 1] = (TableCell){.text = json_get_string(item, "password", "")};
    }
    table_render(out, &style, columns, COUNT_OF(columns), cells, json_array_size(list));
}

/* Never asked twice: the second answer would be that there are none. */
bool jobs_passwords(Service *service, Error *err) {
    CLEANUP(json_freep) json_t *answer = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    const char *name = NULL;

    if (!jobs_name(service, &name, err))
        return false;
    const char *question = arena_printf(service->arena, "Show the new passwords of job %s? The service forgets them.",
                                        service_id(service, name));
    const ClientRequest request = {
        .method = CLIENT_POST, .path = arena_printf(service->arena, "%s:fetchPasswords", name), .body = body};
    if (!service_confirm(service, question, err) || !client_send(service->client, &request, &answer, err))
        return false;
    if (service->format == OUTPUT_TABLE)
        put_table(service, json_get_array(answer, "passwords"), service->out);
    else
        show_data(service->format, json_object_get(answer, "passwords"), service->out);
    return true;
}
