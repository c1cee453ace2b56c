/* What help, man pages, Markdown and completion share: labels of options and pieces of text, all pure. */
#pragma once

#include "common/arena.h"
#include "common/buf.h"
#include "model/options.h"

/* "PGCRANE_INDEX_JOBS" */
char *option_variable(Arena *arena, const OptionInfo *info);
/* "-j, --jobs=N"; without a letter the place of one stays empty. */
char *option_label(Arena *arena, const OptionInfo *info);
/* The default for people, NULL when there is none worth saying (flags, and values the help text explains). */
const char *option_default(const OptionInfo *info);

/* Appends `text` in lines of at most `width` columns, each indented; the first one is taken to stand at `column`. */
void text_wrap(Buf *out, const char *text, int column, int indent, int width);
/* As man(7) text: backslash, dash, quotes and a control character at the start of a line are made harmless. */
void man_escape(Buf *out, const char *text);
/* How each generated Markdown page begins. */
void markdown_title(Buf *out, const char *title, const char *about);
/* As a cell of a Markdown table: | and line breaks are made harmless, * and _ and < stay as they are read. */
void markdown_escape(Buf *out, const char *text);
