/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Measures how fast this machine reads pages: no hasher can be faster. Built only for `make bench-hash`. */
#include "threads/pool.h"

#include <errno.h>
#include <stdatomic.h>

typedef struct {
    const uint8_t *base;
    const uint32_t *index;
    size_t ahead;
    _Atomic uint64_t sum;
} read_job;

enum { LINE = 64, LINES = PLOVER_PAGE / LINE, SUMS = 8, TRANSLATED = 4 };
typedef uint64_t wide __attribute__((vector_size(LINE)));
/* The widest vectors the CPU has. */
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

static inline __attribute__((always_inline)) uint64_t total(const wide sum[SUMS])
{
    wide all = sum[0];
    uint64_t out = 0;
    for (unsigned k = 1; k < SUMS; k++) all += sum[k];
    for (unsigned k = 0; k < LINE / sizeof out; k++) out += all[k];
    return out;
}

CLONES static uint64_t read_page(const wide *page)
{
    wide sum[SUMS] = {{0}};
    for (unsigned i = 0; i < LINES; i += SUMS)
        for (unsigned k = 0; k < SUMS; k++) sum[k] += page[i + k];
    return total(sum);
}

CLONES static uint64_t read_and_fetch(const wide *page, const wide *next)
{
    wide sum[SUMS] = {{0}};
    for (unsigned i = 0; i < LINES; i += SUMS)
        for (unsigned k = 0; k < SUMS; k++) __builtin_prefetch(next + i + k), sum[k] += page[i + k];
    return total(sum);
}

static const wide *page_of(const read_job *job, size_t i)
{
    return (const wide *)(const void *)(job->base + (size_t)job->index[i] * PLOVER_PAGE);
}

static const wide *page_or_last(const read_job *job, size_t i, size_t to) { return page_of(job, i < to ? i : to - 1); }

static void read_some(void *context, size_t from, size_t to)
{
    read_job *job = context;
    uint64_t sum = 0;
    for (size_t i = from; i < to; i++) {
        if (!job->ahead) {
            sum += read_page(page_of(job, i));
            continue;
        }
        __builtin_prefetch(page_or_last(job, i + job->ahead + TRANSLATED, to)); /* as the hasher does */
        sum += read_and_fetch(page_of(job, i), page_or_last(job, i + job->ahead, to));
    }
    atomic_fetch_add(&job->sum, sum);
}

/* Put the sum of all words of these pages of `base` (page-aligned) into *sum. ahead: fetch the page this far ahead into the
 * cache; 0: leave that to the hardware. 0 or -ERANGE. */
PLOVER_API int plover_read_pages(plover_pool *pool, const void *base, size_t pages, const uint32_t *index, size_t n,
                                 size_t ahead, uint64_t *sum)
{
    read_job job = {base, index, ahead, 0};
    for (size_t i = 0; i < n; i++)
        if (index[i] >= pages) return -ERANGE;
    plover_pool_run(pool, read_some, &job, n);
    *sum = job.sum;
    return 0;
}
