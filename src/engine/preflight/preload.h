/*
 * Extensions whose library has to be loaded when the server starts (shared_preload_libraries).
 *
 * Relied upon: a library that is loaded defines its settings, which pg_settings shows to everybody; the list itself it
 * shows to superusers and pg_read_all_settings alone. So where the list is hidden, the settings decide.
 */
#pragma once

#include "engine/preflight/check.h"

/* What an extension of the source is at the destination. */
typedef struct PreloadSubject {
    const char *name, *quoted;
    bool installed; /* it is in the destination's database already */
} PreloadSubject;
typedef VEC(PreloadSubject) PreloadSubjectVec;

/* Findings EXTENSION_PRELOAD and EXTENSION_IDLE for those of `subjects` whose library is not loaded. Without any that
 * needs one, nothing is asked. */
NODISCARD bool preload_check(Preflight *p, const PreloadSubjectVec *subjects, Error *err);
