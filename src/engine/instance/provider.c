/* Names that belong to managed services: one table, two conditions. */
#include "engine/instance/provider.h"

typedef struct ProviderNames {
    const char *marker, *roles, *databases;
} ProviderNames;

static const ProviderNames providers[] = {
#define X(marker, roles, databases) {marker, roles, databases},
#include "engine/instance/provider.def"
#undef X
};

static char *condition(Arena *arena, const char *column, bool of_roles) {
    char *sql = arena_strdup(arena, "(false");

    for (size_t i = 0; i < COUNT_OF(providers); i++)
        sql = arena_printf(arena,
                           "%s OR (%s ~ '%s' AND EXISTS (SELECT FROM pg_catalog.pg_roles marker"
                           " WHERE marker.rolname ~ '%s'))",
                           sql, column, of_roles ? providers[i].roles : providers[i].databases, providers[i].marker);
    return arena_printf(arena, "%s)", sql);
}

char *provider_role_sql(Arena *arena, const char *column) {
    return condition(arena, column, true);
}

char *provider_database_sql(Arena *arena, const char *column) {
    return condition(arena, column, false);
}
