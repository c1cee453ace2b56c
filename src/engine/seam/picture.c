/* Was a transaction of the stream in the copy already? Decided by the snapshot's picture. */
#include "engine/seam/seam.h"

#include <inttypes.h>
#include <stdlib.h>

/* Decimal digits up to `end` character (0 = the end of the text); returns what follows, NULL when there are none. */
static const char *take_xid(const char *text, uint64_t *ret_xid) {
    uint64_t xid = 0;

    if (*text < '0' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(xid, 10, &xid) || __builtin_add_overflow(xid, (uint64_t)(*text - '0'), &xid))
            return NULL;
    *ret_xid = xid;
    return text;
}

static size_t count_commas(const char *text) {
    size_t count = 0;

    for (; *text != '\0'; text++)
        count += *text == ',';
    return count;
}

/* "730,735": ascending and inside [xmin, xmax). NULL: not so. */
static const uint64_t *take_running(Arena *arena, const char *text, uint64_t xmin, uint64_t xmax, size_t *ret_count) {
    uint64_t *running = arena_array(arena, uint64_t, count_commas(text) + 1);
    size_t count = 0;

    *ret_count = 0;
    if (*text == '\0')
        return running;
    for (;; text++) {
        text = take_xid(text, &running[count]);
        if (text == NULL || running[count] < xmin || running[count] >= xmax ||
            (count > 0 && running[count] <= running[count - 1]))
            return NULL;
        count++;
        if (*text == '\0')
            break;
        if (*text != ',')
            return NULL;
    }
    *ret_count = count;
    return running;
}

bool seam_picture_parse(Arena *arena, const char *text, Lsn w, SeamPicture *ret_picture, Error *err) {
    SeamPicture picture = {.w = w};
    const char *rest = take_xid(text, &picture.xmin);

    if (rest != NULL && *rest == ':')
        rest = take_xid(rest + 1, &picture.xmax);
    else
        rest = NULL;
    if (rest != NULL && *rest == ':' && picture.xmin <= picture.xmax)
        picture.running = take_running(arena, rest + 1, picture.xmin, picture.xmax, &picture.running_count);
    if (picture.running == NULL)
        return error_set(err, REASON_BAD_DATA, "\"%.100s\" is no snapshot", text);
    *ret_picture = picture;
    return true;
}

static int compare_xids(const void *a, const void *b) {
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

/* The 64-bit xid with these low 32 bits that is nearest to `near`. One that would lie before xid 0 never was: it comes
 * out as huge, so as younger than any snapshot. */
static uint64_t nearest_xid(uint64_t near, uint32_t xid) {
    return near + (uint64_t)(int64_t)(int32_t)(xid - (uint32_t)near);
}

bool seam_in_copy(const SeamPicture *picture, Lsn commit_lsn, uint32_t xid) {
    uint64_t full = nearest_xid(picture->xmax, xid);

    if (commit_lsn >= picture->w)
        return false;
    if (full < picture->xmin)
        return true;
    if (full >= picture->xmax)
        return false;
    return picture->running_count == 0 ||
           bsearch(&full, picture->running, picture->running_count, sizeof(*picture->running), compare_xids) == NULL;
}
