/* Results to standard output, errors to standard error. */
#include "cli/output.h"

#include "cli/report.h"
#include "common/fd.h"

#include <unistd.h>

enum { ERROR_TEXT_MAX = 16 * 1024 };

bool output_results(const Buf *text, Error *err) {
    if (!buf_ok(text, "the text", err))
        return false;
    if (!fd_write_all(STDOUT_FILENO, text->data, text->len, err))
        return error_wrap(err, "standard output");
    return true;
}

void output_json_line(Buf *out, WireType type, const json_t *body) {
    buf_printf(out, "{\"type\":\"%s\",\"body\":", wire_type_name(type));
    json_print(body, 0, out);
    buf_append_str(out, "}\n");
}

int output_error(const Error *err) {
    CLEANUP(buf_fini) Buf text;
    buf_init(&text, ERROR_TEXT_MAX);
    error_render(&text, err);
    Error lost;
    bool written UNUSED = fd_write_all(STDERR_FILENO, text.data, text.len, &lost); /* no place is left to say so */
    return error_reason_exit_code(err->reason);
}

int output_finish(const Buf *text) {
    Error err;
    if (!output_results(text, &err))
        return output_error(&err);
    return 0;
}
