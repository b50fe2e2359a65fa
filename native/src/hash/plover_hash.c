/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plover-hash [--threads N] FILE: prints the CityHash64 of each 4096-byte page, 16 hex digits per line. */
#include "plover_native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 65536 };
static const char USAGE[] = "usage: plover-hash [--threads N] FILE\n"
    "Prints the CityHash64 of each 4096-byte page of FILE, 16 hex digits per line.\n"
    "  --threads N   1 to 1024 (default: one per core)\n";

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "plover-hash: %s: %s\n", what, why);
    return 2;
}

static int print_hashes(const uint8_t *data, size_t pages, unsigned threads)
{
    static uint32_t index[BATCH];
    static uint64_t hashes[BATCH];
    plover_pool *pool = plover_pool_new(threads);
    if (!pool) return fail("--threads", "cannot start the threads");
    for (size_t i = 0; i < BATCH; i++) index[i] = (uint32_t)i;
    for (size_t at = 0; at < pages; at += BATCH) {
        size_t n = pages - at < BATCH ? pages - at : BATCH;
        plover_hash_pages(pool, data + at * PLOVER_PAGE, n, index, n, hashes, NULL);
        for (size_t i = 0; i < n; i++) printf("%016llx\n", (unsigned long long)hashes[i]);
        if (ferror(stdout)) break;
    }
    plover_pool_free(pool);
    if (fflush(stdout) || ferror(stdout)) return fail("standard output", strerror(errno));
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long threads = 0;
    int at = 1;
    if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) return fputs(USAGE, stdout) < 0;
    if (argc >= 3 && !strcmp(argv[1], "--threads")) {
        char *end;
        threads = strtoul(argv[2], &end, 10);
        if (*end || threads < 1 || threads > 1024) return fail("--threads", "must be a number from 1 to 1024");
        at = 3;
    }
    if (argc != at + 1 || argv[at][0] == '-') return fputs(USAGE, stderr), 2;
    int fd = open(argv[at], O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) return fail(argv[at], strerror(errno));
    if (!S_ISREG(st.st_mode)) return fail(argv[at], "is not a regular file");
    if (st.st_size % PLOVER_PAGE) return fail(argv[at], "its size is not a multiple of 4096 bytes");
    if (!st.st_size) return 0;
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return fail(argv[at], strerror(errno));
    return print_hashes(data, (size_t)st.st_size / PLOVER_PAGE, (unsigned)threads);
}
