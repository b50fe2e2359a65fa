/* SPDX-License-Identifier: GPL-3.0-or-later */
/* soft-dirty: /proc/PID/clear_refs and bit 55 of /proc/PID/pagemap (Linux Documentation/admin-guide/mm/soft-dirty.rst).
 *
 * Reading and clearing are two steps, and clearing acts on the whole process. A write between the two steps would be lost.
 * So bits are cleared only while the process is stopped. While it runs, the set of written pages only grows. A fetch reports a
 * page of this set unless the page's content equals the content that was sent. A hash decides that. It is taken after the
 * fetch has read the bits, so a page that is written after it is reported by the next fetch. */
#include "tracking/tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SOFT_DIRTY (UINT64_C(1) << 55)
enum { ENTRIES = 4096 };

/* Does this kernel set the bit at all? A private page that this process has just written must have it. */
static int kernel_has_it(void)
{
    uint64_t entry = 0;
    volatile char *page = mmap(NULL, PLOVER_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;
    if (page != MAP_FAILED && fd >= 0) {
        *page = 1;
        n = pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)page / PLOVER_PAGE * sizeof entry));
    }
    if (fd >= 0) close(fd);
    if (page != MAP_FAILED) munmap((void *)page, PLOVER_PAGE);
    return n == (ssize_t)sizeof entry && entry & SOFT_DIRTY;
}

static int clear(plover_tracker *t) { return pwrite(t->clear_refs, "4", 1, 0) == 1 ? 0 : -errno; }

/* When the kernel reclaims a page of shared memory, its pagemap entry loses the bit. Locked pages are not reclaimed. */
static int lock(plover_tracker *t, char *err, size_t errlen)
{
    if (mlock(t->base, t->pages * PLOVER_PAGE)) {
        int rc = -errno;
        snprintf(err, errlen, "soft-dirty: cannot lock %zu MiB of guest memory: %s; raise the daemon's LimitMEMLOCK, free "
                              "memory, or set syncvm_dirty_tracking: uffd-wp (Linux >= 6.7) or scan",
                 t->pages * PLOVER_PAGE >> 20, strerror(-rc));
        return rc;
    }
    t->locked = 1;
    return 0;
}

static int soft_open(plover_tracker *t, char *err, size_t errlen)
{
    char path[64];
    if (!kernel_has_it()) {
        snprintf(err, errlen, "soft-dirty: this kernel has no CONFIG_MEM_SOFT_DIRTY; set syncvm_dirty_tracking: "
                              "uffd-wp (Linux >= 6.7) or scan");
        return -EOPNOTSUPP;
    }
    snprintf(path, sizeof path, "/proc/%d/pagemap", t->pid);
    t->pagemap = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/clear_refs", t->pid);
    t->clear_refs = open(path, O_WRONLY | O_CLOEXEC);
    if (t->pagemap < 0 || t->clear_refs < 0) {
        int rc = -errno;
        snprintf(err, errlen, "soft-dirty: %s: %s; the daemon needs CAP_SYS_PTRACE", path, strerror(-rc));
        return rc;
    }
    t->hashes = malloc(t->pages * sizeof *t->hashes);
    t->known = calloc((t->pages + 63) / 64, sizeof *t->known);
    if (!t->hashes || !t->known) {
        snprintf(err, errlen, "soft-dirty: no memory for the hashes of %zu pages", t->pages);
        return -ENOMEM;
    }
    int rc = lock(t, err, errlen);
    return rc ? rc : clear(t);
}

/* Mark the pages of index[0..n) whose content is not known to be synced; returns how many. */
static int64_t tell(plover_tracker *t, uint64_t *bitmap, const uint32_t *index, size_t n)
{
    uint64_t hashes[ENTRIES];
    uint32_t known[ENTRIES];
    size_t count = 0;
    int64_t told = 0;
    for (size_t i = 0; i < n; i++) {
        if (t->known[index[i] / 64] >> index[i] % 64 & 1)
            known[count++] = index[i];
        else
            told += tracker_mark(bitmap, index[i]);
    }
    int rc = plover_hash_pages(t->pool, t->base, t->pages, known, count, hashes, NULL);
    if (rc) return rc;
    for (size_t i = 0; i < count; i++)
        if (hashes[i] != t->hashes[known[i]]) told += tracker_mark(bitmap, known[i]);
    return told;
}

static int64_t soft_fetch(plover_tracker *t, uint64_t *bitmap, int stopped)
{
    uint64_t entries[ENTRIES];
    uint32_t written[ENTRIES];
    int64_t told = 0;
    for (size_t page = 0; page < t->pages; page += ENTRIES) {
        size_t n = t->pages - page < ENTRIES ? t->pages - page : ENTRIES, count = 0;
        off_t at = (off_t)((t->address / PLOVER_PAGE + page) * sizeof *entries);
        if (pread(t->pagemap, entries, n * sizeof *entries, at) != (ssize_t)(n * sizeof *entries)) return -EIO;
        for (size_t i = 0; i < n; i++)
            if (entries[i] & SOFT_DIRTY) written[count++] = (uint32_t)(page + i);
        int64_t rc = tell(t, bitmap, written, count);
        if (rc < 0) return rc;
        told += rc;
    }
    t->growing = !stopped;
    if (!stopped) return told;
    memset(t->known, 0, (t->pages + 63) / 64 * sizeof *t->known);
    int rc = clear(t);
    return rc ? rc : told;
}

const struct tracker_backend plover_soft_dirty = {"soft-dirty", soft_open, soft_fetch};
