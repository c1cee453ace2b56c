/* What help, man pages, Markdown and completion share. */
#include "cli/doc_text.h"

#include <ctype.h>
#include <string.h>

char *option_variable(Arena *arena, const OptionInfo *info) {
    char *variable = arena_printf(arena, "PGCRANE_%s", info->flag);
    for (char *at = variable; *at != '\0'; at++)
        *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
    return variable;
}

char *option_label(Arena *arena, const OptionInfo *info) {
    char letter[8] = "    ";
    if (info->short_flag != 0) {
        letter[0] = '-';
        letter[1] = info->short_flag;
        letter[2] = ',';
    }
    return arena_printf(arena, "%s--%s%s%s", letter, info->flag, info->arg != NULL ? "=" : "",
                        info->arg != NULL ? info->arg : "");
}

const char *option_default(const OptionInfo *info) {
    if (info->kind == OPTION_FLAG || info->absent == NULL || strcmp(info->absent, "0") == 0)
        return NULL;
    return info->absent;
}

void text_wrap(Buf *out, const char *text, int column, int indent, int width) {
    bool line_is_empty = true;
    while (*text != '\0') {
        int len = (int)strcspn(text, " ");
        if (!line_is_empty && column + 1 + len > width) {
            buf_printf(out, "\n%*s", indent, "");
            column = indent;
            line_is_empty = true;
        }
        buf_printf(out, "%s%.*s", line_is_empty ? "" : " ", len, text);
        column += len + (line_is_empty ? 0 : 1);
        line_is_empty = false;
        text += len;
        text += strspn(text, " ");
    }
    buf_append_char(out, '\n');
}

static const char *man_replacement(char c) {
    switch (c) {
    case '\\':
        return "\\e";
    case '-':
        return "\\-";
    case '\'':
        return "\\(aq";
    case '`':
        return "\\(ga";
    case '^':
        return "\\(ha";
    case '~':
        return "\\(ti";
    default:
        return NULL;
    }
}

void man_escape(Buf *out, const char *text) {
    bool line_start = true;
    for (; *text != '\0'; text++) {
        if (line_start && *text == '.')
            buf_append_str(out, "\\&");
        const char *replacement = man_replacement(*text);
        if (replacement != NULL)
            buf_append_str(out, replacement);
        else
            buf_append_char(out, *text);
        line_start = *text == '\n';
    }
}

void markdown_escape(Buf *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (strchr("|*_<\\", *text) != NULL)
            buf_append_char(out, '\\');
        buf_append_char(out, *text == '\n' ? ' ' : *text);
    }
}
