/* One datagram to systemd: the protocol is part of its stable interface, and needs no library. */
#include "serve/notify.h"

#include "common/fd.h"
#include "common/log.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_systemd(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(name.sun_path))
        return;
    size_t len = strlen(path);
    memcpy(name.sun_path, path, len);
    if (path[0] == '@')
        name.sun_path[0] = '\0'; /* of the abstract namespace */
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&name, size) < 0)
        log_warning("cannot notify systemd at %s: %s", path, strerror(errno));
}

/* 0 for what is no number above 0. */
static int64_t number_of(const char *variable) {
    const char *text = getenv(variable);
    char *end;

    if (text == NULL || !isdigit((unsigned char)text[0]))
        return 0;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0' ? number : 0;
}

/* Whoever systemd has started may have started us with its environment. */
int64_t notify_watchdog_us(void) {
    const char *pid = getenv("WATCHDOG_PID");

    return pid == NULL || number_of("WATCHDOG_PID") == getpid() ? number_of("WATCHDOG_USEC") : 0;
}
