/* The table of providers. */
#include "provision/local/local.h"
#include "provision/provider.h"

#include <string.h>

const Provider *const providers[] = {&provider_local, NULL};

const Provider *provider_find(const char *name) {
    for (const Provider *const *provider = providers; *provider != NULL; provider++)
        if (strcmp((*provider)->name, name) == 0)
            return *provider;
    return NULL;
}
