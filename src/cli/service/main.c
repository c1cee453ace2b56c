/* From the command line to the service: options, token, signals; then the verb. */
#include "cli/service/main.h"

#include "cli/help.h"
#include "cli/output.h"
#include "cli/secret.h"
#include "cli/service/apply.h"
#include "cli/service/explain.h"
#include "cli/service/jobs.h"
#include "cli/service/service.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "common/fd.h"
#include "secrets/secret_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUTPUT_MAX = 256 * 1024 * 1024, TOKEN_MAX = 4096, PART_MAX = 100 };

/* --- what was said --- */

static bool read_format(const MigrateOptions *options, ServiceRun what, OutputFormat *ret_format, Error *err) {
    static const char *const names[] = {
        [OUTPUT_TABLE] = "table", [OUTPUT_JSON] = "json", [OUTPUT_YAML] = "yaml", [OUTPUT_HTML] = "html"};

    for (size_t at = 0; at < COUNT_OF(names); at++)
        if (strcmp(options->output, names[at]) == 0 && (at != OUTPUT_HTML || what == jobs_report)) {
            *ret_format = (OutputFormat)at;
            return true;
        }
    return error_set(err, REASON_USAGE, "--output: \"%.40s\" is not table, json or yaml", options->output);
}

/* A part of each path: what a URL holds without quoting. */
static bool check_part(const char *flag, const char *text, const char *more, Error *err) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    size_t good = 0;

    while (text[good] != '\0' && (strchr(letters, text[good]) != NULL || strchr(more, text[good]) != NULL))
        good++;
    if (text[0] != '\0' && text[0] != '.' && text[good] == '\0' && good <= PART_MAX)
        return true;
    return error_set(err, REASON_USAGE, "--%s: \"%.100s\" is not a name of letters, digits and hyphens", flag, text);
}

static bool read_parent(Arena *arena, const MigrateOptions *options, const char **ret_parent, Error *err) {
    if (!check_part("project", options->project, ".:", err) || !check_part("location", options->location, "", err))
        return false;
    *ret_parent = arena_printf(arena, "projects/%s/locations/%s", options->project, options->location);
    return true;
}

/* A flag wins over PGCRANE_TOKEN; the two variables exclude each other. */
static bool read_token(const Arguments *arguments, Secret *token, bool *ret_given, Error *err) {
    bool by_flag = false;

    for (size_t at = 0; at < arguments->settings.len; at++)
        by_flag = by_flag || (arguments->settings.items[at].by_flag &&
                              strcmp(arguments->settings.items[at].info->flag, "token-file") == 0);
    if (!by_flag)
        return secret_from_environment("PGCRANE_TOKEN", TOKEN_MAX, token, ret_given, err);
    *ret_given = true;
    unsetenv("PGCRANE_TOKEN");
    return secret_file_read_line(arguments->options.token_file, TOKEN_MAX, token, err) ||
           error_wrap(err, "--token-file");
}

static bool open_client(Service *service, Error *err) {
    CLEANUP(secret_wipe) Secret token = {0};
    bool given = false;

    if (!read_token(service->arguments, &token, &given, err))
        return false;
    const ClientConfig config = {
        .server = service->options->server,
        .token = given ? token.bytes : NULL,
        .ca_file = service->options->ca_file,
        .cancel_fd = service->cancel_fd,
    };
    return client_open(&config, &service->client, err);
}

/* --- running --- */

static void service_fini(Service *service) {
    client_closep(&service->client);
    fd_close(&service->cancel_fd);
}

static bool run(Service *service, const ServiceRun what, Error *err) {
    if (!read_format(service->options, what, &service->format, err) ||
        !read_parent(service->arena, service->options, &service->parent, err) ||
        !signals_open_stops(&service->cancel_fd, err) || !open_client(service, err))
        return false;
    service->tty = tty_probe(STDOUT_FILENO, service->options->no_color);
    return what(service, err) || service_explain(service, err);
}

/* Connection strings among the words may hold passwords, which `ps` is to show no longer than it has to. */
static void mask(int argc, char **argv) {
    for (int at = 1; at < argc; at++) {
        char *equals = strncmp(argv[at], "--", 2) == 0 ? strchr(argv[at], '=') : NULL;
        (void)secret_mask(equals != NULL ? equals + 1 : argv[at]);
    }
}

static bool choose(const Service *service, ServiceRun fixed, ServiceRun *ret_run, Error *err) {
    const Verb *verb = NULL;

    *ret_run = fixed;
    if (fixed != NULL)
        return true;
    if (!verb_find(service->arena, service->command, service->arguments, &verb, err))
        return false;
    *ret_run = verb->ask;
    return true;
}

/* `fixed` NULL: the verb decides. */
static int service_command(int argc, char **argv, ServiceRun fixed) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf out;
    Arguments arguments = {0};
    ServiceRun what = NULL;
    Error err;

    buf_init(&out, OUTPUT_MAX);
    CLEANUP(service_fini)
    Service service = {.arena = arena,
                       .command = command_find(argv[0]),
                       .arguments = &arguments,
                       .options = &arguments.options,
                       .cancel_fd = -1,
                       .out = &out};
    bool good = arguments_parse(arena, argc, argv, &arguments, &err);
    mask(argc, argv);
    if (good && arguments.help)
        return help_print(service.command->name);
    good = good && choose(&service, fixed, &what, &err) && run(&service, what, &err);
    if (good)
        return output_finish(&out);
    /* What was shown before it went wrong is still true. */
    Error lost;
    bool written UNUSED = out.len == 0 || output_results(&out, &lost);
    return output_error(&err);
}

int service_main(int argc, char **argv) {
    return service_command(argc, argv, NULL);
}

int apply_main(int argc, char **argv) {
    return service_command(argc, argv, apply_run);
}
