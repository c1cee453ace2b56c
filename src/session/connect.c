/* Reaching the process that runs a migration. */
#include "session/connect.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool control_connect(const char *folder, Wire **ret_wire, Error *err) {
    CLEANUP(fd_close) int folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (folder_fd < 0 || fd < 0)
        return error_errno(err, REASON_SYSTEM, "%s", folder);
    /* As in control.c: the folder's path may be longer than an address. */
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control.sock", folder_fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        /* EAGAIN: its queue is full of others that nobody accepts; waiting for a place may be for ever. */
        if (errno != ENOENT && errno != ECONNREFUSED && errno != EAGAIN)
            return error_errno(err, REASON_SYSTEM, "cannot reach %s/control.sock", folder);
        *ret_wire = NULL;
        return true;
    }
    *ret_wire = wire_new(fd);
    fd = -1;
    return true;
}
