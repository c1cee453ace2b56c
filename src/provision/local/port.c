/*
 * Ports of local instances.
 *
 * A port is chosen and noted under a lock that all instances of a state folder share, so that two creates never choose
 * the same one. Between the note and the server's own bind another program may take it: then the server does not start,
 * and create() chooses anew.
 */
#include "provision/local/port.h"

#include "common/clock.h"
#include "common/fd.h"
#include "common/hash.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORTS = PORT_LAST - PORT_FIRST + 1, TABLE_MAX = 16 * 1024 * 1024, TCP_LISTEN_STATE = 0x0a };

/* As PostgreSQL binds, on all addresses: also one that listens on another address alone counts as taken. */
bool port_is_free(int port) {
    CLEANUP(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {.s_addr = htonl(INADDR_ANY)}};
    const int yes = 1;

    return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
           bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

/* ---- Which one ---- */

typedef struct Taken {
    const char *own_id;
    bool ports[PORTS];
} Taken;

static void take(Taken *taken, int64_t port) {
    if (port >= PORT_FIRST && port <= PORT_LAST)
        taken->ports[port - PORT_FIRST] = true;
}

static bool take_noted(const char *id, const ProvisionJournal *journal, void *context, Error *err UNUSED) {
    static const char *const steps[] = {"server", "standby"};
    Taken *taken = context;

    for (size_t at = 0; at < COUNT_OF(steps); at++)
        if (strcmp(id, taken->own_id) != 0)
            take(taken, json_get_int(provision_journal_get(journal, steps[at]), "port", 0));
    return true;
}

static bool lock_ports(const Local *local, int *ret_fd, Error *err) {
    const char *instances = dirname(arena_strdup(local->arena, local->folder));
    const char *path = arena_printf(local->arena, "%s/.ports.lock", instances);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 || fcntl(fd, F_OFD_SETLKW, &whole) != 0) {
        error_errno(err, REASON_SYSTEM, "cannot lock %s", path);
        fd_close(&fd);
        return false;
    }
    *ret_fd = fd;
    return true;
}

/* Each state folder begins elsewhere: services of one machine do not know each other's notes, and a port that is not in
 * use just then may be that of a server which another one is about to start. */
static int choose(const Taken *taken, const char *state_dir) {
    int begin = (int)(hash_text64(state_dir) % PORTS);

    for (int at = 0; at < PORTS; at++) {
        int place = (begin + at) % PORTS;

        if (!taken->ports[place] && port_is_free(PORT_FIRST + place))
            return PORT_FIRST + place;
    }
    return 0;
}

static bool note_port(Local *local, Server *server, int port, Error *err) {
    json_t *details = json_deep_copy(provision_journal_get(local->journal, server->step));

    if (details == NULL)
        details = json_object();
    (void)json_object_set_new(details, "port", json_integer(port));
    if (!provision_journal_note(local->journal, server->step, details, err))
        return false;
    server->port = port;
    return true;
}

bool port_assign(Local *local, Server *server, Error *err) {
    CLEANUP(fd_close) int lock = -1;
    Taken taken = {.own_id = local->id};

    if (server->port > 0 && port_is_free(server->port))
        return true;
    if (!lock_ports(local, &lock, err) || !provision_journals_each(local->call->config, take_noted, &taken, err))
        return false;
    take(&taken, local->primary.port); /* of our own others */
    take(&taken, local->standby.port);
    int port = choose(&taken, local->call->config->state_dir);
    if (port == 0) {
        error_set(err, REASON_PROVISION_FAILED, "all ports from %d to %d are taken", PORT_FIRST, PORT_LAST);
        return error_remedy(err, "remove instances that nobody needs; ss -ltnp shows who listens");
    }
    return note_port(local, server, port, err);
}

/* ---- Who has it ---- */

/* Number of the listening socket's inode in a table of /proc/net; 0 = none. */
static uint64_t find_inode(const char *table, int port) {
    CLEANUP(buf_fini) Buf text;
    Error ignored;

    buf_init(&text, TABLE_MAX);
    if (!fd_read_file(table, &text, &ignored))
        return 0;
    for (const char *line = text.data; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        unsigned int local_port = 0, state = 0;
        uint64_t inode = 0;
        line += *line == '\n';
        if (sscanf(line, " %*u: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %" SCNu64, &local_port,
                   &state, &inode) == 3 &&
            state == TCP_LISTEN_STATE && (int)local_port == port)
            return inode;
    }
    return 0;
}

static bool process_has(const char *pid, const char *socket_name) {
    CLEANUP(arena_freep) Arena *arena = arena_new();
    const char *folder = arena_printf(arena, "/proc/%s/fd", pid);
    DIR *list = opendir(folder);
    bool found = false;
    char target[64];

    if (list == NULL)
        return false;
    for (const struct dirent *entry; !found && (entry = readdir(list)) != NULL;) {
        ssize_t len = readlinkat(dirfd(list), entry->d_name, target, sizeof(target) - 1);
        target[MAX(len, 0)] = '\0';
        found = strcmp(target, socket_name) == 0;
    }
    closedir(list);
    return found;
}

static const char *name_of(Arena *arena, const char *pid) {
    CLEANUP(buf_fini) Buf text;
    Error ignored;

    buf_init(&text, 4096);
    if (!fd_read_file(arena_printf(arena, "/proc/%s/comm", pid), &text, &ignored))
        return "?";
    return arena_strndup(arena, text.data, strcspn(text.data, "\n"));
}

const char *port_holder(Arena *arena, int port) {
    uint64_t inode = find_inode("/proc/net/tcp", port);
    const char *holder = "another program";

    if (inode == 0)
        inode = find_inode("/proc/net/tcp6", port);
    DIR *list = inode != 0 ? opendir("/proc") : NULL;
    if (list == NULL)
        return holder;
    const char *socket_name = arena_printf(arena, "socket:[%" PRIu64 "]", inode);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name) && process_has(entry->d_name, socket_name)) {
            holder = arena_printf(arena, "process %s (%s)", entry->d_name, name_of(arena, entry->d_name));
            break;
        }
    closedir(list);
    return holder;
}
