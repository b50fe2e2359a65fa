/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef PLOVER_POOL_H
#define PLOVER_POOL_H

#include "plover_native.h"

/* Work on items [from, to). */
typedef void (*plover_work)(void *context, size_t from, size_t to);

/* Split items [0, n) over the pool in chunks; returns when all are done. NULL pool: the caller does all of them. */
void plover_pool_run(plover_pool *pool, plover_work work, void *context, size_t n);

#endif
