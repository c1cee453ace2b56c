/* The exit codes of pgcrane. */
#include "cli/exit_codes.h"

const ExitCodeInfo exit_code_infos[] = {
    {EXIT_CODE_OK, "everything that was asked for is done; a dry run found no errors"},
    {EXIT_CODE_FAILED, "the migration failed, or a check found errors; the message says what to do"},
    {EXIT_CODE_CANCELLED, "stopped by Ctrl-C, by a signal or by an answer; the same command goes on from there"},
    {EXIT_CODE_UNPROVEN,
     "promoted, but not proven (--fence=none, or the fence fell): writes of the last moment may be missing"},
    {EXIT_CODE_USAGE, "the command line or an environment variable is wrong; nothing was tried"},
    {69, "a server or database could not be reached, or was lost and did not come back"},
    {77, "a server refused the login or a right that is needed"},
};
const size_t exit_code_infos_count = COUNT_OF(exit_code_infos);
