/*
 * Settings of a local server that follow from its size, its mode and its place: tables and pure functions.
 *
 * Relies on: names and units of settings of PostgreSQL 13 to 19.
 */
#pragma once

#include "provision/provider.h"

typedef struct Setting {
    const char *name, *value;
} Setting;

typedef VEC(Setting) SettingVec;

/* What there is to be shared. */
typedef struct Machine {
    int64_t cpus, memory_mb, disk_mb;
} Machine;

/* Of this machine; disk: what is free now on the file system of `path`. */
Machine settings_machine(const char *path);
/* By cpus, memory_mb and disk_mb of the spec, or the machine's: what flags may change. */
void settings_derive(Arena *arena, const ProvisionSpec *spec, const Machine *machine, SettingVec *settings);
/* Stand behind the flags. */
void settings_fixed(Arena *arena, SettingVec *settings);
void settings_of_mode(Arena *arena, ProvisionMode mode, int64_t disk_mb, SettingVec *settings);
/* Why a flag of that name is refused; NULL = it is not. */
const char *settings_refusal(const char *name);
/* 'it''s', as a configuration file has it. */
const char *settings_quote(Arena *arena, const char *value);
