/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef PLOVER_TRACKER_H
#define PLOVER_TRACKER_H

#include "threads/pool.h"

#include <stdio.h>

struct plover_tracker {
    const struct tracker_backend *backend;
    int pid, uffd, pagemap, clear_refs;
    uint64_t address;
    const void *base;
    size_t pages;
    plover_pool *pool;
    uint64_t *hashes;  /* of the synced contents; soft-dirty: only of the pages in `known` */
    uint64_t *scratch; /* scan */
    uint32_t *all;     /* scan */
    uint64_t *known;   /* soft-dirty: bitmap */
    int growing;       /* soft-dirty: fetched while the process ran, and not cleared since */
    int locked;        /* base is locked in memory */
};

/* open: 0, or a negative errno with a sentence in err. fetch: as plover_tracker_fetch, or if `stopped`, ..._fetch_stopped. */
struct tracker_backend {
    const char *name;
    int (*open)(plover_tracker *t, char *err, size_t errlen);
    int64_t (*fetch)(plover_tracker *t, uint64_t *bitmap, int stopped);
};

extern const struct tracker_backend plover_uffd_wp, plover_soft_dirty, plover_scan;

/* Mark one page; returns 1, the number of marked pages. */
static inline int64_t tracker_mark(uint64_t *bitmap, size_t page)
{
    bitmap[page / 64] |= UINT64_C(1) << page % 64;
    return 1;
}

#endif
