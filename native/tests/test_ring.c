/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tests of the rings, with memory in place of a card: frames are read in order and across the end; torn, stale or damaged
 * frames are not read. */
#include "plover_rdma.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed, passed;
#define CHECK(what) ((what) ? passed++ : (failed++, fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what)))

enum { BYTES = 4096, ID = 77 };
static uint8_t ours[BYTES], theirs[BYTES];

static void carry(const plover_range *ranges, int n)
{
    for (int i = 0; i < n; i++) memcpy(theirs + ranges[i].offset, ours + ranges[i].offset, ranges[i].length);
}

static void fresh(void)
{
    memset(ours, 0, BYTES), memset(theirs, 0, BYTES);
}

/* Frames of all lengths, with a reader that is sometimes late: each must arrive whole and in order. */
static void test_order(void)
{
    uint64_t head = BYTES, position = BYTES, sent = 0, got = 0;
    uint8_t data[BYTES];
    plover_range ranges[2], payload;
    fresh();
    for (unsigned round = 0; round < 20000; round++) {
        const size_t length = 8 + (unsigned)rand() % 700;
        memset(data, (int)sent, length), memcpy(data, &sent, 8);
        const int n = plover_ring_put(ours, BYTES, ID, position, &head, data, length, ranges);
        CHECK(n > 0 || n == -EAGAIN);
        if (n > 0) carry(ranges, n), sent++;
        while ((n == -EAGAIN || rand() % 3 == 0) && plover_ring_next(theirs, BYTES, ID, &position, &payload) == 1) {
            uint64_t number;
            memcpy(&number, theirs + payload.offset, 8);
            CHECK(number == got++);
            for (size_t i = 8; i < payload.length; i++)
                if (theirs[payload.offset + i] != (uint8_t)number) CHECK(!"payload");
        }
    }
    while (plover_ring_next(theirs, BYTES, ID, &position, &payload) == 1) got++;
    CHECK(sent == got && sent > 10000 && position == head);
}

/* A frame counts only when all its bytes are there, in whatever order they come. */
static void test_torn(void)
{
    uint64_t head = BYTES, position = BYTES;
    uint8_t data[300], order[512];
    plover_range ranges[2], payload;
    memset(data, 0xa5, sizeof data);
    for (int backwards = 0; backwards < 2; backwards++) {
        fresh(), head = position = BYTES;
        CHECK(plover_ring_put(ours, BYTES, ID, position, &head, data, sizeof data, ranges) == 1);
        memcpy(order, ours + ranges[0].offset, ranges[0].length);
        for (size_t i = 0; i < ranges[0].length; i++) {
            const size_t at = backwards ? ranges[0].length - 1 - i : i;
            if (order[at]) CHECK(plover_ring_next(theirs, BYTES, ID, &position, &payload) == 0);
            theirs[ranges[0].offset + at] = order[at];
        }
        CHECK(plover_ring_next(theirs, BYTES, ID, &position, &payload) == 1 && payload.length == sizeof data);
        CHECK(!memcmp(theirs + payload.offset, data, sizeof data) && position == head);
    }
}

/* A raw frame counts once its head is there, so the head is written last. The payload is where the caller wrote it. */
static void test_raw(void)
{
    uint64_t head = BYTES, position = BYTES, at = 0;
    uint8_t data[1500];
    plover_range ranges[2], payload;
    fresh();
    for (unsigned round = 0; round < 50; round++) {
        memset(data, (int)round + 1, sizeof data);
        const int n = round % 2 ? plover_ring_put(ours, BYTES, ID, position, &head, data, 100, ranges)
                                : plover_ring_put_raw(ours, BYTES, ID, position, &head, sizeof data, &at, ranges);
        CHECK(n > 0);
        if (round % 2 == 0) {
            memcpy(theirs + at, data, sizeof data);
            CHECK(plover_ring_next(theirs, BYTES, ID, &position, &payload) == 0);
        }
        carry(ranges, n);
        CHECK(plover_ring_next(theirs, BYTES, ID, &position, &payload) == (round % 2 ? 1 : 2));
        CHECK(payload.length == (round % 2 ? 100 : sizeof data) && position == head);
        CHECK(!memcmp(theirs + payload.offset, data, payload.length));
    }
    CHECK(plover_ring_put_raw(ours, BYTES, ID, position, &head, BYTES / 2, &at, ranges) == -EMSGSIZE);
}

static void test_not_a_frame(void)
{
    uint64_t head = BYTES, position = BYTES, later;
    plover_range ranges[2], payload;
    fresh();
    CHECK(plover_ring_next(theirs, BYTES, ID, &position, &payload) == 0);
    carry(ranges, plover_ring_put(ours, BYTES, ID, position, &head, "entry", 5, ranges));
    CHECK(plover_ring_next(theirs, BYTES, ID + 1, &position, &payload) == 0); /* of an earlier ring */
    later = position + BYTES;
    CHECK(plover_ring_next(theirs, BYTES, ID, &later, &payload) == 0); /* of an earlier round */
    for (size_t bit = 0; bit < 8 * 40; bit++) {
        theirs[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(plover_ring_next(theirs, BYTES, ID, &position, &payload) == 0);
        theirs[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    memset(theirs + 16, 0xff, 8); /* a length far beyond the ring */
    CHECK(plover_ring_next(theirs, BYTES, ID, &position, &payload) == 0 && position == BYTES);
}

static void test_bounds(void)
{
    uint64_t head = BYTES, odd = BYTES + 8;
    static uint8_t data[BYTES];
    plover_range ranges[2];
    uint32_t stop = 0;
    CHECK(plover_ring_put(ours, BYTES, ID, BYTES, &head, data, BYTES / 2, ranges) == -EMSGSIZE);
    CHECK(plover_ring_put(ours, BYTES, ID, BYTES, &odd, data, 8, ranges) == -EINVAL);
    CHECK(plover_ring_put(ours, BYTES, ID, BYTES + 64, &head, data, 8, ranges) == -EINVAL); /* tail after head */
    CHECK(plover_ring_put(ours, 100, ID, BYTES, &head, data, 8, ranges) == -EINVAL);
    for (int n = 0; n < BYTES / 64; n++) CHECK(plover_ring_put(ours, BYTES, ID, BYTES, &head, data, 8, ranges) == 1);
    CHECK(plover_ring_put(ours, BYTES, ID, BYTES, &head, data, 8, ranges) == -EAGAIN && head == 2 * BYTES);
    CHECK(plover_ring_put(ours, BYTES, ID, BYTES + 64, &head, data, 8, ranges) == 1);
    fresh();
    CHECK(plover_ring_wait(theirs, BYTES, ID, BYTES, 1000, 100000, 2000000, &stop) == 0);
    head = BYTES;
    carry(ranges, plover_ring_put(ours, BYTES, ID, BYTES, &head, data, 8, ranges));
    CHECK(plover_ring_wait(theirs, BYTES, ID, BYTES, 1000, 100000, 2000000, &stop) == 1);
    stop = 1;
    CHECK(plover_ring_wait(theirs, BYTES, ID, BYTES + 64, 1000, 100000, 1000000000, &stop) == 0);
}

int main(void)
{
    CHECK(plover_rdma_abi_version() == PLOVER_RDMA_ABI);
    test_order();
    test_torn();
    test_raw();
    test_not_a_frame();
    test_bounds();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
