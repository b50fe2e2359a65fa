/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Hashing sets of pages: choosing the kernel, and forming groups of pages.
 *
 * There is no search for zero pages. To detect one, it must be read, and reading costs as much as hashing: from memory, 105 ns
 * to detect a zero page, 110 ns to hash it. Where every other page was zero, the search even made hashing 20 % slower, because
 * the groups were no longer contiguous. A caller that knows which pages are zero says so (plover_tracker_synced).
 *
 * Hashes are not kept from one syncvm to the next, either. Only dirty pages are hashed. If this side did not write a page, the
 * other side did and must hash it meanwhile, so the pause would hardly get shorter. But after a write that tracking missed, or
 * after a page was applied, a kept hash would no longer match the page. */
#include "hash/hash.h"
#include "pages/page.h"
#include "threads/pool.h"

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

static const uint8_t *page_or_last(const hash_job *job, size_t i, size_t to) { return page_of(job, i < to ? i : to - 1); }

/* Hash the group of pages from i on, but none from `to` on: a group that is not full repeats the last page. While the kernel
 * fetches the pages ahead, the processor already translates the addresses of the pages after those. For pages that lie far
 * apart, that takes as long as reading them. */
static void hash_group(const hash_job *job, size_t i, size_t to)
{
    const struct hash_kernel *kernel = job->kernel;
    const uint8_t *pages[WAYS_MAX], *ahead[WAYS_MAX];
    uint64_t hashes[WAYS_MAX];
    for (unsigned k = 0; k < kernel->ways; k++) {
        pages[k] = page_or_last(job, i + k, to);
        ahead[k] = page_or_last(job, i + k + kernel->lead, to);
        if (kernel->lead) __builtin_prefetch(page_or_last(job, i + k + kernel->lead + kernel->ways, to));
    }
    kernel->hash(pages, ahead, hashes);
    memcpy(job->out + i, hashes, (to - i < kernel->ways ? to - i : kernel->ways) * sizeof *hashes);
}

static void hash_some(void *context, size_t from, size_t to)
{
    const hash_job *job = context;
    for (size_t i = from; i < to; i += job->kernel->ways) hash_group(job, i, to);
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
    if (in_range(index, n, pages)) return -ERANGE;
    plover_pool_run(pool, hash_some, &job, n);
    return 0;
}
