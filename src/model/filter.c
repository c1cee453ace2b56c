/* A filter: read by descent into a tree, asked once for each resource. */
#include "model/filter.h"

#include "model/message_path.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef enum NodeKind { NODE_AND, NODE_OR, NODE_NOT, NODE_TEST } NodeKind;

typedef enum Operator { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_HAS } Operator;

/* The longer ones first: the first that fits is taken. */
static const struct {
    const char *text;
    Operator op;
} operators[] = {{"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"=", OP_EQ}, {"<", OP_LT}, {">", OP_GT}, {":", OP_HAS}};

struct Filter {
    NodeKind kind;
    const Filter *left, *right; /* right: of AND and OR only */
    const char *path;           /* of a test */
    Operator op;
    const char *value;
    bool quoted; /* `*` at an end of a quoted text stands for anything, too; a bare * alone for "is there" */
};

typedef struct Parser {
    Arena *arena;
    const char *start, *at;
    int depth;
    Error *err;
} Parser;

static const Filter *parse_expression(Parser *parser);

static const Filter *fail(const Parser *parser, const char *expected) {
    error_set(parser->err, REASON_USAGE, "filter: %s expected at character %zu, before \"%.20s\"", expected,
              (size_t)(parser->at - parser->start) + 1, parser->at);
    error_remedy(parser->err, "such as: state = RUNNING AND displayName = \"orders*\"");
    return NULL;
}

static void skip_blanks(Parser *parser) {
    parser->at += strspn(parser->at, " \t\r\n");
}

static const Filter *node(const Parser *parser, NodeKind kind, const Filter *left, const Filter *right) {
    Filter *made = arena_new_of(parser->arena, Filter);

    *made = (Filter){.kind = kind, .left = left, .right = right};
    return made;
}

static bool is_word_char(char c) {
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80 || strchr("_.-+*/@%", c) != NULL;
}

/* A keyword, as a whole word. */
static bool take_word(Parser *parser, const char *word) {
    size_t len = strlen(word);

    skip_blanks(parser);
    if (strncmp(parser->at, word, len) != 0 || (parser->at[len] != '\0' && is_word_char(parser->at[len])))
        return false;
    parser->at += len;
    return true;
}

static bool take_operator(Parser *parser, Operator *ret_op) {
    skip_blanks(parser);
    for (size_t i = 0; i < COUNT_OF(operators); i++) {
        size_t len = strlen(operators[i].text);

        if (strncmp(parser->at, operators[i].text, len) == 0) {
            parser->at += len;
            *ret_op = operators[i].op;
            return true;
        }
    }
    return false;
}

/* "..." or '...', with \ before what is meant literally. */
static const char *take_quoted(Parser *parser) {
    char quote = *parser->at++;
    char *text = arena_alloc(parser->arena, strlen(parser->at) + 1);
    size_t len = 0;

    while (*parser->at != quote) {
        if (*parser->at == '\\' && parser->at[1] != '\0')
            parser->at++;
        if (*parser->at == '\0')
            return NULL;
        text[len++] = *parser->at++;
    }
    parser->at++;
    return text;
}

static const char *take_bare(Parser *parser) {
    size_t len = 0;

    while (parser->at[len] != '\0' && is_word_char(parser->at[len]))
        len++;
    /* a time has colons: 2026-11-28T12:00:00Z */
    while (len > 0 && parser->at[len] == ':' && isdigit((unsigned char)parser->at[0]) &&
           isdigit((unsigned char)parser->at[len + 1]))
        for (len++; parser->at[len] != '\0' && is_word_char(parser->at[len]);)
            len++;
    if (len == 0)
        return NULL;
    const char *text = arena_strndup(parser->arena, parser->at, len);
    parser->at += len;
    return text;
}

/* Each name of the path in lowerCamelCase; a quoted name (a label's) as it is. */
static const char *take_path(Parser *parser) {
    size_t len = strspn(parser->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    char camel[FIELD_NAME_MAX];

    if (len == 0 || !isalpha((unsigned char)parser->at[0]))
        return NULL;
    const char *path = arena_strndup(parser->arena, parser->at, len);
    parser->at += len;
    bool is_label = strncmp(path, "labels.", 7) == 0;
    return is_label || !field_camel(path, len, camel) ? path : arena_strdup(parser->arena, camel);
}

static const Filter *parse_test(Parser *parser) {
    Filter *test = arena_new_of(parser->arena, Filter);

    *test = (Filter){.kind = NODE_TEST, .path = take_path(parser)};
    if (test->path == NULL)
        return fail(parser, "a field's name");
    if (!take_operator(parser, &test->op))
        return fail(parser, "an operator");
    skip_blanks(parser);
    test->quoted = *parser->at == '"' || *parser->at == '\'';
    test->value = test->quoted ? take_quoted(parser) : take_bare(parser);
    return test->value == NULL ? fail(parser, test->quoted ? "a closing quote" : "a value") : test;
}

static const Filter *parse_simple(Parser *parser) {
    skip_blanks(parser);
    if (*parser->at != '(')
        return parse_test(parser);
    parser->at++;
    const Filter *inner = parse_expression(parser);
    skip_blanks(parser);
    if (inner == NULL)
        return NULL;
    if (*parser->at != ')')
        return fail(parser, "a closing parenthesis");
    parser->at++;
    return inner;
}

static const Filter *parse_term(Parser *parser) {
    bool negated = take_word(parser, "NOT");

    if (!negated && *parser->at == '-') {
        parser->at++;
        negated = true;
    }
    const Filter *simple = parse_simple(parser);
    return simple != NULL && negated ? node(parser, NODE_NOT, simple, NULL) : simple;
}

static const Filter *parse_factor(Parser *parser) {
    const Filter *left = parse_term(parser);

    while (left != NULL && take_word(parser, "OR")) {
        const Filter *right = parse_term(parser);
        left = right == NULL ? NULL : node(parser, NODE_OR, left, right);
    }
    return left;
}

static const Filter *parse_expression(Parser *parser) {
    if (++parser->depth > FILTER_DEPTH_MAX)
        return fail(parser, "an end of parentheses");
    const Filter *left = parse_factor(parser);
    for (;;) {
        skip_blanks(parser);
        if (left == NULL || *parser->at == '\0' || *parser->at == ')')
            break;
        (void)take_word(parser, "AND");
        const Filter *right = parse_factor(parser);
        left = right == NULL ? NULL : node(parser, NODE_AND, left, right);
    }
    parser->depth--;
    return left;
}

bool filter_parse(Arena *arena, const char *text, const Filter **ret_filter, Error *err) {
    Parser parser = {.arena = arena, .start = text, .at = text, .err = err};

    if (strlen(text) > FILTER_TEXT_MAX)
        return error_set(err, REASON_USAGE, "filter: longer than %d bytes", FILTER_TEXT_MAX);
    skip_blanks(&parser);
    if (*parser.at == '\0') {
        *ret_filter = NULL;
        return true;
    }
    const Filter *filter = parse_expression(&parser);
    if (filter == NULL)
        return false;
    if (*parser.at != '\0')
        return fail(&parser, "the end") != NULL;
    *ret_filter = filter;
    return true;
}

/* ---- Asking ---- */

static const json_t *find(const json_t *resource, const char *path) {
    while (resource != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");
        char name[FIELD_NAME_MAX];

        if (len == 0 || len >= sizeof(name) || !json_is_object(resource))
            return NULL;
        memcpy(name, path, len);
        name[len] = '\0';
        resource = json_object_get(resource, name);
        path += len + (path[len] == '.');
    }
    return json_is_null(resource) ? NULL : resource;
}

static bool to_number(const char *text, double *ret_number) {
    char *end = NULL;

    if (!isdigit((unsigned char)text[0]) && text[0] != '-' && text[0] != '+' && text[0] != '.')
        return false;
    *ret_number = strtod(text, &end);
    return end != text && *end == '\0';
}

/* "ord*", "*ers", "*de*" */
static bool fits_wildcard(const char *text, const char *pattern) {
    size_t len = strlen(pattern);
    bool open_start = len > 0 && pattern[0] == '*';
    bool open_end = len > (open_start ? 1U : 0U) && pattern[len - 1] == '*';
    const char *core = pattern + open_start;
    size_t core_len = len - open_start - open_end;
    size_t text_len = strlen(text);

    if (text_len < core_len)
        return false;
    if (!open_start)
        return strncmp(text, core, core_len) == 0 && (open_end || text_len == core_len);
    if (!open_end)
        return memcmp(text + text_len - core_len, core, core_len) == 0;
    return memmem(text, text_len, core, core_len) != NULL;
}

/* Times of the same form sort as text, but for fractions of differing length and the Z behind them. */
static int compare_text(const char *a, const char *b) {
    while (*a == *b && *a != '\0')
        a++, b++;
    if (*a == 'Z' && *b == '.')
        return -1;
    if (*a == '.' && *b == 'Z')
        return 1;
    if (*a == 'Z' && isdigit((unsigned char)*b))
        return -1;
    if (*b == 'Z' && isdigit((unsigned char)*a))
        return 1;
    return (unsigned char)*a - (unsigned char)*b;
}

/* -2: they cannot be compared. */
static int compare(const json_t *field, const char *value) {
    double number = 0, own = 0;

    if (json_is_boolean(field))
        return strcasecmp(value, json_is_true(field) ? "true" : "false") == 0 ? 0 : -2;
    bool is_text = json_is_string(field);
    if (!is_text && !json_is_number(field))
        return -2;
    bool is_number = is_text ? to_number(json_string_value(field), &own) : true;
    if (!is_text)
        own = json_number_value(field);
    if (is_number && to_number(value, &number))
        return own < number ? -1 : own > number;
    if (!is_text)
        return -2;
    int difference = compare_text(json_string_value(field), value);
    return difference < 0 ? -1 : difference > 0;
}

static bool is_equal(const json_t *field, const char *value) {
    if (json_is_string(field) && strchr(value, '*') != NULL)
        return fits_wildcard(json_string_value(field), value);
    return compare(field, value) == 0;
}

static bool has(const json_t *field, const char *value) {
    size_t index = 0;
    const json_t *item = NULL;

    if (strcmp(value, "*") == 0)
        return true;
    if (json_is_object(field))
        return json_object_get(field, value) != NULL;
    if (json_is_string(field))
        return strchr(value, '*') != NULL ? fits_wildcard(json_string_value(field), value)
                                          : strcasestr(json_string_value(field), value) != NULL;
    json_array_foreach(field, index, item) if (is_equal(item, value)) return true;
    return compare(field, value) == 0;
}

static bool passes(const Filter *test, const json_t *resource) {
    const json_t *field = find(resource, test->path);

    if (field == NULL)
        return test->op == OP_NE;
    int order = compare(field, test->value);
    switch (test->op) {
    case OP_EQ:
        return is_equal(field, test->value);
    case OP_NE:
        return !is_equal(field, test->value);
    case OP_LT:
        return order == -1;
    case OP_LE:
        return order == -1 || order == 0;
    case OP_GT:
        return order == 1;
    case OP_GE:
        return order == 1 || order == 0;
    case OP_HAS:
        return has(field, test->value);
    }
    UNREACHABLE();
}

bool filter_matches(const Filter *filter, const json_t *resource) {
    if (filter == NULL)
        return true;
    switch (filter->kind) {
    case NODE_AND:
        return filter_matches(filter->left, resource) && filter_matches(filter->right, resource);
    case NODE_OR:
        return filter_matches(filter->left, resource) || filter_matches(filter->right, resource);
    case NODE_NOT:
        return !filter_matches(filter->left, resource);
    case NODE_TEST:
        return passes(filter, resource);
    }
    UNREACHABLE();
}

/* ---- Order ---- */

int order_by_parse(Arena *arena, const char *text, OrderBy ret_order[ORDER_MAX], Error *err) {
    Parser parser = {.arena = arena, .start = text, .at = text, .err = err};
    int count = 0;

    for (skip_blanks(&parser); *parser.at != '\0'; skip_blanks(&parser)) {
        const char *path = count < ORDER_MAX ? take_path(&parser) : NULL;

        if (path != NULL) {
            bool descending = take_word(&parser, "desc");
            if (!descending)
                (void)take_word(&parser, "asc");
            ret_order[count++] = (OrderBy){path, descending};
            skip_blanks(&parser);
        }
        if (path == NULL || (*parser.at != ',' && *parser.at != '\0')) {
            error_set(err, REASON_USAGE,
                      "orderBy: at most %d fields, each with asc or desc, and commas between: \"%.40s\"", ORDER_MAX,
                      text);
            error_remedy(err, "such as: createTime desc, name");
            return -1;
        }
        parser.at += *parser.at == ',';
    }
    return count;
}

static int compare_fields(const json_t *a, const json_t *b) {
    if (a == NULL || b == NULL)
        return (a != NULL) - (b != NULL);
    if (json_is_number(a) && json_is_number(b))
        return (json_number_value(a) > json_number_value(b)) - (json_number_value(a) < json_number_value(b));
    if (json_is_string(a) && json_is_string(b))
        return compare_text(json_string_value(a), json_string_value(b));
    return json_is_true(a) - json_is_true(b);
}

int order_by_compare(const OrderBy *order, int count, const json_t *a, const json_t *b) {
    for (int i = 0; i < count; i++) {
        int difference = compare_fields(find(a, order[i].field), find(b, order[i].field));

        if (difference != 0)
            return order[i].descending ? -difference : difference;
    }
    return 0;
}
