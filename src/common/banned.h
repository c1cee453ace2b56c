/*
 * Functions that this program does not use, made into compile errors. Forced into every file by meson.build.
 *
 * Each becomes a macro that expands to an undeclared name saying what to use instead. The system's headers that declare
 * them have to come first, or their own declarations would be hit.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

/* glibc has some of them as macros already. */
#undef strcpy
#undef strcat
#undef sprintf
#undef vsprintf
#undef strtok
#undef localtime
#undef gmtime
#undef ctime
#undef atoi
#undef atol
#undef system
#undef popen
#undef gets
#undef tmpnam

#define strcpy(...) banned_strcpy_use_arena_strdup_or_memcpy
#define strcat(...) banned_strcat_use_buf
#define sprintf(...) banned_sprintf_use_snprintf_or_buf
#define vsprintf(...) banned_vsprintf_use_vsnprintf_or_buf
#define strtok(...) banned_strtok_use_strcspn
#define localtime(...) banned_localtime_use_common_clock
#define gmtime(...) banned_gmtime_use_common_clock
#define ctime(...) banned_ctime_use_common_clock
#define atoi(...) banned_atoi_use_strtol
#define atol(...) banned_atol_use_strtol
#define system(...) banned_system_use_common_proc
#define popen(...) banned_popen_use_common_proc
#define gets(...) banned_gets_use_fgets
#define tmpnam(...) banned_tmpnam_use_mkstemp
