/* Names and paths of fields: shared by the parts of model/message. */
#pragma once

#include "model/message.h"

enum { FIELD_NAME_MAX = 128 };

/* "vm_port" becomes "vmPort". False when it is longer than a name can be. */
bool field_camel(const char *name, size_t len, char camel[FIELD_NAME_MAX]);
/* "a" and "b" become "a.b"; an empty base gives the name. */
const char *field_path(Arena *arena, const char *base, const char *name);
void violation_add(Arena *arena, ViolationVec *violations, const char *field, const char *format, ...) PRINTF(4, 5);
