/* Which machine this is. */
#include "common/machine.h"

#include "common/fd.h"

#include <sys/utsname.h>
#include <unistd.h>

#define ID_FILE "/etc/machine-id"
enum { ID_MAX = 4096, ID_SHOWN = 8 };

const char *machine_name(Arena *arena) {
    CLEANUP(buf_fini) Buf id;
    struct utsname names;
    Error ignored; /* not every machine has one */

    buf_init(&id, ID_MAX);
    const char *name = uname(&names) == 0 ? names.nodename : "?";
    if (access(ID_FILE, R_OK) != 0 || !fd_read_file(ID_FILE, &id, &ignored) || id.len < ID_SHOWN)
        return arena_strdup(arena, name);
    return arena_printf(arena, "%s (%.*s)", name, (int)ID_SHOWN, id.data);
}
