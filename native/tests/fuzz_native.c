/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fuzzes the C library's entry points: bitmaps, page numbers, masks and rings of any content, in buffers of exactly the size that
 * the header allows, so that a sanitizer sees each byte beyond. The library is compiled with -fsanitize-coverage=trace-pc, so an
 * input that reaches new code is kept and changed further.
 *
 * usage: fuzz_native SECONDS SEED CURRENT FOUND INPUT...   the input under way is in the file CURRENT, for when it crashes; new ones go
 *                                                          into the folder FOUND ("-": nowhere)
 *        fuzz_native 0 0 - - INPUT...                      only replay them */
#define _GNU_SOURCE
#include "plover_native.h"
#include "plover_rdma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_MAX = 4096, KEPT_MAX = 4096, MAP = 1 << 16, PAGES = 3, NUMBERS = 64, RING = 1024, ID = 7 };
#define PROMISE(what) ((what) ? (void)0 : broken(#what))

static uint8_t map[MAP], known[MAP];
static uint16_t touched[MAP]; /* places in the map */
static size_t touched_n;
static struct { uint8_t *data; size_t size; } kept[KEPT_MAX];
static size_t kept_n, executions, taken_in;
static uint8_t *current; /* shared with CURRENT: length u32, then the input */
static uint64_t chance;
static plover_pool *pool;

/* The compiler calls it at each edge of the library's code. */
void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    const uint16_t at = (uint16_t)(((uintptr_t)__builtin_return_address(0) * 0x9e3779b97f4a7c15u) >> 48);
    if (!map[at]) map[at] = 1, touched[touched_n++] = at;
}

static void broken(const char *what)
{
    fprintf(stderr, "fuzz_native: a broken promise: %s\n", what);
    abort();
}

/* ---- an input, taken apart ------------------------------------------------------------------------------------ */
typedef struct { const uint8_t *data; size_t left; } input;

static uint8_t take(input *in)
{
    return in->left ? (in->left--, *in->data++) : 0;
}

/* `count` items of `size` bytes in memory of their own. */
static void *items(input *in, size_t count, size_t size)
{
    const size_t bytes = count * size;
    uint8_t *out = malloc(bytes + !bytes);
    for (size_t i = 0; i < bytes; i++) out[i] = take(in);
    return out;
}

/* Page numbers: mostly of the guest, sometimes behind its end. */
static uint32_t *numbers(input *in, size_t n, size_t pages)
{
    uint32_t *out = malloc(n * sizeof *out + !n);
    for (size_t i = 0; i < n; i++) {
        const uint8_t byte = take(in);
        out[i] = byte < 250 || !pages ? byte % (uint32_t)(pages + !pages) : byte == 255 ? UINT32_MAX : (uint32_t)pages + byte - 250u;
    }
    return out;
}

static int fits(const uint32_t *index, size_t n, size_t pages)
{
    for (size_t i = 0; i < n; i++)
        if (index[i] >= pages) return 0;
    return 1;
}

static uint8_t *guest(input *in, size_t pages)
{
    uint8_t *out = malloc(pages * PLOVER_PAGE + !pages);
    const uint8_t fill = take(in);
    memset(out, fill & 1 ? fill : 0, pages * PLOVER_PAGE);
    for (size_t page = 0; page < pages; page++) out[page * PLOVER_PAGE + 16u * take(in)] ^= take(in);
    return out;
}

#include "fuzz_agreement.h" /* it uses what is above */

/* ---- the entry points ------------------------------------------------------------------------------------------ */
static void fuzz_bitmaps(input *in)
{
    const size_t pages = take(in), words = (pages + 63) / 64, capacity = take(in);
    uint64_t *a = items(in, words, 8), *b = items(in, words, 8);
    const int64_t both = plover_bitmap_union(a, b, words);
    PROMISE(both >= 0 && both <= (int64_t)words * 64);
    uint32_t *out = malloc(capacity * 4 + !capacity);
    const int64_t n = plover_bitmap_pages(a, pages, out, capacity);
    PROMISE(n == -ERANGE || n == -EINVAL || (n >= 0 && n <= (int64_t)capacity));
    if (n >= 0) {
        PROMISE(n == both && fits(out, (size_t)n, pages));
        PROMISE(plover_bitmap_of(out, (size_t)n, b, pages) == 0 && !memcmp(a, b, words * 8));
    }
    uint32_t *index = numbers(in, capacity, pages);
    PROMISE(plover_bitmap_of(index, capacity, b, pages) == (fits(index, capacity, pages) ? 0 : -ERANGE));
    free(a), free(b), free(out), free(index);
}

static void fuzz_hashes(input *in)
{
    const size_t pages = take(in) % (PAGES + 1), n = take(in) % NUMBERS;
    uint8_t *base = guest(in, pages);
    uint32_t *index = numbers(in, n, pages), *out = malloc(n * 4 + !n);
    uint64_t *hashes = malloc(n * 8 + !n), *others = malloc(n * 8 + !n);
    const int rc = plover_hash_pages(pool, base, pages, index, n, hashes, NULL);
    PROMISE(rc == (fits(index, n, pages) ? 0 : -ERANGE));
    for (unsigned k = 0; rc == 0 && plover_hash_kernel(k); k++) {
        PROMISE(plover_hash_pages(pool, base, pages, index, n, others, plover_hash_kernel(k)) == 0);
        PROMISE(plover_compare(hashes, others, index, n, out) == 0);
    }
    const int64_t some = plover_nonzero(base, pages, index, n, out);
    PROMISE(rc ? some == -ERANGE : some >= 0 && some <= (int64_t)n);
    const size_t length = take(in) * 3u;
    uint8_t *data = items(in, length, 1);
    plover_cityhash64(data, length);
    free(base), free(index), free(out), free(hashes), free(others), free(data);
}

static void fuzz_pages(input *in)
{
    const size_t pages = take(in) % (PAGES + 1), n = take(in) % 8;
    uint8_t *base = guest(in, pages), *data = malloc(n * PLOVER_PAGE + !n);
    uint32_t *index = numbers(in, n, pages);
    const int rc = plover_gather(base, pages, index, n, data);
    PROMISE(rc == (fits(index, n, pages) ? 0 : -ERANGE));
    if (rc) memset(data, take(in), n * PLOVER_PAGE);
    PROMISE(plover_apply(base, pages, index, n, data) == rc);
    free(base), free(data), free(index);
}

static void fuzz_blocks(input *in)
{
    const size_t pages = take(in) % (PAGES + 1), n = take(in) % 8;
    uint8_t *base = guest(in, pages);
    uint32_t *index = numbers(in, n, pages);
    uint16_t *theirs = malloc(n * PLOVER_BLOCKS * 2 + !n);
    uint64_t *masks = malloc(n * 8 + !n);
    const int rc = plover_block_hashes(pool, base, pages, index, n, theirs);
    PROMISE(rc == (fits(index, n, pages) ? 0 : -ERANGE));
    if (rc == 0)
        for (size_t i = 0; i < n; i++) theirs[i * PLOVER_BLOCKS + take(in) % PLOVER_BLOCKS] ^= take(in);
    else
        memset(theirs, 0, n * PLOVER_BLOCKS * 2);
    PROMISE(plover_block_masks(pool, base, pages, index, n, theirs, masks) == rc);
    if (rc || take(in) & 1) /* masks of any content, as another host may send */
        for (size_t i = 0; i < n; i++) masks[i] = take(in) * 0x0101010101010101u * (take(in) & 3u);
    const int64_t count = plover_count_blocks(masks, n);
    PROMISE(count >= 0 && count <= (int64_t)(n * PLOVER_BLOCKS));
    const size_t blocks = (size_t)count + (take(in) > 250); /* the number must be theirs */
    uint8_t *data = calloc(blocks + !blocks, PLOVER_BLOCK), *out = malloc(n * PLOVER_PAGE + !n);
    const int wrong = rc || blocks != (size_t)count;
    PROMISE(!plover_gather_blocks(base, pages, index, n, masks, data, blocks) == !wrong);
    PROMISE(!plover_patch_pages(base, pages, index, n, masks, data, blocks, out) == !wrong);
    if (!wrong)
        for (size_t i = 0; i < n; i++) PROMISE(!memcmp(out + i * PLOVER_PAGE, base + (size_t)index[i] * PLOVER_PAGE, PLOVER_PAGE));
    free(base), free(index), free(theirs), free(masks), free(data), free(out);
}

/* A ring whose sender writes what it likes: frames of ours, then bytes of the input anywhere over them. */
static void fuzz_ring(input *in)
{
    const size_t bytes = 64u * (2 + take(in) % (RING / 64));
    uint8_t *ring = calloc(1, bytes);
    uint64_t head = bytes, position = bytes, tail = bytes, at;
    plover_range ranges[2], payload;
    for (int n = take(in) % 8; n > 0; n--) {
        const size_t length = take(in) * 2u;
        uint8_t *data = items(in, length % 32, 1), *whole = calloc(1, length + 1);
        memcpy(whole, data, length % 32 < length ? length % 32 : length);
        if (take(in) & 1)
            plover_ring_put_raw(ring, bytes, ID, tail, &head, length, &at, ranges);
        else
            plover_ring_put(ring, bytes, ID, tail, &head, whole, length, ranges);
        free(data), free(whole);
        if (take(in) & 1 && plover_ring_next(ring, bytes, ID, &position, &payload) > 0) tail = position;
    }
    for (int n = take(in) % 64; n > 0; n--) ring[(take(in) | (size_t)take(in) << 8) % bytes] = take(in);
    if (take(in) & 1) position = take(in) * 8u + bytes;
    for (int n = 0; n < 64; n++) {
        const uint64_t before = position;
        const int rc = plover_ring_next(ring, bytes, take(in) > 250 ? ID + 1 : ID, &position, &payload);
        if (rc <= 0) break;
        PROMISE(position > before && position - before <= bytes);
        PROMISE(payload.offset <= bytes && payload.length <= bytes - payload.offset);
        plover_cityhash64(ring + payload.offset, payload.length);
    }
    free(ring);
}

static void run(const uint8_t *data, size_t size)
{
    static void (*const ENTRIES[])(input *) = {fuzz_bitmaps, fuzz_hashes, fuzz_pages, fuzz_blocks, fuzz_ring, fuzz_agreement};
    uint8_t *copy = malloc(size + !size); /* of exactly this size */
    memcpy(copy, data, size);
    input in = {copy, size};
    ENTRIES[take(&in) % (sizeof ENTRIES / sizeof *ENTRIES)](&in);
    free(copy);
    executions++;
}

/* ---- the engine -------------------------------------------------------------------------------------------------- */
static uint32_t rnd(uint32_t below)
{
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return (uint32_t)(chance >> 32) % below;
}

static size_t changed(uint8_t *data, size_t size)
{
    for (uint32_t n = 1 + rnd(6); n > 0; n--) {
        const size_t at = size ? rnd((uint32_t)size) : 0;
        switch (rnd(6)) {
        case 0: if (size) data[at] ^= (uint8_t)(1 << rnd(8)); break;
        case 1: if (size) data[at] = (uint8_t)rnd(256); break;
        case 2: if (size) data[at] = (uint8_t[]){0, 1, 127, 128, 250, 255}[rnd(6)]; break;
        case 3: size = at; break;
        case 4: for (uint32_t more = 1 + rnd(16); more && size < INPUT_MAX; more--) data[size++] = (uint8_t)rnd(256); break;
        default:
            if (kept_n) {
                const size_t other = rnd((uint32_t)kept_n), length = kept[other].size < INPUT_MAX - at ? kept[other].size : INPUT_MAX - at;
                memcpy(data + at, kept[other].data, length);
                if (at + length > size) size = at + length;
            }
        }
    }
    return size;
}

static int reached_new(void)
{
    int out = 0;
    while (touched_n) {
        const uint16_t at = touched[--touched_n];
        map[at] = 0;
        if (!known[at]) known[at] = 1, out = 1;
    }
    return out;
}

static void keep(const uint8_t *data, size_t size, const char *found)
{
    if (kept_n == KEPT_MAX) return;
    kept[kept_n].data = malloc(size + !size), kept[kept_n].size = size;
    memcpy(kept[kept_n++].data, data, size);
    char path[4096];
    if (!found || snprintf(path, sizeof path, "%s/%016llx", found, (unsigned long long)plover_cityhash64(data, size)) >= (int)sizeof path) return;
    FILE *file = fopen(path, "wb");
    if (file) fwrite(data, 1, size, file), fclose(file);
}

static void look(const uint8_t *data, size_t size, const char *found)
{
    if (current) {
        const uint32_t length = (uint32_t)size;
        memcpy(current, &length, 4), memcpy(current + 4, data, size);
    }
    run(data, size);
    if (reached_new()) keep(data, size, found), taken_in += found != NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void map_current(const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, INPUT_MAX + 4)) exit(2);
    current = mmap(NULL, INPUT_MAX + 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (current == MAP_FAILED) exit(2);
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc < 5) return fprintf(stderr, "usage: fuzz_native SECONDS SEED CURRENT FOUND INPUT...\n"), 2;
    const double end = now() + atof(argv[1]);
    const char *found = strcmp(argv[4], "-") ? argv[4] : NULL;
    static uint8_t data[INPUT_MAX + 256];
    chance = strtoull(argv[2], NULL, 16) | 1;
    if (strcmp(argv[3], "-")) map_current(argv[3]);
    pool = plover_pool_new(1);
    for (int n = 5; n < argc; n++) {
        FILE *file = fopen(argv[n], "rb");
        if (!file) return perror(argv[n]), 2;
        look(data, fread(data, 1, INPUT_MAX, file), NULL);
        fclose(file);
    }
    const size_t before = kept_n;
    while (now() < end) {
        for (int n = 0; n < 64; n++) {
            size_t size = 0;
            if (kept_n) {
                const size_t parent = rnd((uint32_t)kept_n);
                size = kept[parent].size, memcpy(data, kept[parent].data, size);
            }
            size = changed(data, size);
            look(data, size < INPUT_MAX ? size : INPUT_MAX, found);
        }
    }
    printf("%zu executions, %zu in the corpus, %zu new\n", executions, kept_n, kept_n - before);
    plover_pool_free(pool);
    return 0;
}
