/* sd_notify(3), as far as it is needed. */
#pragma once

/* Sends `state` ("READY=1") to the socket in NOTIFY_SOCKET. Nobody there, or nobody who listens: nothing happens. */
void notify_systemd(const char *state);
