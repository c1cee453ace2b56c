/* sd_notify(3), as far as it is needed. */
#pragma once

#include <stdint.h>

/* Sends `state` ("READY=1") to the socket in NOTIFY_SOCKET. Nobody there, or nobody who listens: nothing happens. */
void notify_systemd(const char *state);

/* WatchdogSec of the unit, when it is us who is watched: WATCHDOG=1 is to be sent more often than that. Else 0. */
int64_t notify_watchdog_us(void);
