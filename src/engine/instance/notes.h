/*
 * Findings of this folder: each kind is told once, with the list of what it is about (findings.def).
 *
 * Notes are gathered while a step works and become findings when it has succeeded: a step that runs again begins with
 * none. At most NOTES_MAX of a kind are listed, the rest is counted. Everything is copied into the arena. One thread.
 */
#pragma once

#include "engine/instance/instance.h"

typedef enum InstanceNote {
#define X(id, severity, side, google, lead, help) NOTE_##id,
#include "engine/instance/findings.def"
#undef X
    NOTE_MAX_,
} InstanceNote;

enum { NOTES_MAX = 500 };

typedef struct NoteList {
    StringVec what, fixes;
    size_t count;
} NoteList;

typedef struct Notes {
    Arena *arena;
    NoteList lists[NOTE_MAX_];
} Notes;

/* `what` names the object and, where there is one, the cause. fix: SQL, "" when there is none. */
void note_add(Notes *notes, InstanceNote note, const char *what, const char *fix);
/* "WHAT (CAUSE)", for what a server refused; the cause in one line. */
void note_refused(Notes *notes, InstanceNote note, const char *what, const char *cause, const char *fix);
void notes_to_findings(const Notes *notes, FindingVec *findings);
