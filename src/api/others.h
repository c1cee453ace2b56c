/* Operations, private connections, locations, IAM. */
#pragma once

#include "api/call.h"

extern const Message message_test_permissions;
extern const Message message_wait;

bool private_create(ApiCall *call, Error *err);
bool private_delete(ApiCall *call, Error *err);

bool operations_get(ApiCall *call, Error *err);
bool operations_delete(ApiCall *call, Error *err);
bool operations_cancel(ApiCall *call, Error *err);
/* Answers when the operation is over, when its time-out has passed, or at once when too many wait already. */
bool operations_wait(ApiCall *call, Error *err);

bool locations_get(ApiCall *call, Error *err);
bool locations_list(ApiCall *call, Error *err);
bool locations_static_ips(ApiCall *call, Error *err);

bool iam_get(ApiCall *call, Error *err);
bool iam_set(ApiCall *call, Error *err);
bool iam_test(ApiCall *call, Error *err);
