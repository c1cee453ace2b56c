/* The tables of fields as JSON Schema, for the OpenAPI document. */
#include "model/message.h"

static json_t *schema_of_enum(const Field *field) {
    json_t *names = json_array();

    for (const char *const *name = field->values; *name != NULL; name++)
        (void)json_array_append_new(names, json_string(*name));
    return json_pack("{s:s, s:o}", "type", "string", "enum", names);
}

static json_t *schema_of_text(const Field *field) {
    return json_pack("{s:s, s:I}", "type", "string", "maxLength",
                     (json_int_t)(field->max > 0 ? field->max : MESSAGE_TEXT_MAX));
}

static json_t *schema_of_int32(const Field *field) {
    json_t *schema = json_pack("{s:s, s:s}", "type", "integer", "format", "int32");

    if (field->min != 0 || field->max != 0) {
        (void)json_object_set_new(schema, "minimum", json_integer(field->min));
        (void)json_object_set_new(schema, "maximum", json_integer(field->max));
    }
    return schema;
}

static json_t *schema_of_item(const Field *field) {
    switch (field->kind) {
    case FIELD_STRING:
        return schema_of_text(field);
    case FIELD_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case FIELD_INT32:
        return schema_of_int32(field);
    case FIELD_INT64:
        return json_pack("{s:s, s:s}", "type", "string", "format", "int64");
    case FIELD_ENUM:
        return schema_of_enum(field);
    case FIELD_TIMESTAMP:
        return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
    case FIELD_DURATION:
        return json_pack("{s:s, s:s}", "type", "string", "format", "google-duration");
    case FIELD_MESSAGE:
        return json_pack("{s:s+}", "$ref", "#/components/schemas/", field->message->name);
    case FIELD_MAP:
        return json_pack("{s:s, s:{s:s}}", "type", "object", "additionalProperties", "type", "string");
    case FIELD_STRUCT:
        return json_pack("{s:s}", "type", "object");
    }
    UNREACHABLE();
}

static json_t *schema_of_field(const Field *field) {
    json_t *item = schema_of_item(field);
    json_t *schema = (field->flags & FIELD_REPEATED) != 0 ? json_pack("{s:s, s:o}", "type", "array", "items", item)
                     : field->kind == FIELD_MESSAGE       ? json_pack("{s:[o]}", "allOf", item)
                                                          : item;

    if ((field->flags & FIELD_OUTPUT) != 0)
        (void)json_object_set_new(schema, "readOnly", json_true());
    if ((field->flags & FIELD_SECRET) != 0)
        (void)json_object_set_new(schema, "writeOnly", json_true());
    if (field->help != NULL)
        (void)json_object_set_new(schema, "description", json_string(field->help));
    return schema;
}

json_t *message_schema(const Message *message) {
    json_t *properties = json_object();
    json_t *required = json_array();

    for (size_t i = 0; i < message->count; i++) {
        const Field *field = &message->fields[i];

        (void)json_object_set_new(properties, field->name, schema_of_field(field));
        if ((field->flags & FIELD_REQUIRED) != 0)
            (void)json_array_append_new(required, json_string(field->name));
    }
    json_t *schema = json_pack("{s:s, s:o}", "type", "object", "properties", properties);
    if (json_array_size(required) > 0)
        (void)json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}
