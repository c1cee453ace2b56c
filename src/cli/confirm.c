/* The question before something is destroyed. */
#include "cli/confirm.h"

#include "common/fd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { QUESTION_MAX = 1024 * 1024, ANSWER_MAX = 80 };

static void show_question(const ConfirmInput *input, const json_t *body, const char *last_line) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, QUESTION_MAX);
    buf_printf(&text, "%s\n", text_clean(arena, json_get_string(body, "title", "")));
    size_t index;
    const json_t *line;
    json_array_foreach(json_get_array(body, "lines"), index, line) {
        if (json_is_string(line))
            buf_printf(&text, "  %s\n", text_clean(arena, json_string_value(line)));
    }
    buf_append_str(&text, last_line);
    screen_clear(input->screen);
    Error lost;
    bool written UNUSED = fd_write_all(STDERR_FILENO, text.data, text.len, &lost);
}

/* Waits for a line to be typed; false when a signal or the worker's end came first. */
static bool wait_for_line(const ConfirmInput *input) {
    struct pollfd fds[] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = input->signal_fd, .events = POLLIN},
        {.fd = input->worker_fd, .events = 0}, /* POLLHUP alone: messages can wait */
    };
    while (poll(fds, COUNT_OF(fds), -1) < 0)
        if (errno != EINTR)
            return false;
    return fds[1].revents == 0 && fds[2].revents == 0;
}

static bool ask(const ConfirmInput *input, const json_t *body) {
    show_question(input, body, "Type yes to go on: ");
    char answer[ANSWER_MAX] = "";
    ssize_t len = 0;
    if (wait_for_line(input))
        len = read(STDIN_FILENO, answer, sizeof(answer) - 1);
    Error lost;
    if (len <= 0) {
        bool written UNUSED = fd_write_all(STDERR_FILENO, "\n", 1, &lost);
        return false;
    }
    answer[strcspn(answer, "\r\n")] = '\0';
    return strcmp(answer, "yes") == 0;
}

bool confirm_answer(const ConfirmInput *input, const json_t *body) {
    if (input->options->yes) {
        if (!input->options->json && !input->options->quiet)
            show_question(input, body, "(agreed to by --yes)\n");
        return true;
    }
    if (!input->options->json && isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1)
        return ask(input, body);
    show_question(input, body, "Not done: there is nobody to ask here. To agree beforehand add --yes\n");
    return false;
}
