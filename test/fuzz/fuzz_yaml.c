/*
 * Any text as YAML: parsed or refused with a place, and what was parsed is written and read as the same.
 */
#include "client/yaml.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const json_t *json) {
    CLEANUP(json_freep) json_t *again = NULL;
    CLEANUP(buf_fini) Buf text;
    Error err;

    buf_init(&text, YAML_TEXT_MAX);
    yaml_print(json, &text);
    if (text.overflowed) /* indentation makes it longer than what it was read from */
        return;
    if (!yaml_parse(text.data, text.len, &again, &err) || json_equal(json, again) != 1)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP(json_freep) json_t *json = NULL;
    Error err;

    if (yaml_parse((const char *)data, size, &json, &err))
        check_round_trip(json);
    else if (err.reason != REASON_BAD_DATA || err.message[0] == '\0')
        __builtin_trap();
    return 0;
}
