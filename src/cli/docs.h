/* Documentation generated from the tables: what `pgcrane docs PAGE` prints. Pure. */
#pragma once

#include "common/buf.h"

/* man, man-migrate, options, errors, exit-codes, phases, bash-completion; false when there is no such page. */
NODISCARD bool docs_render(Buf *out, const char *page);

/* man(7) pages, in docs_man.c. */
void docs_man_pgcrane(Buf *out);
void docs_man_migrate(Buf *out);
