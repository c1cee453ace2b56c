/*
 * Expressions of the catalogue, compared without what a dump and restore may change in their text.
 *
 * What is printed and read again is not always printed as it was. Versions 10 to 18 move these, and nothing else:
 * - A cast of a whole array, as (ARRAY['a'::varchar, b])::text[] of status IN ('a', b), goes to its elements:
 *   ARRAY[('a'::varchar)::text, (b)::text]. Here it goes there, too. So come and go parentheses around one operand,
 *   which mean nothing; those that hold an operation together do, and stay.
 * - An AND that is the left side of an AND becomes a part of it (a BETWEEN 1 AND 2 AND b); so does an OR in an OR.
 * - What XMLSERIALIZE does without INDENT is written NO INDENT from 16 on.
 * - Constants of floats and bits: drift_literal.c.
 * All else stays, casts too: now() is not now()::date. What is left must be equal word by word.
 */
#include "engine/ddl/drift_internal.h"

#include "engine/schema/sqlscan.h"

#include <string.h>

typedef struct Piece {
    SqlToken token;
    size_t partner; /* of a bracket: the other one; else itself */
    bool is_dropped;
} Piece;
typedef VEC(Piece) Pieces;

/* A cast that elements of an array get, and behind it those of what is around the array. */
typedef struct Cast {
    size_t from, to;
    const struct Cast *next;
} Cast;

static bool is_symbol(const Pieces *pieces, size_t i, char symbol) {
    return i < pieces->len && sql_token_is_symbol(&pieces->items[i].token, symbol);
}

static bool is_word(const Pieces *pieces, size_t i, const char *word) {
    return i < pieces->len && sql_token_is_word(&pieces->items[i].token, word);
}

static bool is_one_of(const Pieces *pieces, size_t i, const char *const *words, size_t count) {
    for (size_t w = 0; w < count; w++)
        if (is_word(pieces, i, words[w]))
            return true;
    return false;
}

/* ---- Tokens and brackets ---- */

static void pair(Pieces *pieces, size_t *open, size_t *depth, size_t i) {
    if (is_symbol(pieces, i, '(') || is_symbol(pieces, i, '[')) {
        open[(*depth)++] = i;
    } else if ((is_symbol(pieces, i, ')') || is_symbol(pieces, i, ']')) && *depth > 0) {
        size_t other = open[--*depth];

        if (is_symbol(pieces, other, '(') == is_symbol(pieces, i, ')')) {
            pieces->items[other].partner = i;
            pieces->items[i].partner = other;
        }
    }
}

static Pieces split(Arena *arena, const char *text) {
    SqlScanner scanner = {.pos = text};
    Pieces pieces = {0};
    size_t depth = 0;

    for (;;) {
        Piece piece = {.token = sql_next_token(&scanner), .partner = pieces.len};

        if (piece.token.kind == SQL_TOKEN_END)
            break;
        vec_push(arena, &pieces, piece);
    }
    size_t *open = arena_array(arena, size_t, pieces.len + 1);
    for (size_t i = 0; i < pieces.len; i++)
        pair(&pieces, open, &depth, i);
    return pieces;
}

static size_t skip_dropped(const Pieces *pieces, size_t i) {
    while (i < pieces->len && pieces->items[i].is_dropped)
        i++;
    return i;
}

static size_t next_of(const Pieces *pieces, size_t i) {
    return skip_dropped(pieces, i + 1);
}

/* The piece before i that counts, SIZE_MAX = none. */
static size_t before(const Pieces *pieces, size_t i) {
    while (i > 0)
        if (!pieces->items[--i].is_dropped)
            return i;
    return SIZE_MAX;
}

static bool is_group(const Pieces *pieces, size_t i) {
    return is_symbol(pieces, i, '(') && pieces->items[i].partner > i && !pieces->items[i].is_dropped;
}

static void drop_group(Pieces *pieces, size_t open) {
    pieces->items[open].is_dropped = true;
    pieces->items[pieces->items[open].partner].is_dropped = true;
}

/* ---- Types ---- */

/* Words that go on with a type's name after its first word. */
static bool continues_type(const SqlToken *token, const SqlScanner *after) {
    SqlToken next = sql_peek_token(after);

    if (sql_token_is_word(token, "VARYING") || sql_token_is_word(token, "PRECISION"))
        return true;
    if (sql_token_is_word(token, "WITH") || sql_token_is_word(token, "WITHOUT"))
        return sql_token_is_word(&next, "TIME");
    return sql_token_is_word(token, "TIME") || sql_token_is_word(token, "ZONE");
}

/* After "::": the name, then its modifiers. */
static void skip_type(SqlScanner *scanner) {
    const char *text;
    size_t len;

    if (!sql_accept_name(scanner, &text, &len))
        return;
    for (;;) {
        SqlScanner ahead = *scanner;
        SqlToken token = sql_next_token(&ahead);

        if (sql_token_is_symbol(&token, '(') && sql_peek_token(&ahead).kind == SQL_TOKEN_NUMBER) {
            while (token.kind != SQL_TOKEN_END && !sql_token_is_symbol(&token, ')'))
                token = sql_next_token(&ahead);
        } else if (sql_token_is_symbol(&token, '[')) {
            if (!sql_accept_symbol(&ahead, ']'))
                return;
        } else if (token.kind != SQL_TOKEN_WORD || !continues_type(&token, &ahead)) {
            return;
        }
        *scanner = ahead;
    }
}

/* Behind the cast that begins at i; i when there is none. */
static size_t behind_cast(const Pieces *pieces, size_t i) {
    if (!is_symbol(pieces, i, ':') || !is_symbol(pieces, i + 1, ':') || i + 2 >= pieces->len)
        return i;
    SqlScanner scanner = {.pos = pieces->items[i + 2].token.text};
    size_t end = i + 2;

    skip_type(&scanner);
    while (end < pieces->len && pieces->items[end].token.text < scanner.pos)
        end++;
    return end;
}

/* ---- Parentheses around one operand ---- */

/* CASE ... END has no parentheses of its own. */
static size_t behind_case(const Pieces *pieces, size_t i) {
    size_t depth = 0;

    for (; i < pieces->len; i = next_of(pieces, i)) {
        if (pieces->items[i].partner > i)
            i = pieces->items[i].partner;
        else if (is_word(pieces, i, "CASE"))
            depth++;
        else if (is_word(pieces, i, "END") && --depth == 0)
            return next_of(pieces, i);
        else if (pieces->items[i].partner < i)
            break;
    }
    return i;
}

/* A name with its dots, and what a function is called with. */
static size_t behind_name(const Pieces *pieces, size_t i) {
    size_t end = next_of(pieces, i);

    while (is_symbol(pieces, end, '.') && next_of(pieces, end) < pieces->len)
        end = next_of(pieces, next_of(pieces, end));
    return is_group(pieces, end) ? next_of(pieces, pieces->items[end].partner) : end;
}

/* Behind the operand that begins at i, without its casts; i when none does. */
static size_t behind_plain(const Pieces *pieces, size_t i) {
    static const char *const others[] = {"AND",    "OR",     "NOT", "WHEN", "THEN", "ELSE", "WHERE",
                                         "SELECT", "VALUES", "IN",  "ANY",  "SOME", "ALL"};

    if (i >= pieces->len)
        return i;
    if (is_group(pieces, i))
        return next_of(pieces, pieces->items[i].partner);
    if (is_word(pieces, i, "CASE"))
        return behind_case(pieces, i);
    switch (pieces->items[i].token.kind) {
    case SQL_TOKEN_STRING:
    case SQL_TOKEN_NUMBER:
        return next_of(pieces, i);
    case SQL_TOKEN_WORD:
        return is_one_of(pieces, i, others, COUNT_OF(others)) ? i : behind_name(pieces, i);
    case SQL_TOKEN_IDENT:
        return behind_name(pieces, i);
    case SQL_TOKEN_END:
    case SQL_TOKEN_SYMBOL:
        break;
    }
    return i;
}

/* With its subscripts (those of ARRAY are its elements) and casts. */
static size_t behind_operand(const Pieces *pieces, size_t i) {
    size_t end = behind_plain(pieces, i);

    while (end > i && end < pieces->len) {
        size_t behind = skip_dropped(pieces, behind_cast(pieces, end));

        if (is_symbol(pieces, end, '[') && pieces->items[end].partner > end)
            behind = next_of(pieces, pieces->items[end].partner);
        if (behind == end)
            break;
        end = behind;
    }
    return end;
}

/* What opens after a name belongs to it (a call, IN, ANY, a list of columns). Before a dot or a subscript,
 * parentheses say what it is of. */
static bool is_free(const Pieces *pieces, size_t open) {
    static const char *const words[] = {"AND", "OR", "NOT", "CASE", "WHEN", "THEN", "ELSE", "WHERE"};
    size_t previous = before(pieces, open), behind = next_of(pieces, pieces->items[open].partner);

    if (is_symbol(pieces, behind, '.') || is_symbol(pieces, behind, '['))
        return false;
    if (previous == SIZE_MAX || is_one_of(pieces, previous, words, COUNT_OF(words)))
        return true;
    return pieces->items[previous].token.kind == SQL_TOKEN_SYMBOL && !is_symbol(pieces, previous, ')') &&
           !is_symbol(pieces, previous, ']');
}

/* From the end: those within come first. */
static void drop_around_operands(Pieces *pieces) {
    for (size_t i = pieces->len; i-- > 0;) {
        size_t first = next_of(pieces, i);

        if (is_group(pieces, i) && is_free(pieces, i) && first < pieces->items[i].partner &&
            behind_operand(pieces, first) == pieces->items[i].partner)
            drop_group(pieces, i);
    }
}

/* ---- AND in AND, OR in OR ---- */

/* The word that joins all parts of this group, NULL = none does. A condition has no other word at its level that takes
 * an AND for something else, or it is no condition. */
static const char *joint_of(const Pieces *pieces, size_t open) {
    static const char *const others[] = {"SELECT", "CASE", "BETWEEN"};
    bool has_and = false, has_or = false;

    for (size_t i = next_of(pieces, open); i < pieces->items[open].partner; i = next_of(pieces, i)) {
        if (is_one_of(pieces, i, others, COUNT_OF(others)))
            return NULL;
        has_and = has_and || is_word(pieces, i, "AND");
        has_or = has_or || is_word(pieces, i, "OR");
        if (pieces->items[i].partner > i)
            i = pieces->items[i].partner;
    }
    if (has_and == has_or)
        return NULL;
    return has_and ? "AND" : "OR";
}

static void drop_parts(Pieces *pieces, size_t open, const char *joint) {
    size_t close = pieces->items[open].partner;

    for (size_t i = next_of(pieces, open); i < close; i = next_of(pieces, i)) {
        if (pieces->items[i].partner <= i)
            continue;
        size_t previous = before(pieces, i), behind = next_of(pieces, pieces->items[i].partner);
        const char *own = is_group(pieces, i) ? joint_of(pieces, i) : NULL;

        i = pieces->items[i].partner;
        if (own != NULL && strcmp(own, joint) == 0 && (previous == open || is_word(pieces, previous, joint)) &&
            (behind == close || is_word(pieces, behind, joint)))
            drop_group(pieces, pieces->items[i].partner);
    }
}

static void drop_in_chains(Pieces *pieces) {
    for (size_t i = pieces->len; i-- > 0;) {
        const char *joint = is_group(pieces, i) ? joint_of(pieces, i) : NULL;

        if (joint != NULL)
            drop_parts(pieces, i, joint);
    }
}

/* ---- What is so without a word for it ---- */

/* XMLSERIALIZE(CONTENT x AS text NO INDENT), as 16 and later write what has no INDENT. */
static void drop_no_indent(Pieces *pieces) {
    for (size_t i = 0; i + 2 < pieces->len; i++) {
        size_t open = pieces->items[i + 2].partner;

        if (!is_word(pieces, i, "NO") || !is_word(pieces, i + 1, "INDENT") || !is_symbol(pieces, i + 2, ')') ||
            open == 0 || !is_word(pieces, open - 1, "XMLSERIALIZE"))
            continue;
        pieces->items[i].is_dropped = true;
        pieces->items[i + 1].is_dropped = true;
    }
}

/* ---- Casts of arrays ---- */

/* The casts behind an array's `]`, taken from there, and behind them those of what is around the array. An array of
 * arrays has its elements' type in its name, too: one pair of brackets. */
static const Cast *take_casts(Arena *arena, Pieces *pieces, size_t close, const Cast *around) {
    enum { SHORTEST = 5 }; /* ::text[] */
    const Cast *first = around;
    const Cast **link = &first;

    for (size_t i = next_of(pieces, close);;) {
        size_t end = behind_cast(pieces, i);

        if (end < i + SHORTEST || !is_symbol(pieces, end - 1, ']'))
            return first;
        Cast *cast = arena_new_of(arena, Cast);
        *cast = (Cast){.from = i, .to = end - 2, .next = around};
        *link = cast;
        link = &cast->next;
        for (size_t k = i; k < end; k++)
            pieces->items[k].is_dropped = true;
        i = skip_dropped(pieces, end);
    }
}

/* ---- Both ---- */

typedef VEC(SqlToken) Tokens;

typedef struct Plain {
    Arena *arena;
    Pieces pieces;
    Tokens tokens;
    const Cast **casts; /* of an array's elements, by its bracket */
    size_t *open;       /* brackets of any kind */
    size_t depth;
} Plain;

static const Cast *casts_here(const Plain *plain) {
    return plain->depth == 0 ? NULL : plain->casts[plain->open[plain->depth - 1]];
}

static bool is_array(const Pieces *pieces, size_t open) {
    return is_symbol(pieces, open, '[') && pieces->items[open].partner > open && open > 0 &&
           is_word(pieces, before(pieces, open), "ARRAY");
}

static void begin_bracket(Plain *plain, size_t i) {
    Pieces *pieces = &plain->pieces;
    size_t close = pieces->items[i].partner;

    /* Without elements, the cast says of what type it is. */
    if (is_array(pieces, i) && next_of(pieces, i) != close)
        plain->casts[i] = take_casts(plain->arena, pieces, close, casts_here(plain));
    plain->open[plain->depth++] = i;
}

/* The element before i gets the casts of its array. One that is an array has given them to its own. */
static void end_element(Plain *plain, size_t i) {
    const Pieces *pieces = &plain->pieces;
    size_t last = before(pieces, i);

    if (last == SIZE_MAX || is_array(pieces, pieces->items[last].partner))
        return;
    for (const Cast *cast = casts_here(plain); cast != NULL; cast = cast->next)
        for (size_t k = cast->from; k < cast->to; k++)
            vec_push(plain->arena, &plain->tokens, pieces->items[k].token);
}

static Tokens plain_of(Arena *arena, const char *text) {
    Plain plain = {.arena = arena, .pieces = split(arena, text)};
    Pieces *pieces = &plain.pieces;

    drop_no_indent(pieces);
    drop_around_operands(pieces);
    drop_in_chains(pieces);
    plain.casts = arena_array(arena, const Cast *, pieces->len + 1);
    plain.open = arena_array(arena, size_t, pieces->len + 1);
    for (size_t i = skip_dropped(pieces, 0); i < pieces->len; i = next_of(pieces, i)) {
        size_t partner = pieces->items[i].partner;

        if (partner > i)
            begin_bracket(&plain, i);
        else if (partner < i || is_symbol(pieces, i, ','))
            end_element(&plain, i);
        plain.depth -= partner < i;
        vec_push(arena, &plain.tokens, pieces->items[i].token);
    }
    return plain.tokens;
}

bool drift_same_text(const char *a, const char *b) {
    if (strcmp(a, b) == 0)
        return true;
    CLEANUP(arena_freep) Arena *arena = arena_new();
    Tokens left = plain_of(arena, a), right = plain_of(arena, b);

    if (left.len != right.len)
        return false;
    for (size_t i = 0; i < left.len; i++)
        if (!drift_same_token(left.items, right.items, left.len, i))
            return false;
    return true;
}
