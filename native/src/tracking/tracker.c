/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dirty tracking: choosing a back end by name, and the back end "scan". */
#include "pages/page.h"
#include "tracking/tracker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const uint64_t ZERO_PAGE_HASH = 0x06c5df0488653d58u;
static const struct tracker_backend *const BACKENDS[] = {&plover_uffd_wp, &plover_soft_dirty, &plover_scan};

int plover_tracker_open(const char *backend, int pid, uint64_t address, const void *base, size_t pages, int uffd,
                        plover_pool *pool, plover_tracker **out, char *err, size_t errlen)
{
    if (!backend || !out || !err || !errlen || !base || !pages || pages > UINT32_MAX || address % PLOVER_PAGE)
        return -EINVAL;
    *err = 0;
    *out = NULL;
    for (size_t i = 0; i < sizeof BACKENDS / sizeof *BACKENDS; i++) {
        if (strcmp(BACKENDS[i]->name, backend)) continue;
        plover_tracker *t = calloc(1, sizeof *t);
        if (!t) return -ENOMEM;
        *t = (plover_tracker){.backend = BACKENDS[i], .pid = pid, .uffd = uffd, .pagemap = -1, .clear_refs = -1,
                              .address = address, .base = base, .pages = pages, .pool = pool};
        int rc = t->backend->open(t, err, errlen);
        if (rc) {
            t->uffd = -1; /* still the caller's */
            plover_tracker_close(t);
            return rc;
        }
        *out = t;
        return 0;
    }
    snprintf(err, errlen, "syncvm_dirty_tracking: no back end '%s'; choose uffd-wp, soft-dirty or scan", backend);
    return -EINVAL;
}

static int64_t fetch(plover_tracker *t, uint64_t *bitmap, size_t words, int stopped)
{
    if (!t || !bitmap || words != (t->pages + 63) / 64) return -EINVAL;
    return t->backend->fetch(t, bitmap, stopped);
}

int64_t plover_tracker_fetch(plover_tracker *t, uint64_t *bitmap, size_t words) { return fetch(t, bitmap, words, 0); }

int64_t plover_tracker_fetch_stopped(plover_tracker *t, uint64_t *bitmap, size_t words) { return fetch(t, bitmap, words, 1); }

int plover_tracker_synced(plover_tracker *t, const uint32_t *index, size_t n, const void *data)
{
    if (!t || (n && !index)) return -EINVAL;
    if (!t->hashes || (t->known && !t->growing)) return 0;
    if (in_range(index, n, t->pages)) return -ERANGE;
    for (size_t i = 0; i < n; i++) {
        t->hashes[index[i]] = data ? plover_cityhash64((const char *)data + i * PLOVER_PAGE, PLOVER_PAGE) : ZERO_PAGE_HASH;
        if (t->known) tracker_mark(t->known, index[i]);
    }
    return 0;
}

void plover_tracker_close(plover_tracker *t)
{
    if (!t) return;
    if (t->pagemap >= 0) close(t->pagemap);
    if (t->clear_refs >= 0) close(t->clear_refs);
    if (t->uffd >= 0) close(t->uffd);
    free(t->hashes);
    free(t->scratch);
    free(t->all);
    free(t->known);
    if (t->locked) munlock(t->base, t->pages * PLOVER_PAGE);
    free(t);
}

/* ---- scan: hashes everything and needs nothing from the kernel; the reference for the other two -------------- */

static int scan_open(plover_tracker *t, char *err, size_t errlen)
{
    t->hashes = malloc(t->pages * sizeof *t->hashes);
    t->scratch = malloc(t->pages * sizeof *t->scratch);
    t->all = malloc(t->pages * sizeof *t->all);
    if (!t->hashes || !t->scratch || !t->all) {
        snprintf(err, errlen, "scan: no memory for the hashes of %zu pages", t->pages);
        return -ENOMEM;
    }
    for (size_t i = 0; i < t->pages; i++) t->all[i] = (uint32_t)i;
    return plover_hash_pages(t->pool, t->base, t->pages, t->all, t->pages, t->hashes, NULL);
}

static int64_t scan_fetch(plover_tracker *t, uint64_t *bitmap, int stopped)
{
    (void)stopped;
    int64_t written = 0;
    int rc = plover_hash_pages(t->pool, t->base, t->pages, t->all, t->pages, t->scratch, NULL);
    if (rc) return rc;
    for (size_t i = 0; i < t->pages; i++)
        if (t->scratch[i] != t->hashes[i]) written += tracker_mark(bitmap, i);
    uint64_t *swap = t->hashes;
    t->hashes = t->scratch, t->scratch = swap;
    return written;
}

const struct tracker_backend plover_scan = {"scan", scan_open, scan_fetch};
