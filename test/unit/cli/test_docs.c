/* Generated documentation is complete: every row of every table is in it; and text cannot break its format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/commands.h"
#include "cli/doc_text.h"
#include "cli/docs.h"
#include "cli/exit_codes.h"
#include "cli/help.h"
#include "model/job_state.h"
#include "model/progress.h"

#include <string.h>

static void check_has(const Buf *text, const char *part) {
    if (strstr(text->data, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text->data);
}

static void test_man_escape(void **state UNUSED) {
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"--jobs", "\\-\\-jobs"},
        {"a\\b", "a\\eb"},
        {".TH", "\\&.TH"},
        {"a.b", "a.b"},
        {"a\n.B x", "a\n\\&.B x"},
        {"'quoted'", "\\(aqquoted\\(aq"},
        {"~/x^`", "\\(ti/x\\(ha\\(ga"},
        {"", ""},
    };
    for (size_t at = 0; at < COUNT_OF(cases); at++) {
        CLEANUP(buf_fini) Buf out;
        buf_init(&out, 1000);
        man_escape(&out, cases[at][0]);
        assert_string_equal(out.data, cases[at][1]);
    }
}

static void test_markdown_escape(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1000);
    markdown_escape(&out, "a|b *x* <c>\nd");
    assert_string_equal(out.data, "a\\|b \\*x\\* \\<c> d");
}

static void test_wrap(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1000);
    text_wrap(&out, "aaa bbb ccc averyveryverylongword d", 0, 2, 9);
    assert_string_equal(out.data, "aaa bbb\n  ccc\n  averyveryverylongword\n  d\n");
}

static void test_option_labels(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    OptionInfo info = {.flag = "index-jobs", .arg = "N"};
    assert_string_equal(option_label(arena, &info), "    --index-jobs=N");
    assert_string_equal(option_variable(arena, &info), "PGCRANE_INDEX_JOBS");
    info = (OptionInfo){.flag = "yes", .short_flag = 'y'};
    assert_string_equal(option_label(arena, &info), "-y, --yes");
}

/* Where an option belongs, and nowhere else. */
static void check_option(const Buf *page, const char *word, bool wanted) {
    const char *at = strstr(page->data, word);
    size_t len = strlen(word);
    while (at != NULL && (at[len] == '-' || at[len] == '\\')) /* --table is no --table-more */
        at = strstr(at + len, word);
    if ((at != NULL) != wanted)
        fail_msg("\"%s\" is %s:\n%s", word, wanted ? "missing in" : "in", page->data);
}

static void test_every_option_is_where_it_belongs(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    for (size_t command = 0; command < commands_count; command++) {
        if (commands[command].takes == NULL)
            continue;
        CLEANUP(buf_fini) Buf page;
        CLEANUP(buf_fini) Buf help;
        buf_init(&page, 1024 * 1024);
        buf_init(&help, 1024 * 1024);
        assert_true(docs_render(&page, arena_printf(arena, "man-%s", commands[command].name)));
        help_command(&help, &commands[command]);
        for (size_t at = 0; at < option_infos_count; at++) {
            CLEANUP(buf_fini) Buf flag;
            buf_init(&flag, 1000);
            const OptionInfo *info = &option_infos[at];
            bool wanted = command_takes(&commands[command], info);
            man_escape(&flag, arena_printf(arena, "--%s%s%s", info->flag, info->arg != NULL ? "=" : "\n",
                                           info->arg != NULL ? info->arg : ""));
            if (wanted)
                check_has(&page, flag.data);
            check_option(&help, arena_printf(arena, "  %s", option_label(arena, info)), wanted);
        }
    }
}

/* Nothing tells of a hidden command, nor of what only such a one takes. */
static bool is_of_shown_command(const OptionInfo *info) {
    for (size_t command = 0; command < commands_count; command++)
        if (!commands[command].hidden && command_takes(&commands[command], info))
            return true;
    return false;
}

static void test_every_option_is_in(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    static const char *const pages[] = {"options", "bash-completion"};
    for (size_t page = 0; page < COUNT_OF(pages); page++) {
        CLEANUP(buf_fini) Buf out;
        buf_init(&out, 1024 * 1024);
        assert_true(docs_render(&out, pages[page]));
        for (size_t at = 0; at < option_infos_count; at++)
            if (is_of_shown_command(&option_infos[at]))
                check_has(&out, arena_printf(arena, "--%s", option_infos[at].flag));
            else
                check_option(&out, arena_printf(arena, "--%s=", option_infos[at].flag), false);
    }
}

/* A misspelt group or flag in a command's list would take nothing, silently. */
static void test_what_commands_take_is_there(void **state UNUSED) {
    for (size_t command = 0; command < commands_count; command++) {
        const char *const *word = commands[command].takes;
        for (; word != NULL && *word != NULL; word++) {
            bool found = option_find(*word) != NULL;
            for (size_t at = 0; at < option_infos_count; at++)
                found = found || strcmp(option_infos[at].group, *word) == 0;
            if (!found)
                fail_msg("%s takes %s, which there is not", commands[command].name, *word);
        }
    }
}

static void test_every_reason_is_in(void **state UNUSED) {
    CLEANUP(buf_fini) Buf page;
    CLEANUP(buf_fini) Buf help;
    buf_init(&page, 1024 * 1024);
    buf_init(&help, 1024 * 1024);
    assert_true(docs_render(&page, "errors"));
    assert_true(help_topic(&help, "errors"));
    for (ErrorReason reason = 0; reason < REASON_MAX_; reason++) {
        check_has(&page, error_reason_name(reason));
        check_has(&help, error_reason_name(reason));
    }
}

static void test_every_exit_code_is_explained(void **state UNUSED) {
    for (ErrorReason reason = 0; reason < REASON_MAX_; reason++) {
        size_t found = 0;
        for (size_t at = 0; at < exit_code_infos_count; at++)
            found += exit_code_infos[at].code == error_reason_exit_code(reason) ? 1 : 0;
        if (found != 1)
            fail_msg("exit code %d of %s is explained %zu times", error_reason_exit_code(reason),
                     error_reason_name(reason), found);
    }
}

static void test_every_command_is_in(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1024 * 1024);
    help_overview(&out);
    assert_true(docs_render(&out, "man"));
    for (size_t at = 0; at < commands_count; at++)
        if (!commands[at].hidden)
            check_has(&out, commands[at].help);
}

static void test_every_transition_is_in(void **state UNUSED) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf page;
    buf_init(&page, 1024 * 1024);
    assert_true(docs_render(&page, "job-states"));
    for (size_t at = 0; at < job_transitions_count; at++) {
        const JobTransition *row = &job_transitions[at];
        check_has(&page, arena_printf(arena, "| `%s` | %s |\n", job_action_name(row->action), row->comment));
        assert_true(row->guard == NULL || job_guard_name(row->guard)[0] != '\0');
    }
    for (JobEvent event = 0; event < EVENT_MAX_; event++)
        check_has(&page, job_event_meaning(event));
    check_has(&page, "| `STOPPED/CDC` | refused | met | `RESUMING/CDC` |");
    check_has(&page, "| `CREATING` | `FATAL` | | `FAILED` |");
    check_has(&page, "| `FAILED` | `USER_RESUME` | `UNPREPARED` | `CREATING` | `PREPARE` |");
    assert_string_equal(job_guard_name(NULL), "");
}

static void test_help_fits_80_columns(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1024 * 1024);
    help_overview(&out);
    help_command(&out, command_find("help"));
    assert_true(help_topic(&out, "exit-codes"));
    assert_true(help_topic(&out, "environment"));
    assert_true(help_topic(&out, "errors"));
    for (const char *line = out.data; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        if (len > 80)
            fail_msg("%zu columns: %.*s", len, (int)len, line);
        line += len + (line[len] == '\n' ? 1 : 0);
    }
}

static void test_unknown_pages(void **state UNUSED) {
    CLEANUP(buf_fini) Buf out;
    buf_init(&out, 1000);
    assert_false(docs_render(&out, "novel"));
    assert_false(docs_render(&out, "man-novel"));
    assert_false(docs_render(&out, "man-version"));
    assert_false(help_topic(&out, "weather"));
    assert_null(command_find("fly"));
    assert_int_equal(out.len, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_man_escape),
        cmocka_unit_test(test_markdown_escape),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_option_labels),
        cmocka_unit_test(test_every_option_is_in),
        cmocka_unit_test(test_every_option_is_where_it_belongs),
        cmocka_unit_test(test_what_commands_take_is_there),
        cmocka_unit_test(test_every_reason_is_in),
        cmocka_unit_test(test_every_exit_code_is_explained),
        cmocka_unit_test(test_every_command_is_in),
        cmocka_unit_test(test_every_transition_is_in),
        cmocka_unit_test(test_help_fits_80_columns),
        cmocka_unit_test(test_unknown_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
