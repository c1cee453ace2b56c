/* The commands over the API, as commands.c has them. */
#pragma once

#include "cli/commands.h"

/* Of the commands with verbs. */
int service_main(int argc, char **argv);
int apply_main(int argc, char **argv);

extern const Verb profiles_verbs[];
extern const Verb jobs_verbs[];
extern const Verb objects_verbs[];
extern const Verb operations_verbs[];
extern const Verb instances_verbs[];

extern const char *const profiles_about[], *const jobs_about[], *const objects_about[], *const operations_about[],
                                                                                            *const instances_about[],
                                                                                                *const apply_about[];
extern const char *const profiles_takes[], *const jobs_takes[], *const objects_takes[], *const operations_takes[],
                                                                                            *const instances_takes[],
                                                                                                *const apply_takes[];
extern const Example profiles_examples[], jobs_examples[], objects_examples[], operations_examples[],
    instances_examples[], apply_examples[];
