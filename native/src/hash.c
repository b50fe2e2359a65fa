/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hashing sets of pages: which kernel, how pages become groups.
 *
 * Zero pages are not looked for. To know one it must be read, and reading it is what its hash costs: from memory, 105 ns
 * to find a zero page, 110 to hash it; and where every other page is one, looking for them made the whole 20 % slower, as
 * the groups no longer follow each other. Who knows that pages are zero says so (plover_tracker_synced).
 *
 * Nor are hashes kept from one syncvm to the next. Only dirty pages are hashed. A page that this side did not write is
 * among them because the other side did, and must hash it meanwhile: the pause would hardly get shorter. But a write that
 * tracking missed, or a page applied since, would then be compared by a hash that is no longer its own. */
#include "hash.h"
#include "pool.h"

#include <errno.h>
#include <string.h>

/* Best first, as measured by `make bench-hash`. */
static const struct hash_kernel *const KERNELS[] = {
#ifdef __x86_64__
    &plover_kernel_avx512, &plover_kernel_avx2,
#endif
    &plover_kernel_pairs, &plover_kernel_plain};

typedef struct {
    const struct hash_kernel *kernel;
    const uint8_t *base;
    const uint32_t *index;
    uint64_t *out;
} hash_job;

static const struct hash_kernel *usable_kernel(unsigned number)
{
    for (size_t i = 0; i < sizeof KERNELS / sizeof *KERNELS; i++)
        if ((!KERNELS[i]->usable || KERNELS[i]->usable()) && number-- == 0) return KERNELS[i];
    return NULL;
}

const char *plover_hash_kernel(unsigned number)
{
    const struct hash_kernel *kernel = usable_kernel(number);
    return kernel ? kernel->name : NULL;
}

static const uint8_t *page_of(const hash_job *job, size_t i) { return job->base + (size_t)job->index[i] * PLOVER_PAGE; }

/* The n pages numbered group[], none at or behind `to`; what fits into no whole group repeats its last page. */
static void hash_group(const hash_job *job, const size_t group[], unsigned n, size_t to)
{
    const struct hash_kernel *kernel = job->kernel;
    const uint8_t *pages[WAYS_MAX], *ahead[WAYS_MAX];
    uint64_t hashes[WAYS_MAX];
    for (unsigned k = 0; k < kernel->ways; k++) {
        size_t next = group[n - 1] + 1 + kernel->lead - kernel->ways + k;
        pages[k] = page_of(job, group[k < n ? k : n - 1]);
        ahead[k] = page_of(job, next < to ? next : to - 1);
    }
    kernel->hash(pages, ahead, hashes);
    for (unsigned k = 0; k < n; k++) job->out[group[k]] = hashes[k];
}

static void hash_some(void *context, size_t from, size_t to)
{
    const hash_job *job = context;
    size_t group[WAYS_MAX];
    unsigned n = 0;
    for (size_t i = from; i < to; i++) {
        group[n++] = i;
        if (n == job->kernel->ways || i + 1 == to) hash_group(job, group, n, to), n = 0;
    }
}

static const struct hash_kernel *kernel_named(const char *name)
{
    const struct hash_kernel *kernel = usable_kernel(0);
    for (unsigned i = 1; name && kernel && strcmp(kernel->name, name); i++) kernel = usable_kernel(i);
    return kernel;
}

int plover_hash_pages(plover_pool *pool, const void *base, size_t pages, const uint32_t *index, size_t n, uint64_t *out,
                      const char *kernel)
{
    hash_job job = {kernel_named(kernel), base, index, out};
    if (!job.kernel || (n && (!base || !index || !out))) return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (index[i] >= pages) return -ERANGE;
    plover_pool_run(pool, hash_some, &job, n);
    return 0;
}
