/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A persistent pool. Each job gets a new number, published under the mutex, so no wake-up can be lost. Threads take
 * chunks of items from an atomic counter. The job is over when every worker has reported its end. */
#include "threads/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* SMALL: items that one thread does in about 30 µs, the time that it takes to wake another thread. */
enum { CHUNK = 64, SMALL = 256, THREADS_MAX = 1024 };

struct plover_pool {
    pthread_mutex_t turn;  /* one job at a time */
    pthread_mutex_t mutex; /* guards the fields below */
    pthread_cond_t begin, end;
    uint64_t job;
    bool quit;
    unsigned busy, workers;
    plover_work work;
    void *context;
    size_t n;
    atomic_size_t next;
    pthread_t threads[];
};

/* Take the next chunk, a share of the remaining items. So there are few chunks (the first pages of each are not fetched
 * ahead), and the last ones are small, so that all threads end at about the same time. */
static bool take(plover_pool *pool, size_t *from, size_t *to)
{
    *from = atomic_load_explicit(&pool->next, memory_order_relaxed);
    do {
        if (*from >= pool->n) return false;
        size_t left = pool->n - *from, share = left / (4 * ((size_t)pool->workers + 1));
        if (share < CHUNK) share = left < CHUNK ? left : CHUNK;
        *to = *from + share;
    } while (!atomic_compare_exchange_weak_explicit(&pool->next, from, *to, memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void take_chunks(plover_pool *pool)
{
    for (size_t from, to; take(pool, &from, &to);) pool->work(pool->context, from, to);
}

static void *worker(void *argument)
{
    plover_pool *pool = argument;
    uint64_t done = 0;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (pool->job == done && !pool->quit) pthread_cond_wait(&pool->begin, &pool->mutex);
        if (pool->quit) break;
        done = pool->job;
        pthread_mutex_unlock(&pool->mutex);
        take_chunks(pool);
        pthread_mutex_lock(&pool->mutex);
        if (--pool->busy == 0) pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

plover_pool *plover_pool_new(unsigned threads)
{
    if (threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores > 0 ? (unsigned)cores : 1;
    }
    if (threads > THREADS_MAX) return NULL;
    plover_pool *pool = calloc(1, sizeof *pool + threads * sizeof(pthread_t));
    if (!pool) return NULL;
    pthread_mutex_init(&pool->turn, NULL);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);
    for (; pool->workers < threads - 1; pool->workers++)
        if (pthread_create(&pool->threads[pool->workers], NULL, worker, pool)) {
            plover_pool_free(pool);
            return NULL;
        }
    return pool;
}

unsigned plover_pool_threads(const plover_pool *pool) { return pool ? pool->workers + 1 : 1; }

void plover_pool_run(plover_pool *pool, plover_work work, void *context, size_t n)
{
    if (!pool || pool->workers == 0 || n <= SMALL) {
        if (n) work(context, 0, n);
        return;
    }
    pthread_mutex_lock(&pool->turn);
    pthread_mutex_lock(&pool->mutex);
    pool->work = work, pool->context = context, pool->n = n;
    atomic_store(&pool->next, 0);
    pool->busy = pool->workers;
    pool->job++;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->mutex);
    take_chunks(pool);
    pthread_mutex_lock(&pool->mutex);
    while (pool->busy) pthread_cond_wait(&pool->end, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    pthread_mutex_unlock(&pool->turn);
}

void plover_pool_free(plover_pool *pool)
{
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    pool->quit = true;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->mutex);
    for (unsigned i = 0; i < pool->workers; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->begin);
    pthread_cond_destroy(&pool->end);
    pthread_mutex_destroy(&pool->mutex);
    pthread_mutex_destroy(&pool->turn);
    free(pool);
}
