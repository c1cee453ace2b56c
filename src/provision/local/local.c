/* The local provider: its functions in one table. */
#include "provision/local/local.h"

#include "provision/local/internal.h"

const Provider provider_local = {
    .name = "local",
    .check = local_check,
    .create = local_create,
    .describe = local_describe,
    .reconfigure = local_reconfigure,
    .promote = local_promote,
    .remove = local_remove,
    .tend = local_tend,
    .read_log = local_read_log,
};
