/*
 * The file that keys are in: made once, and replaced as a whole. Only for secrets/.
 *
 * The file is never half written: its bytes are on the disk before it has its name. Who changes it holds a lock on its
 * folder, so that of two at once none loses the key that the other has added.
 */
#pragma once

#include "secrets/keyring.h"

#include <sys/stat.h>

/* KEY_MISSING when there is none. ret_stat may be NULL. */
NODISCARD bool key_file_read(const char *path, Keyring *ret_keyring, struct stat *ret_stat, Error *err);
/* NAME_TAKEN when there is one. */
NODISCARD bool key_file_create(const char *path, const Keyring *keyring, Error *err);
/* Reads it, has change() decide about new contents, writes them with the owner and mode that the file had; nothing is
 * written when change() sets *ret_unchanged. ret_keyring: as it is then. */
typedef bool (*KeyFileChange)(Keyring *keyring, void *context, bool *ret_unchanged, Error *err);
NODISCARD bool key_file_change(const char *path, KeyFileChange change, void *context, Keyring *ret_keyring, Error *err);
